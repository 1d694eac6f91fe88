// Ranks and the collectives between them. Calls are blocking, in place, in the same order on every
// rank. Sums are taken in a fixed order: repeatable for the same world size. Any count (64-bit).
// A lost peer is Error(Exit::lost) naming rank and host where known.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/status.h"
#include "device/work_clock.h"
#include "tensor/tensor.h"

namespace cohort {

enum class Reduce : u8 { sum, max, min };

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual void all_reduce(View data, Reduce op) = 0;                       // f32, f64, i64
  virtual void broadcast(void* data, i64 bytes, int root) = 0;
  // Bytes of every rank, in rank order (sizes may differ).
  virtual std::vector<std::string> all_gather(const std::string& mine) = 0;
  virtual void barrier() = 0;
  // Between two ranks, which both call it: each gets the other's bytes. Not for one rank alone.
  virtual void exchange(const void* mine, void* theirs, i64 bytes, int peer) = 0;
  // A channel of its own, for another thread: collective.
  virtual std::unique_ptr<Communicator> duplicate() = 0;
  // Ends every rank of the job with this exit code.
  [[noreturn]] virtual void abort(int exit_code) = 0;
};

std::unique_ptr<Communicator> make_solo();
// Runs body(communicator) on `ranks` threads; rethrows the first rank's error after all have ended
// (a failing rank wakes the others with Error(Exit::lost)).
void run_as_threads(int ranks, const std::function<void(Communicator&)>& body);

// How ranks watch each other: comm/watchdog.h. Seconds.
struct WatchConfig {
  // A step not done in this time ends the job, ten times that for starts and other long phases
  // (comm/blame.h); 0: never.
  double step_timeout = 600;
  double blame_every = 0;       // window over which a slow rank or link is looked for; 0: never
  double beat_every = 1;
  // Instead of a message and Exit::lost (`told`: by rank 0), and of a warning: for tests.
  std::function<void(const std::string& text, bool told)> end;
  std::function<void(const std::string& text)> say;
};

// The job this process belongs to: MPI under a launcher, solo otherwise. Owns MPI_Init/Finalize.
class World {
 public:
  virtual ~World() = default;
  virtual Communicator& communicator() = 0;
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
  virtual std::string kind() const = 0;        // "solo", "Open MPI 4.1.4"
  // How a rank that cannot go on ends. Where all ranks come here within seconds, each returns rank
  // 0's code, and a rank's message is written unless it is rank 0's. Where some do not, they may
  // wait for this rank: it writes its message and ends them all with its code.
  virtual int give_up(int exit_code, const std::string& message) = 0;
  // What this rank does, for the others to know.
  Status& status() { return status_; }
  // Ranks are watched from the beginning; from here on like this, the same on every rank.
  virtual void watch(const WatchConfig&) {}
 private:
  Status status_;
};
std::unique_ptr<World> join_world(int* argc, char*** argv);
// Why a world of so many ranks is not the one that the Slurm job, or COHORT_WORLD_SIZE, asks for: half
// of the nodes would idle, or ranks share cores, and nothing else would tell. Empty: nothing is wrong.
std::string wrong_world_size(i64 size);
// Exit::usage, on every rank, where any finds it wrong; one process without a launcher is told so by a
// warning. Rank 0 asks `job_tasks` where the variables tell nothing wrong: fewer ranks than that are wrong,
// too; more may be meant by a job that asked for nodes. Collective.
void check_world_size(World& world, const std::function<i64()>& job_tasks);
// This process's rank by the launcher's variables alone, before MPI starts; 0 without a launcher.
i64 launched_rank();

// Every rank passes the same list of (name, value); the first field that differs is an
// Error(Exit::usage) on every rank naming rank, host, field and both values; of values of many
// lines, the first line that differs.
struct Fact { std::string name, value; };
void agree(Communicator& world, const std::vector<Fact>& facts);

// Runs `work` on rank 0 alone. Every rank gets its answer, or the Error that it threw. Collective.
std::string on_rank_0(Communicator& ranks, const std::function<std::string()>& work);

// Sums over ranks of a device's memory while the device computes on, in place, in the order
// submitted, which is the same on every rank.
class Reducer {
 public:
  virtual ~Reducer() = default;
  virtual void submit(const View& range) = 0;   // begins when what the device was given so far is done
  virtual void wait() = 0;                      // what the device is given from here on sees all sums
  virtual void poll() = 0;                      // Error(Exit::lost) where a rank or link is lost
  virtual double waited_seconds() const = 0;    // of the host, in wait()
  // What the device is given between the two is timed by `clock` in its memory, but for where it
  // waits for sums; `first`: from 0. Not on host devices, where the host's own time says it.
  virtual void work_begins(WorkClock* /*clock*/, bool /*first*/) {}
  virtual void work_ends() {}
};

// For host devices: one thread that runs collectives in the order submitted, on a communicator of
// its own.
class CollectiveQueue final : public Reducer {
 public:
  explicit CollectiveQueue(std::unique_ptr<Communicator> channel);
  ~CollectiveQueue() override;
  i64 submit(std::function<void(Communicator&)> work);   // -> ticket
  void wait(i64 ticket);                                 // rethrows what it or an earlier one threw
  void submit(const View& range) override;
  void wait() override;
  void poll() override {}
  double waited_seconds() const override { return waited_; }
 private:
  struct State;
  std::unique_ptr<State> state_;
  double waited_ = 0;
};

}  // namespace cohort
