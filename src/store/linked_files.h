// Files with symbolic links and locks, which a serving repository needs beside.
#pragma once
#include <memory>
#include <string>

#include "store/file_lock.h"
#include "store/files.h"

namespace cohort {

class LinkedFiles : public Files {
 public:
  // A symbolic link at `path`, which must not exist; rename() puts it over another one in one step.
  virtual void make_link(const std::string& target, const std::string& path) = 0;
  // The target as it was given; empty where nothing is at `path`. Exit::storage where it is no link.
  virtual std::string read_link(const std::string& path) = 0;
  // Held until it is destroyed; waits for other processes. Null where there are none (tests).
  virtual std::unique_ptr<FileLock> lock(const std::string& path) = 0;
};

// The real file system. Lives as long as the process.
LinkedFiles& real_linked_files();

}  // namespace cohort
