#include "device/cuda/cuda_device.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/text.h"
#include "device/cuda/gpus.h"
#include "device/cuda/memory.h"

namespace cohort::cuda {
namespace {

constexpr i64 bounce_bytes = 8 << 20;
constexpr i64 least_workspace = i64{64} << 20, most_workspace = i64{512} << 20;
constexpr int slot_count = 3;   // one filled, one computed with, one whose results are read

Precision precision_from(const std::string& name) {
  if (name == "f32") return Precision::f32;
  if (name == "tf32") return Precision::tf32;
  if (name == "bf16") return Precision::bf16;
  if (name == "f16") return Precision::f16;
  fail(Exit::usage, "precision \"{}\": expected f32, tf32, bf16 or f16", name);
}

Launches launches_of(cudaGraph_t graph) {
  std::size_t count = 0;
  check(cudaGraphGetNodes(graph, nullptr, &count), "cudaGraphGetNodes");
  std::vector<cudaGraphNode_t> nodes(count);
  check(cudaGraphGetNodes(graph, nodes.data(), &count), "cudaGraphGetNodes");
  Launches launches;
  for (cudaGraphNode_t node : nodes) {
    cudaGraphNodeType type{};
    check(cudaGraphNodeGetType(node, &type), "cudaGraphNodeGetType");
    i64& kind = type == cudaGraphNodeTypeKernel   ? launches.kernels
                : type == cudaGraphNodeTypeMemcpy ? launches.copies
                : type == cudaGraphNodeTypeMemset ? launches.zeros
                                                  : launches.others;
    ++kind;
  }
  return launches;
}

// A recorded step: one launch.
class GraphKernel final : public Kernel {
 public:
  GraphKernel(cudaStream_t stream, GraphExec graph, const Launches& launches)
      : stream_(stream), graph_(std::move(graph)), launches_(launches) {}
  void run() override { check(cudaGraphLaunch(graph_.get(), stream_), "cudaGraphLaunch"); }
  Launches launches() const override { return launches_; }

 private:
  cudaStream_t stream_;
  GraphExec graph_;
  Launches launches_;
};

struct SlotState {
  PinnedMemory host, results;
  Event sent, closed;
  bool in_use = false;
};

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(const CudaOptions& options) : options_(options) {
    int devices = 0;
    const cudaError_t found = cudaGetDeviceCount(&devices);
    if (found != cudaSuccess || devices == 0)
      fail(Exit::usage, "no GPU: {}; check nvidia-smi and CUDA_VISIBLE_DEVICES, or set "
           "device.kind: cpu", found == cudaSuccess ? "the driver shows none"
                                                     : cudaGetErrorString(found));
    if (options.index >= devices)
      fail(Exit::usage, "GPU {}: this process sees {}; start fewer ranks on this host", options.index,
           devices);
    context_.precision = precision_from(options.precision);
    check(cudaSetDevice(options.index), "cudaSetDevice");
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, options.index), "cudaGetDeviceProperties");
    name_ = properties.name;
    context_.processors = properties.multiProcessorCount;
    context_.workspace_bytes =
        std::clamp(static_cast<i64>(properties.totalGlobalMem) / 256, least_workspace, most_workspace);
    compute_ = make_stream();
    copies_ = make_stream();
    bounce_ = make_pinned(bounce_bytes);
    context_.device = this;
    context_.stream = compute_.get();
    make_handles();
  }
  ~CudaDevice() override {
    static_cast<void>(cudaStreamSynchronize(compute_.get()));
    context_.dnn_plans.clear();   // before what they were made with
  }

  Context& context() { return context_; }
  std::string describe() const override {
    return fmt::format("cuda {}, {}, cuDNN {}, {}", name_, options_.precision, cudnnGetVersion(),
                       options_.graph ? "recorded steps" : "eager steps");
  }
  DType real() const override { return DType::f32; }
  DType activation() const override {
    if (context_.precision == Precision::bf16) return DType::bf16;
    return context_.precision == Precision::f16 ? DType::f16 : DType::f32;
  }

  void* allocate(i64 bytes) override {
    void* data = nullptr;
    const auto size = static_cast<std::size_t>(std::max<i64>(bytes, 1));
    const cudaError_t result = cudaMalloc(&data, size);
    if (result == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      std::size_t free = 0, total = 0;
      check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
      fail(Exit::usage, "GPU {} ({}): the plan does not fit: {} more are needed after {}, {} of {} are "
           "free; lower train.global_batch or raise train.accumulate, or use more GPUs",
           options_.index, name_, human_bytes(bytes), human_bytes(allocated_),
           human_bytes(static_cast<i64>(free)), human_bytes(static_cast<i64>(total)));
    }
    check(result, "cudaMalloc");
    memory_.emplace_back(data);
    allocated_ += bytes;
    check(cudaMemsetAsync(data, 0, size, compute_.get()), "cudaMemsetAsync");
    return data;
  }

  void copy_in(void* to, const void* host, i64 bytes) override {
    for (i64 at = 0; at < bytes; at += bounce_bytes) {
      const auto part = static_cast<std::size_t>(std::min(bounce_bytes, bytes - at));
      finish();   // of the part before, too
      std::memcpy(bounce_.get(), static_cast<const char*>(host) + at, part);
      check(cudaMemcpyAsync(static_cast<char*>(to) + at, bounce_.get(), part,
                            cudaMemcpyHostToDevice, compute_.get()), "cudaMemcpyAsync");
    }
    finish();
  }
  void copy_out(void* host, const void* from, i64 bytes) override {
    for (i64 at = 0; at < bytes; at += bounce_bytes) {
      const auto part = static_cast<std::size_t>(std::min(bounce_bytes, bytes - at));
      check(cudaMemcpyAsync(bounce_.get(), static_cast<const char*>(from) + at, part,
                            cudaMemcpyDeviceToHost, compute_.get()), "cudaMemcpyAsync");
      finish();
      std::memcpy(static_cast<char*>(host) + at, bounce_.get(), part);
    }
  }
  void copy(void* to, const void* from, i64 bytes) override {
    if (bytes <= 0) return;
    check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice,
                          compute_.get()), "cudaMemcpyAsync");
  }
  void zero(void* data, i64 bytes) override {
    if (bytes <= 0) return;
    check(cudaMemsetAsync(data, 0, static_cast<std::size_t>(bytes), compute_.get()),
          "cudaMemsetAsync");
  }

  std::vector<Slot> make_slots(i64 bytes, i64 result_bytes) override {
    std::vector<Slot> slots;
    for (int k = 0; k < slot_count; ++k) {
      SlotState state{make_pinned(bytes), make_pinned(result_bytes), make_event(), make_event()};
      std::memset(state.host.get(), 0, static_cast<std::size_t>(bytes));
      Slot slot;
      slot.host = static_cast<char*>(state.host.get());
      slot.device = static_cast<char*>(allocate(bytes));
      slot.results = static_cast<char*>(state.results.get());
      slot.bytes = bytes;
      slot.index = k;
      slot.handle = slots_.size();
      slots_.push_back(std::move(state));
      slots.push_back(slot);
    }
    finish();   // the zeroing of new memory comes before copies on the other stream
    return slots;
  }
  void send(const Slot& slot) override {
    SlotState& state = slots_[slot.handle];
    check(cudaMemcpyAsync(slot.device, slot.host, static_cast<std::size_t>(slot.bytes),
                          cudaMemcpyHostToDevice, copies_.get()), "cudaMemcpyAsync");
    check(cudaEventRecord(state.sent.get(), copies_.get()), "cudaEventRecord");
    check(cudaStreamWaitEvent(compute_.get(), state.sent.get(), 0), "cudaStreamWaitEvent");
  }
  void close(const Slot& slot, const void* from, i64 bytes) override {
    SlotState& state = slots_[slot.handle];
    if (bytes > 0)
      check(cudaMemcpyAsync(slot.results, from, static_cast<std::size_t>(bytes),
                            cudaMemcpyDeviceToHost, compute_.get()), "cudaMemcpyAsync");
    check(cudaEventRecord(state.closed.get(), compute_.get()), "cudaEventRecord");
    state.in_use = true;
  }
  void wait(const Slot& slot, const std::function<void()>& meanwhile) override {
    SlotState& state = slots_[slot.handle];
    if (!state.in_use) return;
    for (i64 tries = 1;; ++tries) {
      const cudaError_t done = cudaEventQuery(state.closed.get());
      if (done == cudaSuccess) break;
      if (done != cudaErrorNotReady) check(done, "a kernel or copy of the step");
      if (tries % 256 == 0) meanwhile();
      if (tries > 4096) std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    state.in_use = false;
  }

  bool records() const override { return options_.graph; }
  std::unique_ptr<Kernel> record(const std::function<void()>& work) override {
    check(cudaStreamBeginCapture(compute_.get(), cudaStreamCaptureModeThreadLocal),
          "cudaStreamBeginCapture");
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      static_cast<void>(cudaStreamEndCapture(compute_.get(), &graph));
      if (graph) static_cast<void>(cudaGraphDestroy(graph));
      throw;
    }
    check(cudaStreamEndCapture(compute_.get(), &graph), "cudaStreamEndCapture");
    const CapturedGraph captured(graph);
    Launches launches = launches_of(graph);
    const i64 before = free_memory(*this);
    cudaGraphExec_t exec = nullptr;
    check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
    GraphExec owned(exec);
    check(cudaGraphUpload(exec, compute_.get()), "cudaGraphUpload");
    launches.bytes = std::max<i64>(0, before - free_memory(*this));
    return std::make_unique<GraphKernel>(compute_.get(), std::move(owned), launches);
  }
  // A sixteenth, an eighth, ... of the capacity: five recordings at most for each table.
  i64 rows_treated(i64 active, i64 capacity) const override {
    i64 rows = capacity;
    for (int k = 0; k < 4 && (rows + 1) / 2 >= active; ++k) rows = (rows + 1) / 2;
    return rows;
  }

  Needs needs(const Call& call) const override {
    return std::visit([&](const auto& op) { return cuda::needs(context_, call, op); },
                      call.node->op);
  }
  std::unique_ptr<Kernel> compile(const Call& call) override {
    return std::visit(
        [&](const auto& op) {
          return call.pass == Pass::forward ? forward(context_, call, op)
                                            : backward(context_, call, op);
        },
        call.node->op);
  }
  std::unique_ptr<Kernel> compile(const DenseUpdate& update) override {
    return dense_update(context_, update);
  }
  std::unique_ptr<Kernel> compile(const RowUpdate& update) override {
    return row_update(context_, update);
  }
  std::unique_ptr<Kernel> compile(const NormCall& call) override {
    return squared_norm(context_, call);
  }
  std::unique_ptr<Kernel> compile(const DecideCall& call) override {
    return decision(context_, call);
  }

 private:
  void make_handles() {
    cublasLtHandle_t blas = nullptr;
    check(cublasLtCreate(&blas), "cublasLtCreate");
    blas_ = BlasHandle(blas);
    // cuDNN's recurrent layers would take buffers of two sizes from cuBLAS, as they come free, and
    // kernels by them: with one size, results repeat.
    setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:2", 0);
    cudnnHandle_t dnn = nullptr;
    check(cudnnCreate(&dnn), "cudnnCreate");
    dnn_ = DnnHandle(dnn);
    check(cudnnSetStream(dnn, compute_.get()), "cudnnSetStream");
    context_.blas = blas;
    context_.dnn = dnn;
    context_.workspace = allocate(context_.workspace_bytes);
  }
  void finish() { check(cudaStreamSynchronize(compute_.get()), "cudaStreamSynchronize"); }

  CudaOptions options_;
  std::string name_;
  Context context_;
  std::vector<DeviceMemory> memory_;
  i64 allocated_ = 0;
  std::vector<SlotState> slots_;
  PinnedMemory bounce_;
  Stream compute_, copies_;
  BlasHandle blas_;
  DnnHandle dnn_;
};

}  // namespace

std::unique_ptr<Device> make_device(const CudaOptions& options) {
  return std::make_unique<CudaDevice>(options);
}

Context& context_of(Device& device) { return dynamic_cast<CudaDevice&>(device).context(); }

}  // namespace cohort::cuda
