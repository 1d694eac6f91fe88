#include "comm/nccl.h"

#include <nccl.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <thread>

#include "base/env.h"
#include "base/error.h"
#include "base/text.h"
#include "device/cuda/cuda_device.h"
#include "device/cuda/kernels_reduce.h"
#include "device/cuda/memory.h"

namespace cohort {
namespace {

using namespace cuda;

constexpr i64 staging_elements = i64{8} << 20;   // of f32 ranges that travel as bf16
constexpr double end_seconds = 10;               // for the others to end, too

ncclDataType_t type_of(DType type) {
  switch (type) {
    case DType::f32: return ncclFloat32;
    case DType::f64: return ncclFloat64;
    case DType::bf16: return ncclBfloat16;
    case DType::i64: return ncclInt64;
    default: fail(Exit::usage, "NCCL: sums of {} are not supported", name_of(type));
  }
}

// NCCL refuses two ranks on one GPU of one host. Told that they are on different hosts, it goes
// over sockets. For tests of correctness: slow.
void pretend_hosts(int rank) {
  const std::string host = "h" + std::to_string(rank);
  const std::array<std::pair<const char*, const char*>, 5> settings = {
      {{"NCCL_HOSTID", host.c_str()},
       {"NCCL_SOCKET_IFNAME", "lo"},
       {"NCCL_IB_DISABLE", "1"},
       {"NCCL_SHM_DISABLE", "1"},
       {"NCCL_P2P_DISABLE", "1"}}};
  for (const auto& [name, value] : settings) ::setenv(name, value, 1);
}

// The id that rank 0 draws. It travels as text.
ncclUniqueId common_id(Communicator& ranks) {
  const std::string text = on_rank_0(ranks, [] {
    ncclUniqueId id{};
    const ncclResult_t result = ncclGetUniqueId(&id);
    if (result != ncclSuccess)
      fail(Exit::lost, "ncclGetUniqueId: {} ({}): set NCCL_DEBUG=INFO to see why",
           ncclGetErrorString(result), ncclGetLastError(nullptr));
    return std::string(id.internal, sizeof id.internal);
  });
  ncclUniqueId id{};
  COHORT_CHECK(text.size() == sizeof id.internal, "size of NCCL's unique id");
  std::memcpy(id.internal, text.data(), text.size());
  return id;
}

// Which range was summed last, told by the GPU to the host: for the message if the job is lost.
class Progress {
 public:
  Progress() : last_(make_pinned(sizeof(i32))) { *word() = -1; }
  void passed(const View& range, cudaStream_t stream) {
    std::size_t k = 0;
    while (k < ranges_.size() && ranges_[k].data != range.data) ++k;
    if (k == ranges_.size()) ranges_.push_back(range);
    mark(stream, word(), static_cast<i32>(k));
  }
  std::string text() const {
    const volatile i32* last = word();
    const i32 done = *last;
    if (done < 0) return "no bucket was summed";
    const std::size_t next = static_cast<std::size_t>(done + 1) % ranges_.size();
    return fmt::format("the last bucket summed was {} of {}; next came {} {}", done + 1,
                       ranges_.size(), name_of(ranges_[next].dtype), to_string(ranges_[next].shape));
  }

 private:
  i32* word() const { return static_cast<i32*>(last_.get()); }
  PinnedMemory last_;
  std::vector<View> ranges_;   // as first submitted
};

class NcclReducer final : public Reducer {
 public:
  NcclReducer(Device& device, Communicator& ranks, const ReducerOptions& options)
      : compute_(context_of(device).stream), bf16_(options.bf16), seconds_(options.seconds),
        name_(fmt::format("rank {} of {} (host {})", ranks.rank(), ranks.size(), host_name())),
        given_(make_event()), summed_(make_event()) {
    make_communication_stream();
    try {
      connect(ranks, options.share);
    } catch (...) {
      abort();
      throw;
    }
    for (const View& memory : options.memory) register_memory(memory);
    if (bf16_) staging_ = device.allocate(staging_elements * size_of(DType::bf16));
  }
  // Recordings of sums are gone by now: NCCL waits for them even when it aborts.
  ~NcclReducer() override {
    if (failed_ || std::uncaught_exceptions() > 0) {
      abort();   // this rank fails: the others must know
    } else {
      leave();
    }
  }
  NcclReducer(const NcclReducer&) = delete;
  NcclReducer& operator=(const NcclReducer&) = delete;

  void submit(const View& range) override {
    if (range.count() == 0) return;
    const cudaStream_t stream = stream_.get();
    cuda::check(cudaEventRecord(given_.get(), compute_), "cudaEventRecord");
    cuda::check(cudaStreamWaitEvent(stream, given_.get(), 0), "cudaStreamWaitEvent");
    if (bf16_ && range.dtype == DType::f32) {
      sum_as_bf16(range);
    } else {
      sum(range.data, range.count(), type_of(range.dtype));
    }
    progress_.passed(range, stream);
    pending_ = true;
  }
  void wait() override {
    if (!pending_) return;
    if (clock_) stop_clock(compute_, clock_);
    cuda::check(cudaEventRecord(summed_.get(), stream_.get()), "cudaEventRecord");
    cuda::check(cudaStreamWaitEvent(compute_, summed_.get(), 0), "cudaStreamWaitEvent");
    if (clock_) start_clock(compute_, clock_, false);
    pending_ = false;
  }
  void work_begins(WorkClock* clock, bool first) override {
    clock_ = clock;
    start_clock(compute_, clock_, first);
  }
  void work_ends() override {
    stop_clock(compute_, clock_);
    clock_ = nullptr;
  }
  void poll() override {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
    if (asked != ncclSuccess) state = asked;
    if (state != ncclSuccess && state != ncclInProgress) give_up(state, "ncclAllReduce");
  }
  double waited_seconds() const override { return 0; }   // the GPU waits, the host does not

 private:
  void make_communication_stream() {
    int least = 0, greatest = 0;
    cuda::check(cudaDeviceGetStreamPriorityRange(&least, &greatest),
                "cudaDeviceGetStreamPriorityRange");
    cudaStream_t stream = nullptr;
    cuda::check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest),
                "cudaStreamCreateWithPriority");
    stream_ = Stream(stream);
  }
  void connect(Communicator& ranks, bool share) {
    if (share) pretend_hosts(ranks.rank());
    const ncclUniqueId id = common_id(ranks);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    check(ncclCommInitRankConfig(&comm_, ranks.size(), id, ranks.rank(), &config),
          "ncclCommInitRankConfig");
  }
  void leave() {
    static_cast<void>(cudaStreamSynchronize(stream_.get()));
    seconds_ = end_seconds;
    try {
      for (void* handle : registered_) check(ncclCommDeregister(comm_, handle), "ncclCommDeregister");
      check(ncclCommFinalize(comm_), "ncclCommFinalize");
      static_cast<void>(ncclCommDestroy(comm_));
    } catch (const std::exception&) {
      abort();   // the sums are done: whoever is gone by now is missed by nobody
    }
  }
  void register_memory(const View& memory) {
    void* handle = nullptr;
    const auto bytes = static_cast<std::size_t>(memory.bytes());
    if (ncclCommRegister(comm_, memory.data, bytes, &handle) == ncclSuccess && handle)
      registered_.push_back(handle);   // only faster where it works
  }
  void sum(void* data, i64 count, ncclDataType_t type) {
    check(ncclAllReduce(data, data, static_cast<std::size_t>(count), type, ncclSum, comm_,
                        stream_.get()), "ncclAllReduce");
  }
  void sum_as_bf16(const View& range) {
    for (i64 at = 0; at < range.count(); at += staging_elements) {
      const i64 count = std::min(staging_elements, range.count() - at);
      to_bf16(stream_.get(), range.as<float>() + at, staging_, count);
      sum(staging_, count, ncclBfloat16);
      from_bf16(stream_.get(), staging_, range.as<float>() + at, count);
    }
  }
  // The communicator does not block: a call is done when it is no longer in progress.
  void check(ncclResult_t result, const char* call) {
    const double begin = seconds_now();
    for (i64 tries = 0; result == ncclInProgress; ++tries) {
      if (seconds_now() - begin > seconds_) {
        failed_ = true;
        fail(Exit::lost, "NCCL, {}: {} was not done after {} s; {}: see whether every rank runs, and "
             "set NCCL_DEBUG=INFO", name_, call, seconds_, progress_.text());
      }
      if (tries > 1000) std::this_thread::sleep_for(std::chrono::microseconds(200));
      const ncclResult_t asked = ncclCommGetAsyncError(comm_, &result);
      if (asked != ncclSuccess) result = asked;
    }
    if (result != ncclSuccess) give_up(result, call);
  }
  [[noreturn]] void give_up(ncclResult_t result, const char* call) {
    const std::string why = ncclGetLastError(comm_);
    failed_ = true;
    fail(Exit::lost, "NCCL, {}: {}: {} ({}); {}: see the logs of the other ranks, and start the job "
         "again with --resume", name_, call, ncclGetErrorString(result), why, progress_.text());
  }
  // Aborting may itself wait for what never comes: not longer than end_seconds.
  void abort() {
    if (!comm_) return;
    const auto done = std::make_shared<std::atomic<bool>>(false);
    std::thread([done, comm = comm_] {
      static_cast<void>(ncclCommAbort(comm));
      *done = true;
    }).detach();
    const double begin = seconds_now();
    while (!*done && seconds_now() - begin < end_seconds)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    comm_ = nullptr;
  }

  cudaStream_t compute_;
  bool bf16_, pending_ = false, failed_ = false;
  double seconds_;
  std::string name_;
  Progress progress_;
  Event given_, summed_;
  Stream stream_;
  ncclComm_t comm_ = nullptr;
  std::vector<void*> registered_;
  void* staging_ = nullptr;   // of the device
  WorkClock* clock_ = nullptr;
};

// World size 1: every sum is what is there.
class NoReducer final : public Reducer {
 public:
  void submit(const View&) override {}
  void wait() override {}
  void poll() override {}
  double waited_seconds() const override { return 0; }
};

}  // namespace

std::unique_ptr<Reducer> make_nccl_reducer(Device& device, Communicator& ranks,
                                           const ReducerOptions& options) {
  if (ranks.size() == 1) return std::make_unique<NoReducer>();
  return std::make_unique<NcclReducer>(device, ranks, options);
}

std::string nccl_version() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) return "unknown";
  return fmt::format("{}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
}

}  // namespace cohort
