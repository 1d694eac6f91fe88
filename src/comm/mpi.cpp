#include "comm/mpi.h"

#include <mpi.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "comm/watched.h"
#include "comm/watchdog.h"

namespace cohort {
namespace {

constexpr i64 kChunk = i64{1} << 28;  // elements or bytes of one MPI call
constexpr std::chrono::seconds kTogether{5};  // between the ranks that meet the same error

void check(int code, const char* what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "unknown";
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) length = 0;
  fail(Exit::lost, "{} failed on host {}: {}: see the logs of the other ranks", what, host_name(),
       std::string(text, static_cast<std::size_t>(length)));
}

MPI_Datatype type_of(DType type) {
  switch (type) {
    case DType::f32: return MPI_FLOAT;
    case DType::f64: return MPI_DOUBLE;
    case DType::i64: return MPI_INT64_T;
    default: fail(Exit::usage, "all_reduce of {} is not supported", name_of(type));
  }
}

MPI_Op op_of(Reduce op) {
  return op == Reduce::sum ? MPI_SUM : op == Reduce::max ? MPI_MAX : MPI_MIN;
}

class MpiRank final : public Communicator {
 public:
  explicit MpiRank(MPI_Comm comm) : comm_(comm) {
    check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  }
  ~MpiRank() override {
    int finalized = 0;
    if (MPI_Finalized(&finalized) == MPI_SUCCESS && !finalized) {
      static_cast<void>(MPI_Comm_free(&comm_));  // a destructor has nobody to tell
    }
  }
  MpiRank(const MpiRank&) = delete;
  MpiRank& operator=(const MpiRank&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_reduce(View data, Reduce op) override {
    const MPI_Datatype type = type_of(data.dtype);
    u8* at = data.as<u8>();
    const i64 n = data.count();
    for (i64 begin = 0; begin < n; begin += kChunk) {
      const i64 part = std::min(kChunk, n - begin);
      check(MPI_Allreduce(MPI_IN_PLACE, at + begin * size_of(data.dtype), static_cast<int>(part),
                          type, op_of(op), comm_),
            "MPI_Allreduce");
    }
  }

  void broadcast(void* data, i64 bytes, int root) override {
    for (i64 begin = 0; begin < bytes; begin += kChunk) {
      const i64 part = std::min(kChunk, bytes - begin);
      check(MPI_Bcast(static_cast<u8*>(data) + begin, static_cast<int>(part), MPI_BYTE, root,
                      comm_),
            "MPI_Bcast");
    }
  }

  // One broadcast per rank where the total would overflow MPI's 32-bit displacements.
  std::vector<std::string> all_gather(const std::string& mine) override {
    const std::size_t ranks = static_cast<std::size_t>(size_);
    i64 size = static_cast<i64>(mine.size()), total = 0;
    std::vector<i64> sizes(ranks);
    check(MPI_Allgather(&size, 1, MPI_INT64_T, sizes.data(), 1, MPI_INT64_T, comm_),
          "MPI_Allgather");
    std::vector<std::string> all(ranks);
    for (i64 s : sizes) total += s;
    if (total > kChunk) {
      for (std::size_t r = 0; r < ranks; ++r) {
        all[r] = static_cast<int>(r) == rank_
                     ? mine : std::string(static_cast<std::size_t>(sizes[r]), '\0');
        broadcast(all[r].data(), sizes[r], static_cast<int>(r));
      }
      return all;
    }
    std::vector<int> counts(ranks), starts(ranks);
    for (std::size_t r = 0, at = 0; r < ranks; ++r) {
      counts[r] = static_cast<int>(sizes[r]);
      starts[r] = static_cast<int>(at);
      at += static_cast<std::size_t>(sizes[r]);
    }
    std::string joined(static_cast<std::size_t>(total), '\0');
    check(MPI_Allgatherv(mine.data(), static_cast<int>(size), MPI_BYTE, joined.data(),
                         counts.data(), starts.data(), MPI_BYTE, comm_),
          "MPI_Allgatherv");
    for (std::size_t r = 0; r < ranks; ++r) {
      all[r] = joined.substr(static_cast<std::size_t>(starts[r]),
                             static_cast<std::size_t>(counts[r]));
    }
    return all;
  }

  void barrier() override { check(MPI_Barrier(comm_), "MPI_Barrier"); }

  void exchange(const void* mine, void* theirs, i64 bytes, int peer) override {
    for (i64 begin = 0; begin == 0 || begin < bytes; begin += kChunk) {
      const int part = static_cast<int>(std::min(kChunk, bytes - begin));
      check(MPI_Sendrecv(static_cast<const u8*>(mine) + begin, part, MPI_BYTE, peer, 0,
                         static_cast<u8*>(theirs) + begin, part, MPI_BYTE, peer, 0, comm_,
                         MPI_STATUS_IGNORE),
            "MPI_Sendrecv");
    }
  }

  std::unique_ptr<Communicator> duplicate() override {
    MPI_Comm copy = MPI_COMM_NULL;
    check(MPI_Comm_dup(comm_, &copy), "MPI_Comm_dup");
    return std::make_unique<MpiRank>(copy);
  }

  [[noreturn]] void abort(int exit_code) override {
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
  }

 private:
  MPI_Comm comm_;
  int rank_ = 0, size_ = 1;
};

std::string library_name() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  check(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
  std::string name(text, static_cast<std::size_t>(length));
  return name.substr(0, name.find_first_of(",\n"));
}

class MpiWorld final : public World {
 public:
  MpiWorld(int* argc, char*** argv) {
    int provided = 0;
    check(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
    if (provided < MPI_THREAD_MULTIPLE) {
      fail(Exit::lost, "this MPI gives thread level {}, MPI_THREAD_MULTIPLE ({}) is needed: use an "
           "MPI built with threads", provided, MPI_THREAD_MULTIPLE);
    }
    MPI_Comm copy = MPI_COMM_NULL, node = MPI_COMM_NULL;
    check(MPI_Comm_dup(MPI_COMM_WORLD, &copy), "MPI_Comm_dup");
    communicator_ = watch_waits(std::make_unique<MpiRank>(copy), status());
    check(MPI_Comm_dup(copy, &errors_), "MPI_Comm_dup");
    check(MPI_Comm_split_type(copy, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node),
          "MPI_Comm_split_type");
    MpiRank local(node);
    local_rank_ = local.rank();
    local_size_ = local.size();
    kind_ = library_name();
    watchdog_ = std::make_unique<Watchdog>(*communicator_, status());
  }
  ~MpiWorld() override {
    watchdog_.reset();  // says goodbye
    communicator_.reset();
    static_cast<void>(MPI_Comm_free(&errors_));
    static_cast<void>(MPI_Finalize());
  }
  Communicator& communicator() override { return *communicator_; }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }
  std::string kind() const override { return kind_; }
  void watch(const WatchConfig& config) override { watchdog_->watch(config); }

  int give_up(int exit_code, const std::string& message) override {
    const int rank = communicator_->rank();
    if (rank == 0) log::error("{}", message);
    const Verdict mine{static_cast<u64>(exit_code), hash_text(message)};
    const bool together = gather_verdicts(mine);
    if (rank != 0 && (!together || mine != verdicts_[0])) log::error("{}", message);
    log::flush();
    if (!together) {
      watchdog_->announce_abort(exit_code);
      communicator_->abort(exit_code);
    }
    return static_cast<int>(verdicts_[0][0]);
  }

 private:
  using Verdict = std::array<u64, 2>;  // exit code, hash of the message

  // False where some rank does not give up too. On a channel of its own: the others may be in the
  // middle of any collective.
  bool gather_verdicts(const Verdict& mine) {
    verdicts_.resize(static_cast<std::size_t>(communicator_->size()));
    verdicts_[static_cast<std::size_t>(communicator_->rank())] = mine;
    MPI_Request request = MPI_REQUEST_NULL;
    if (MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, verdicts_.data(), 2, MPI_UINT64_T,
                       errors_, &request) != MPI_SUCCESS) {
      return false;
    }
    const auto deadline = std::chrono::steady_clock::now() + kTogether;
    for (int done = 0; std::chrono::steady_clock::now() < deadline;) {
      if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return false;
      if (done) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }

  std::unique_ptr<Communicator> communicator_;
  MPI_Comm errors_ = MPI_COMM_NULL;
  std::vector<Verdict> verdicts_;  // by rank; outlives a request that never completes
  std::unique_ptr<Watchdog> watchdog_;
  int local_rank_ = 0, local_size_ = 1;
  std::string kind_;
};

}  // namespace

std::unique_ptr<World> join_mpi(int* argc, char*** argv) {
  return std::make_unique<MpiWorld>(argc, argv);
}

}  // namespace cohort
