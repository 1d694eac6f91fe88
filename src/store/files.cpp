#include "store/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/error.h"
#include "base/log.h"
#include "store/linked_files.h"

namespace cohort {
namespace {

[[noreturn]] void failed(const std::string& path, const std::string& operation) {
  const int code = errno;
  fail(Exit::storage, "{}: {} failed: {} (errno {})", path, operation,
       std::generic_category().message(code), code);
}

int open_checked(const std::string& path, int flags, const char* operation) {
  int handle = -1;
  do {
    handle = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  } while (handle < 0 && errno == EINTR);
  if (handle < 0) failed(path, operation);
  return handle;
}

class Handle {
 public:
  Handle(std::string path, int flags, const char* operation)
      : path_(std::move(path)), handle_(open_checked(path_, flags, operation)) {}
  ~Handle() {
    if (handle_ >= 0) static_cast<void>(::close(handle_));
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  int get() const { return handle_; }
  const std::string& path() const { return path_; }
  void sync() {
    if (::fsync(handle_) != 0) failed(path_, "fsync");
  }
  void close() {
    const int handle = handle_;
    handle_ = -1;
    if (::close(handle) != 0) failed(path_, "close");
  }

 private:
  std::string path_;
  int handle_;
};

// Bytes that are handed to the disk at once: it works while the next ones are made, and the sync at
// the end has little left to do.
constexpr i64 kHanded = i64{8} << 20;

class RealWriter : public FileWriter {
 public:
  RealWriter(const std::string& path, int flags, const char* operation)
      : handle_(path, flags, operation) {}
  void write(const void* data, i64 bytes) override {
    const char* at = static_cast<const char*>(data);
    i64 left = bytes;
    while (left > 0) {
      const ssize_t n = ::write(handle_.get(), at, static_cast<std::size_t>(left));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        failed(handle_.path(), fmt::format("write of {} bytes ({} left)", bytes, left));
      }
      at += n;
      left -= n;
      hand_over(n);
    }
  }
  void sync() override { handle_.sync(); }
  void close() override { handle_.close(); }

 private:
  // A hint: where it is refused, sync() does it all, and that one is checked.
  void hand_over(i64 written) {
    written_ += written;
    if (written_ - handed_ < kHanded) return;
    const int saved = errno;
    static_cast<void>(::sync_file_range(handle_.get(), handed_, written_ - handed_,
                                        SYNC_FILE_RANGE_WRITE));
    errno = saved;
    handed_ = written_;
  }

  Handle handle_;
  i64 written_ = 0, handed_ = 0;   // bytes of this writer; an offset where the file was new
};

struct stat stat_of(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) failed(path, "stat");
  return info;
}

class RealFiles : public LinkedFiles {
 public:
  std::unique_ptr<FileWriter> create(const std::string& path) override {
    return std::make_unique<RealWriter>(path, O_WRONLY | O_CREAT | O_TRUNC, "create");
  }
  std::unique_ptr<FileWriter> append(const std::string& path) override {
    return std::make_unique<RealWriter>(path, O_WRONLY | O_CREAT | O_APPEND, "open for append");
  }
  std::string read(const std::string& path) override {
    std::string text;
    std::error_code code;
    const auto bytes = std::filesystem::file_size(path, code);
    if (!code) text.reserve(bytes);   // grown by halves a large file would need twice the memory
    read_pieces(path, [&](std::string_view piece) { text += piece; });
    return text;
  }
  void rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) failed(from, "rename to " + to);
  }
  void sync_folder(const std::string& path) override {
    Handle handle(path.empty() ? "." : path, O_RDONLY | O_DIRECTORY, "open folder");
    handle.sync();
    handle.close();
  }
  void make_folder(const std::string& path) override {
    std::error_code code;
    std::filesystem::create_directories(path, code);
    if (code || !std::filesystem::is_directory(path, code)) {
      fail(Exit::storage, "{}: make folder failed: {}", path,
           code ? code.message() : "a file of that name exists");
    }
  }
  bool make_folder_exclusive(const std::string& path) override {
    if (::mkdir(path.c_str(), 0755) == 0) return true;
    if (errno == EEXIST) return false;
    failed(path, "make folder");
  }
  void remove(const std::string& path) override {
    std::error_code code;
    std::filesystem::remove_all(path, code);
    if (code) fail(Exit::storage, "{}: remove failed: {}", path, code.message());
  }
  bool exists(const std::string& path) override {
    struct stat info {};
    if (::stat(path.c_str(), &info) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    failed(path, "stat");
  }
  i64 size(const std::string& path) override { return stat_of(path).st_size; }
  std::vector<std::string> list(const std::string& path) override {
    std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), &::closedir);
    if (!folder) failed(path, "list folder");
    std::vector<std::string> names;
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(folder.get());
      if (entry == nullptr) break;
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    if (errno != 0) failed(path, "list folder");
    std::sort(names.begin(), names.end());
    return names;
  }
  i64 free_bytes(const std::string& path) override {
    struct statvfs info {};
    if (::statvfs(path.c_str(), &info) != 0) return -1;
    return static_cast<i64>(info.f_bavail) * static_cast<i64>(info.f_frsize);
  }
  void make_link(const std::string& target, const std::string& path) override {
    if (::symlink(target.c_str(), path.c_str()) != 0) failed(path, "symlink to " + target);
  }
  std::string read_link(const std::string& path) override {
    std::string target(4096, '\0');
    const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
    if (length < 0 && errno == ENOENT) return "";
    if (length < 0) failed(path, "read symbolic link");
    target.resize(static_cast<std::size_t>(length));
    return target;
  }
  std::unique_ptr<FileLock> lock(const std::string& path) override {
    auto lock = std::make_unique<FileLock>(path);
    if (lock->try_take()) return lock;
    log::info("{}: held by another process; waiting for it", path);
    lock->take();
    return lock;
  }
};

}  // namespace

i64 Files::free_bytes(const std::string&) { return -1; }

LinkedFiles& real_linked_files() {
  static RealFiles files;
  return files;
}

Files& real_files() { return real_linked_files(); }

void read_pieces(const std::string& path, const std::function<void(std::string_view)>& use) {
  Handle handle(path, O_RDONLY, "open");
  struct stat info {};
  if (::fstat(handle.get(), &info) != 0) failed(path, "stat");
  if (S_ISDIR(info.st_mode)) fail(Exit::storage, "{}: is a folder, expected a file", path);
  std::vector<char> buffer(1 << 18);
  std::size_t filled = 0;
  for (;;) {
    const ssize_t n = ::read(handle.get(), buffer.data() + filled, buffer.size() - filled);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) failed(path, "read");
    filled += static_cast<std::size_t>(n);
    if (n > 0 && filled < 4096) continue;
    if (filled > 0) use({buffer.data(), filled});
    if (n == 0) return;
    filled = 0;
  }
}

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

void write_atomically(Files& files, const std::string& path, const std::string& text) {
  const std::string temporary = path + ".tmp";
  auto writer = files.create(temporary);
  writer->write(text.data(), static_cast<i64>(text.size()));
  writer->sync();
  writer->close();
  files.rename(temporary, path);
  files.sync_folder(std::filesystem::path(path).parent_path().string());
}

}  // namespace cohort
