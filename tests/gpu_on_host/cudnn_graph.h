// An operation graph, compiled from descriptors: a convolution and the pointwise operations behind
// it, in the order in which they run.
#pragma once
#include "cudnn_descriptors.h"

namespace hg {

struct Tensor {
  std::int64_t id = 0;
  Number type = Number::f32;
  std::vector<std::int64_t> dims;  // N C H W, of a filter K C R S
  std::vector<std::int64_t> strides;
  std::int64_t alignment = 0;
  bool is_virtual = false;
  void* data = nullptr;  // bound at execution

  std::int64_t count() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
  std::size_t bytes() const;
  bool channels_last() const;
};

enum class Step { forward, data, filter, pointwise };

struct Operation {
  Step step = Step::pointwise;
  // A convolution: x, w, y in the roles of the forward one. Pointwise: x, b (or y's gradient), y.
  Tensor x, w, y;
  float alpha = 1, beta = 0;
  std::int64_t pad[2] = {}, post_pad[2] = {}, stride[2] = {}, dilation[2] = {};
  cudnnPointwiseMode_t mode = CUDNN_POINTWISE_IDENTITY;

  bool is_convolution() const { return step != Step::pointwise; }
  const Tensor& output() const { return step == Step::data ? x : step == Step::filter ? w : y; }
  std::int64_t groups() const { return x.dims[1] / w.dims[1]; }
};

// The engines that heuristics offer, best first: what is quick comes before what is exact.
enum class Engine { tensor_core, any_order, plain };

struct Plan {
  Engine engine = Engine::plain;
  std::vector<Operation> operations;
  std::vector<const Descriptor*> sources;  // must outlive the plan
};

// Reads and checks a finalized graph; the status says why not.
cudnnStatus_t compile_graph(const Descriptor& graph, Plan* plan);
std::vector<Engine> engines_for(const Plan& plan);
std::vector<cudnnBackendNumericalNote_t> notes_of(Engine engine);
void run_plan(const Plan& plan, void* workspace);

}  // namespace hg
