// The ranks of one communicator: threads or processes that meet in a POSIX shared-memory object
// named by the unique id.
#pragma once
#include <atomic>
#include <cstddef>
#include <string>
#include <vector>

namespace hg {

constexpr int kMostRanks = 32;
constexpr std::size_t kChunk = 256 * 1024;

// One collective as every rank announces it before it takes part.
struct Announcement {
  int kind = 0;
  int type = 0;
  int op = 0;
  int root = 0;
  std::size_t count = 0;

  bool operator==(const Announcement&) const = default;
};

struct SharedGroup {
  std::atomic<int> size;  // 0 until the first rank has come
  std::atomic<int> joined;
  std::atomic<int> arrived;     // of the meeting under way
  std::atomic<int> generation;  // of meetings held
  std::atomic<int> broken;      // 1 + r: rank r died; -1 - r: it aborted
  std::atomic<int> pid[kMostRanks];
  std::atomic<int> device[kMostRanks];
  std::atomic<std::size_t> host[kMostRanks];  // a hash of NCCL_HOSTID, by which ranks may pretend
  Announcement announcement[kMostRanks];
  alignas(64) char slot[kMostRanks][kChunk];
};

// One rank's place in the group. Every wait ends when a peer dies, any rank aborts or this one
// gives up.
class GroupMember {
 public:
  static bool create(const std::string& name);  // false: the system refused
  GroupMember(int size, int rank, int device) : size_(size), rank_(rank), device_(device) {}
  GroupMember(const GroupMember&) = delete;
  GroupMember& operator=(const GroupMember&) = delete;
  ~GroupMember();

  enum class Join { good, no_group, misuse, broken };
  // Returns when all ranks are there; the name is gone afterwards.
  Join join(const std::string& name);
  bool meet();     // false: the group is broken
  void give_up();  // and break the group
  bool has_given_up() const { return given_up_; }

  int size() const { return size_; }
  int rank() const { return rank_; }
  int device() const { return device_; }
  SharedGroup& shared() const { return *shared_.load(); }
  std::string reason() const;  // why the group broke, or what was misused

 private:
  template <class Done>
  bool wait(Done done);
  int dead_peer();
  void mark_broken(int reason);

  const int size_, rank_, device_;
  std::atomic<SharedGroup*> shared_{nullptr};
  std::vector<int> process_;  // of each rank a pidfd, -1: of this process
  std::atomic<bool> given_up_{false};
  std::string misuse_;
};

}  // namespace hg
