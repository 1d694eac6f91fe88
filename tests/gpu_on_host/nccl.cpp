// The part of NCCL that the product uses. Collectives are operations of their stream and wait there
// for the other ranks; a peer that dies or aborts turns up as an asynchronous ncclRemoteError.
#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "nccl_collectives.h"

namespace {

// Outlives the handle while operations or graphs still refer to it.
struct Communicator {
  Communicator(int size, int rank, int device, bool blocking)
      : member(size, rank, device), blocking(blocking) {}

  hg::GroupMember member;
  const bool blocking;
  std::atomic<int> error{ncclSuccess};
  std::atomic<int> busy_polls{0};  // not blocking: how often "in progress" is still answered
  std::atomic<bool> joining{true};
  std::atomic<bool> closed{false};
  std::atomic<long> issued{0}, completed{0};
  std::mutex mutex;
  std::string message;
  std::thread join_thread;

  void fail(ncclResult_t result, const std::string& why) {
    const std::lock_guard lock(mutex);
    message = why;
    error = result;
  }
  // Not blocking: every call is answered before it is done.
  ncclResult_t started() {
    if (blocking) return ncclSuccess;
    busy_polls = 2;
    return ncclInProgress;
  }
  ncclResult_t state() {
    if (joining) return ncclInProgress;
    if (error == ncclSuccess && busy_polls > 0) {
      --busy_polls;
      return ncclInProgress;
    }
    return ncclResult_t(int(error));
  }
};

using CommunicatorPtr = std::shared_ptr<Communicator>;

std::string& last_message() {
  thread_local std::string message;
  return message;
}

ncclResult_t refuse(ncclResult_t result, const std::string& why) {
  last_message() = why;
  return result;
}

struct Group {
  int depth = 0;
  std::vector<std::function<ncclResult_t()>> calls;
};

Group& group() {
  thread_local Group calls;
  return calls;
}

}  // namespace

struct ncclComm {
  CommunicatorPtr c;
};

namespace {

void join(const CommunicatorPtr& c, const std::string& name) {
  using Join = hg::GroupMember::Join;
  switch (c->member.join(name)) {
    case Join::good:
      break;
    case Join::no_group:
      c->fail(ncclSystemError, "no group of the id " + name);
      break;
    case Join::misuse:
      c->member.give_up();
      c->fail(ncclInvalidUsage, c->member.reason());
      break;
    case Join::broken:
      c->fail(ncclRemoteError, c->member.reason());
      break;
  }
  c->joining = false;
}

ncclResult_t check_config(const ncclConfig_t& config) {
  const ncclConfig_t known = NCCL_CONFIG_INITIALIZER;
  if (config.size != known.size || config.magic != known.magic || config.version != known.version) {
    return refuse(ncclInvalidArgument, "a configuration without NCCL_CONFIG_INITIALIZER");
  }
  auto within = [](int value, int least, int most) {
    return value == NCCL_CONFIG_UNDEF_INT || (value >= least && value <= most);
  };
  if (!within(config.blocking, 0, 1) || !within(config.cgaClusterSize, 0, 8) ||
      !within(config.minCTAs, 1, 64) || !within(config.maxCTAs, 1, 64)) {
    return refuse(ncclInvalidArgument, "a value of the configuration is out of range");
  }
  for (int unknown : {config.splitShare, config.trafficClass, config.collnetEnable,
                      config.CTAPolicy, config.shrinkShare, config.nvlsCTAs,
                      config.nChannelsPerNetPeer, config.nvlinkCentricSched}) {
    if (unknown != NCCL_CONFIG_UNDEF_INT) {
      return refuse(ncclInvalidArgument, "a setting that the stand-in does not know");
    }
  }
  return ncclSuccess;
}

std::size_t in_bytes(const Communicator& c, const hg::CollectiveCall& call, std::size_t width) {
  const bool scatter = call.kind == hg::Collective::reduce_scatter;
  return call.count * width * std::size_t(scatter ? c.member.size() : 1);
}

std::size_t out_bytes(const Communicator& c, const hg::CollectiveCall& call, std::size_t width) {
  const bool gather = call.kind == hg::Collective::all_gather;
  return call.count * width * std::size_t(gather ? c.member.size() : 1);
}

// In place means: where the rank's own share lies in the larger buffer.
ncclResult_t check_buffers(const Communicator& c, const hg::CollectiveCall& call) {
  hg::Number type = hg::Number::f32;
  if (!hg::number_of(call.type, &type)) {
    return refuse(ncclInvalidArgument, "type " + std::to_string(call.type));
  }
  const std::size_t width = hg::bytes_of(type);
  const std::size_t in = in_bytes(c, call, width), out = out_bytes(c, call, width);
  const bool reads = call.kind != hg::Collective::broadcast || c.member.rank() == call.root;
  if ((reads && (!call.in || !hg::device_range(call.in, in) || !hg::aligned(call.in, width))) ||
      !call.out || !hg::device_range(call.out, out) || !hg::aligned(call.out, width)) {
    return refuse(ncclInvalidArgument, std::string(hg::name_of(call.kind)) +
                                           ": a buffer is not on a device, too short or askew");
  }
  const std::size_t share = call.count * width * std::size_t(c.member.rank());
  const char* const from = static_cast<const char*>(call.in);
  const char* const to = static_cast<const char*>(call.out);
  const bool gather = call.kind == hg::Collective::all_gather;
  const bool scatter = call.kind == hg::Collective::reduce_scatter;
  const bool in_place = from + (scatter ? share : 0) == to + (gather ? share : 0);
  if (reads && !in_place && hg::overlap(from, in, to, out)) {
    return refuse(ncclInvalidArgument, "buffers overlap, but not as in place");
  }
  return ncclSuccess;
}

void run(const CommunicatorPtr& c, const hg::CollectiveCall& call) {
  if (c->closed) hg::die("%s of a destroyed communicator is replayed", hg::name_of(call.kind));
  if (c->error == ncclSuccess && !hg::run_collective(c->member, call)) {
    c->fail(ncclRemoteError, c->member.reason());
  }
}

ncclResult_t enqueue(const CommunicatorPtr& c, const hg::CollectiveCall& call,
                     cudaStream_t stream) {
  const bool captured = hg::is_capturing(stream);
  if (!captured) ++c->issued;
  const cudaError_t error = hg::enqueue(stream, hg::name_of(call.kind), [c, call, captured] {
    if (!c->member.has_given_up()) run(c, call);
    if (!captured) ++c->completed;
  });
  if (!error) return ncclSuccess;
  if (!captured) --c->issued;
  return refuse(ncclUnhandledCudaError, "the stream does not take the operation");
}

ncclResult_t collective(ncclComm_t comm, const hg::CollectiveCall& call, cudaStream_t stream) {
  if (!comm) return refuse(ncclInvalidArgument, "no communicator");
  const CommunicatorPtr c = comm->c;
  if (const ncclResult_t state = c->state()) {
    if (state != ncclInProgress) return refuse(state, c->message);
    return refuse(ncclInvalidArgument, "the communicator's last call is still in progress");
  }
  if (call.op != ncclSum && call.op != ncclAvg && call.op != ncclMax && call.op != ncclMin) {
    return refuse(ncclInvalidArgument, "reduction " + std::to_string(call.op));
  }
  if (call.root < 0 || call.root >= c->member.size()) {
    return refuse(ncclInvalidArgument, "root " + std::to_string(call.root));
  }
  if (hg::device_of(stream) != c->member.device()) {
    return refuse(ncclInvalidArgument, "the stream is of another device than the communicator");
  }
  if (const ncclResult_t status = check_buffers(*c, call)) return status;
  if (call.count == 0) return ncclSuccess;
  if (group().depth > 0) {
    group().calls.push_back([=] {
      const ncclResult_t status = enqueue(c, call, stream);
      return status ? status : c->started();
    });
    return ncclSuccess;
  }
  const ncclResult_t status = enqueue(c, call, stream);
  return status ? status : c->started();
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  static const char* const names[] = {"no error",
                                      "unhandled cuda error",
                                      "unhandled system error",
                                      "internal error",
                                      "invalid argument",
                                      "invalid usage",
                                      "remote process exited or there was a network error",
                                      "NCCL operation in progress"};
  return result >= 0 && result < ncclNumResults ? names[result] : "unknown result code";
}

const char* ncclGetLastError(ncclComm_t comm) {
  if (comm && last_message().empty()) {
    const std::lock_guard lock(comm->c->mutex);
    last_message() = comm->c->message;
  }
  return last_message().c_str();
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> made{0};
  std::memset(id, 0, sizeof *id);
  std::snprintf(id->internal, sizeof id->internal, "/gpu-on-host-%d-%d", getpid(), made++);
  const bool created = hg::GroupMember::create(id->internal);
  return created ? ncclSuccess : refuse(ncclSystemError, "no shared memory for the id");
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (!comm || size < 1 || rank < 0 || rank >= size || size > hg::kMostRanks) {
    return refuse(ncclInvalidArgument,
                  "rank " + std::to_string(rank) + " of " + std::to_string(size));
  }
  if (group().depth > 0) return refuse(ncclInvalidUsage, "communicators are not made in groups");
  if (config) {
    if (const ncclResult_t status = check_config(*config)) return status;
  }
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return ncclUnhandledCudaError;
  const bool blocking = !config || config->blocking != 0;
  const auto c = std::make_shared<Communicator>(size, rank, device, blocking);
  const std::string name(id.internal, strnlen(id.internal, sizeof id.internal));
  hg::progress_thread();
  if (blocking) {
    join(c, name);
    if (c->error != ncclSuccess) return refuse(ncclResult_t(int(c->error)), c->message);
  } else {
    c->join_thread = std::thread([c, name] { join(c, name); });
  }
  *comm = new ncclComm{c};
  hg::count("NCCL communicator", 1);
  return blocking ? ncclSuccess : ncclInProgress;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
  return ncclCommInitRankConfig(comm, size, id, rank, nullptr);
}

// All issued work has run: the progress thread sees to it, also where nobody waits.
ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (!comm || comm->c->joining) return refuse(ncclInvalidArgument, "no communicator yet");
  Communicator& c = *comm->c;
  while (c.completed != c.issued && c.error == ncclSuccess) usleep(200);
  if (c.error != ncclSuccess) return refuse(ncclResult_t(int(c.error)), c.message);
  return c.started();
}

static void close_communicator(ncclComm_t comm) {
  if (comm->c->join_thread.joinable()) comm->c->join_thread.join();
  comm->c->closed = true;
  hg::count("NCCL communicator", -1);
  delete comm;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (!comm) return ncclSuccess;
  Communicator& c = *comm->c;
  if (c.joining) return refuse(ncclInvalidArgument, "destroyed while it is being made");
  while (c.completed != c.issued && c.error == ncclSuccess) usleep(200);
  if (c.error != ncclSuccess) c.member.give_up();
  close_communicator(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (!comm) return ncclSuccess;
  comm->c->member.give_up();
  if (comm->c->join_thread.joinable()) comm->c->join_thread.join();
  comm->c->member.give_up();  // again: the group may have come just now
  close_communicator(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  if (!comm || !error) return refuse(ncclInvalidArgument, "no communicator");
  *error = comm->c->state();
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  *count = comm->c->member.size();
  return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device) {
  *device = comm->c->member.device();
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  *rank = comm->c->member.rank();
  return ncclSuccess;
}

ncclResult_t ncclCommRegister(const ncclComm_t comm, void* buffer, size_t bytes, void** handle) {
  if (!comm || !handle || !bytes || !hg::device_range(buffer, bytes)) {
    return refuse(ncclInvalidArgument, "ncclCommRegister: not device memory");
  }
  *handle = new std::pair<void*, std::size_t>(buffer, bytes);
  hg::count("NCCL registration", 1);
  return ncclSuccess;
}

ncclResult_t ncclCommDeregister(const ncclComm_t comm, void* handle) {
  if (!comm || !handle) return refuse(ncclInvalidArgument, "ncclCommDeregister: no handle");
  hg::count("NCCL registration", -1);
  delete static_cast<std::pair<void*, std::size_t>*>(handle);
  return ncclSuccess;
}

ncclResult_t ncclMemAlloc(void** pointer, size_t bytes) {
  return cudaMalloc(pointer, bytes) ? ncclUnhandledCudaError : ncclSuccess;
}

ncclResult_t ncclMemFree(void* pointer) {
  return cudaFree(pointer) ? ncclUnhandledCudaError : ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group().depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  Group& calls = group();
  if (calls.depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  if (--calls.depth > 0) return ncclSuccess;
  const auto todo = std::move(calls.calls);
  calls.calls.clear();
  ncclResult_t result = ncclSuccess;
  for (const auto& call : todo) {
    const ncclResult_t status = call();
    if (result == ncclSuccess || result == ncclInProgress) result = status;
  }
  return result;
}

ncclResult_t ncclAllReduce(const void* in, void* out, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return collective(comm, {hg::Collective::all_reduce, in, out, count, type, op}, stream);
}

ncclResult_t ncclBroadcast(const void* in, void* out, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return collective(comm, {hg::Collective::broadcast, in, out, count, type, ncclSum, root}, stream);
}

ncclResult_t ncclAllGather(const void* in, void* out, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return collective(comm, {hg::Collective::all_gather, in, out, count, type}, stream);
}

ncclResult_t ncclReduceScatter(const void* in, void* out, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return collective(comm, {hg::Collective::reduce_scatter, in, out, count, type, op}, stream);
}
}
