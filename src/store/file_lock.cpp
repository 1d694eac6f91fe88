#include "store/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/error.h"

namespace cohort {
namespace {

[[noreturn]] void refuse(const std::string& what, int error) {
  fail(Exit::storage, "{}: {}", what, std::generic_category().message(error));
}

}  // namespace

FileLock::FileLock(const std::string& path) {
  fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) refuse(path, errno);
}

FileLock::~FileLock() {
  if (fd_ >= 0) close(fd_);
}

bool FileLock::try_take() {
  if (flock(fd_, LOCK_EX | LOCK_NB) == 0) return true;
  if (errno != EWOULDBLOCK && errno != EINTR) refuse("flock", errno);
  return false;
}

void FileLock::take() {
  while (flock(fd_, LOCK_EX) != 0)
    if (errno != EINTR) refuse("flock", errno);
}

}  // namespace cohort
