// An operation graph of cuDNN's backend API: a convolution and the pointwise operations behind it,
// run as one plan. Tensors are channels-last.
#pragma once
#include <array>

#include "device/cuda/memory.h"

namespace cohort::cuda {

using BackendDescriptor = Owned<cudnnBackendDescriptor_t, cudnnBackendDestroyDescriptor>;

struct ConvolutionShape {
  i64 pad_h = 0, pad_w = 0, stride = 1;
};
enum class ConvolutionPass : u8 { forward, input, weight };   // the last two: gradients

struct DnnPlan {
  std::vector<BackendDescriptor> made;   // all of them: what is referred to must live
  cudnnBackendDescriptor_t plan = nullptr;   // null: there is none, and why
  std::string why;
};

class DnnGraph {
 public:
  explicit DnnGraph(Context& x) : x_(&x) {}
  // dims: N, C, H, W; of a filter K, C / groups, R, S. data null: a value within the graph.
  int tensor(DType type, const std::array<i64, 4>& dims, const void* data);
  // The one of x, w, y that the pass gives is overwritten.
  void convolution(ConvolutionPass pass, const ConvolutionShape& shape, int x, int w, int y);
  // y = mode(x, b); b < 0: one operand.
  void pointwise(cudnnPointwiseMode_t mode, int x, int b, int y);
  // Takes the first engine of the heuristics that adds in one order, keeps to the precision and
  // fits in the workspace; for equal graphs only once, as it takes long. `ready`: of those that need
  // not be compiled. False: there is none; why() tells.
  bool build(bool ready = false);
  const std::string& why() const { return made_->why; }
  void run() const;

 private:
  cudnnBackendDescriptor_t make(cudnnBackendDescriptorType_t type);
  bool finalize(cudnnBackendDescriptor_t descriptor);
  void choose_plan();
  bool try_heuristics(cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode);
  bool try_config(cudnnBackendDescriptor_t config);
  bool is_acceptable(cudnnBackendDescriptor_t config);
  bool is_compiled_first(cudnnBackendDescriptor_t engine) const;
  void bind_pack();

  Context* x_;
  bool reduced_ = false;        // some tensor is bf16 or f16
  bool ready_ = false;
  std::string key_;             // tells graphs apart, but for where their data is
  std::shared_ptr<DnnPlan> made_ = std::make_shared<DnnPlan>();
  std::vector<cudnnBackendDescriptor_t> tensors_, operations_;
  std::vector<i64> ids_;        // of tensors with data
  std::vector<void*> data_;
  BackendDescriptor pack_;
};

}  // namespace cohort::cuda
