// A lock on a file between processes of all hosts that share it (flock).
#pragma once
#include <string>

namespace cohort {

// Ends with the last process that holds its descriptor, or inherited it. Errors: Exit::storage.
class FileLock {
 public:
  explicit FileLock(const std::string& path);   // makes the file; not taken yet
  ~FileLock();
  FileLock(FileLock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  FileLock& operator=(FileLock&&) = delete;
  bool try_take();
  void take();                                  // waits
  int descriptor() const { return fd_; }

 private:
  int fd_ = -1;
};

}  // namespace cohort
