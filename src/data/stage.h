// Copies of shard sets on a host's local disk, made once and used by every job that asks for the
// same set. Layout of the folder: `cohort-<fingerprint>/`, a verified copy; `cohort-<fingerprint>.lock`,
// held shared while a process reads the copy and exclusively while one makes or removes it.
#pragma once
#include <memory>
#include <string>

#include "comm/communicator.h"

namespace cohort {

// Keeps a copy from being removed; released at the end of the process at the latest.
class StageLock {
 public:
  explicit StageLock(int fd) : fd_(fd) {}
  ~StageLock();
  StageLock(const StageLock&) = delete;
  StageLock& operator=(const StageLock&) = delete;

 private:
  int fd_;
};

struct Staged {
  std::string path;                  // of the copy; the original's where it could not be made
  std::shared_ptr<StageLock> lock;   // hold while the copy is read; null for the original
  bool copied = false;               // by this call
};

// The copy of the shard set `path` in `folder`, made now where there is none: every file verified by
// the manifest's checksums as it is copied. `most_bytes` bounds all copies (0: the disk does): those
// that nobody uses go, least recently used first; files of others are never touched. Where it does not
// fit or the disk fails: a warning, and the original. Error(Exit::data) where the original is damaged.
// Safe between processes; not collective: one rank of a host calls it first.
// `status`: of this rank, which is told each file.
Staged stage_shards(const std::string& path, const std::string& folder, i64 most_bytes,
                    Status* status = nullptr);

// The same for all ranks: the first of each host copies, the others wait and use what it has. A
// damaged original is an error on every rank. Collective.
Staged stage_on_hosts(World& world, const std::string& path, const std::string& folder,
                      i64 most_bytes);

}  // namespace cohort
