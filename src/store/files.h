// All file effects of checkpoints, manifests and run folders, behind one interface, so that faults
// can be injected. Errors are Error(Exit::storage) with path, operation, sizes and the errno text.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace cohort {

class FileWriter {
 public:
  virtual ~FileWriter() = default;
  virtual void write(const void* data, i64 bytes) = 0;  // appends, all of it
  virtual void sync() = 0;                              // fsync
  virtual void close() = 0;                             // once; an unclosed writer is abandoned
};

class Files {
 public:
  virtual ~Files() = default;
  virtual std::unique_ptr<FileWriter> create(const std::string& path) = 0;  // truncates
  virtual std::unique_ptr<FileWriter> append(const std::string& path) = 0;
  virtual std::string read(const std::string& path) = 0;
  virtual void rename(const std::string& from, const std::string& to) = 0;
  virtual void sync_folder(const std::string& path) = 0;
  virtual void make_folder(const std::string& path) = 0;            // with parents; exists is fine
  virtual bool make_folder_exclusive(const std::string& path) = 0;  // false where it exists
  virtual void remove(const std::string& path) = 0;                 // file or whole folder
  virtual bool exists(const std::string& path) = 0;
  virtual i64 size(const std::string& path) = 0;
  virtual std::vector<std::string> list(const std::string& path) = 0;  // names, sorted
  // Bytes that may still be written where `path` lies; -1: not known.
  virtual i64 free_bytes(const std::string& path);
};

// The real file system. Lives as long as the process.
Files& real_files();

// Reads a file of the real file system from begin to end, a piece at a time; at least the first 4
// KiB (or the whole file) come together.
void read_pieces(const std::string& path, const std::function<void(std::string_view)>& use);

// The folder that a path lies in; "." where it names none.
std::string parent_of(const std::string& path);

// Writes text to path + ".tmp", syncs, renames, syncs the folder.
void write_atomically(Files& files, const std::string& path, const std::string& text);

}  // namespace cohort
