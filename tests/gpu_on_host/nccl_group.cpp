#include "nccl_group.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <mutex>

namespace hg {
namespace {

// Names that nobody joined, or not all, are gone with the process that made them.
struct Names {
  std::mutex mutex;
  std::vector<std::string> made;

  ~Names() {
    for (const std::string& name : made) shm_unlink(name.c_str());
  }
};

Names& names() {
  static Names all;
  return all;
}

}  // namespace

bool GroupMember::create(const std::string& name) {
  const int file = shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600);
  if (file < 0) return false;
  const bool sized = ftruncate(file, sizeof(SharedGroup)) == 0;  // zero: no rank has come yet
  close(file);
  const std::lock_guard lock(names().mutex);
  names().made.push_back(name);
  return sized;
}

GroupMember::~GroupMember() {
  for (int process : process_) {
    if (process >= 0) close(process);
  }
  if (shared_) munmap(shared_.load(), sizeof(SharedGroup));
}

// kill(pid, 0) succeeds on a zombie; a pidfd turns readable as soon as the process has ended.
int GroupMember::dead_peer() {
  for (int r = 0; r < size_; ++r) {
    int& process = process_[std::size_t(r)];
    const int pid = shared().pid[r];
    if (pid == 0 || pid == getpid()) continue;
    if (process < 0) process = int(syscall(SYS_pidfd_open, pid, 0));
    pollfd poll_for{process, POLLIN, 0};
    if (process < 0 || poll(&poll_for, 1, 0) == 1) return r;
  }
  return -1;
}

template <class Done>
bool GroupMember::wait(Done done) {
  for (long turns = 0; !done(); ++turns) {
    if (given_up_ || shared().broken) return false;
    if (turns < 100) {
      sched_yield();
      continue;
    }
    usleep(50);
    if (turns % 64 != 0) continue;
    const int dead = dead_peer();
    if (dead < 0 || done()) continue;  // one that left behind the last meeting is not missed
    mark_broken(1 + dead);
  }
  return true;
}

GroupMember::Join GroupMember::join(const std::string& name) {
  const int file = shm_open(name.c_str(), O_RDWR, 0600);
  if (file < 0) return Join::no_group;
  void* const at = mmap(nullptr, sizeof(SharedGroup), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (at == MAP_FAILED) return Join::no_group;
  shared_ = static_cast<SharedGroup*>(at);
  process_.assign(std::size_t(size_), -1);
  int nobody = 0;
  if (!shared().size.compare_exchange_strong(nobody, size_) && nobody != size_) {
    misuse_ = "ranks of groups of " + std::to_string(nobody) + " and " + std::to_string(size_);
    return Join::misuse;
  }
  int free = 0;
  if (!shared().pid[rank_].compare_exchange_strong(free, getpid())) {
    misuse_ = "rank " + std::to_string(rank_) + " twice";
    return Join::misuse;
  }
  shared().device[rank_] = device_;
  const char* const host = std::getenv("NCCL_HOSTID");
  shared().host[rank_] = std::hash<std::string>()(host ? host : "");
  ++shared().joined;
  if (!wait([this] { return shared().joined == size_; })) return Join::broken;
  if (!meet()) return Join::broken;
  if (rank_ == 0) shm_unlink(name.c_str());
  for (int r = 0; r < size_; ++r) {
    const bool same = shared().device[r] == device_ && shared().host[r] == shared().host[rank_];
    if (r == rank_ || !same) continue;
    misuse_ = "duplicate GPU: ranks " + std::to_string(r) + " and " + std::to_string(rank_) +
              " both use device " + std::to_string(device_);
    return Join::misuse;
  }
  return Join::good;
}

bool GroupMember::meet() {
  if (given_up_ || shared().broken) return false;
  const int generation = shared().generation;
  if (shared().arrived.fetch_add(1) + 1 == size_) {
    shared().arrived = 0;
    shared().generation = generation + 1;
    return true;
  }
  return wait([=, this] { return shared().generation != generation; });
}

// The first reason stays.
void GroupMember::mark_broken(int reason) {
  int whole = 0;
  shared().broken.compare_exchange_strong(whole, reason);
}

void GroupMember::give_up() {
  given_up_ = true;
  if (shared_.load()) mark_broken(-1 - rank_);
}

std::string GroupMember::reason() const {
  if (!misuse_.empty()) return misuse_;
  const int broken = shared().broken;
  if (broken == 0) return "";
  const int rank = broken > 0 ? broken - 1 : -1 - broken;
  return "rank " + std::to_string(rank) + " (process " + std::to_string(int(shared().pid[rank])) +
         (broken > 0 ? ") has died" : ") has aborted");
}

}  // namespace hg
