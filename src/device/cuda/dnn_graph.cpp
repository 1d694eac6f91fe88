#include "device/cuda/dnn_graph.h"

#include <algorithm>

namespace cohort::cuda {
namespace {

template <class T>
void set(cudnnBackendDescriptor_t to, cudnnBackendAttributeName_t name,
         cudnnBackendAttributeType_t type, const std::vector<T>& values) {
  check(cudnnBackendSetAttribute(to, name, type, static_cast<i64>(values.size()), values.data()),
        "cudnnBackendSetAttribute");
}
template <class T>
void set_one(cudnnBackendDescriptor_t to, cudnnBackendAttributeName_t name,
             cudnnBackendAttributeType_t type, const T& value) {
  check(cudnnBackendSetAttribute(to, name, type, 1, &value), "cudnnBackendSetAttribute");
}
void set_ints(cudnnBackendDescriptor_t to, cudnnBackendAttributeName_t name,
              const std::vector<i64>& values) {
  set(to, name, CUDNN_TYPE_INT64, values);
}
void refer(cudnnBackendDescriptor_t from, cudnnBackendAttributeName_t name,
           cudnnBackendDescriptor_t to) {
  set_one(from, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, to);
}

cudnnDataType_t number(DType type) {
  if (type == DType::bf16) return CUDNN_DATA_BFLOAT16;
  return type == DType::f16 ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
}

// Up to the 16 bytes that vector loads ask for.
i64 alignment_of(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  return data ? static_cast<i64>(std::min<std::uintptr_t>(address & (~address + 1), 16)) : 16;
}

struct ConvolutionNames {
  cudnnBackendDescriptorType_t type;
  cudnnBackendAttributeName_t x, w, y, shape, alpha, beta;
};
ConvolutionNames names_of(ConvolutionPass pass) {
  switch (pass) {
    case ConvolutionPass::forward:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    case ConvolutionPass::input:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    case ConvolutionPass::weight: break;
  }
  return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
}

}  // namespace

cudnnBackendDescriptor_t DnnGraph::make(cudnnBackendDescriptorType_t type) {
  cudnnBackendDescriptor_t handle = nullptr;
  check(cudnnBackendCreateDescriptor(type, &handle), "cudnnBackendCreateDescriptor");
  made_->made.emplace_back(handle);
  return handle;
}

bool DnnGraph::finalize(cudnnBackendDescriptor_t descriptor) {
  const cudnnStatus_t status = cudnnBackendFinalize(descriptor);
  if (status == CUDNN_STATUS_SUCCESS) return true;
  char text[512] = {};
  cudnnGetLastErrorString(text, sizeof text);
  made_->why = std::string(cudnnGetErrorString(status)) + (text[0] ? ": " : "") + text;
  return false;
}

int DnnGraph::tensor(DType type, const std::array<i64, 4>& dims, const void* data) {
  const auto [n, c, h, w] = dims;
  const i64 id = static_cast<i64>(tensors_.size()) + 1;
  const cudnnBackendDescriptor_t t = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  set_one(t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, number(type));
  set_ints(t, CUDNN_ATTR_TENSOR_DIMENSIONS, {n, c, h, w});
  set_ints(t, CUDNN_ATTR_TENSOR_STRIDES, {c * h * w, 1, c * w, c});
  set_one(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id);
  set_one(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, alignment_of(data));
  set_one(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, data == nullptr);
  check(cudnnBackendFinalize(t), "cudnnBackendFinalize of a tensor");
  tensors_.push_back(t);
  key_ += fmt::format("{} {}x{}x{}x{} {} {}, ", name_of(type), n, c, h, w, alignment_of(data),
                      data != nullptr);
  reduced_ = reduced_ || type != DType::f32;
  if (!data) return static_cast<int>(id) - 1;
  ids_.push_back(id);
  data_.push_back(const_cast<void*>(data));   // the API takes inputs and outputs alike
  return static_cast<int>(id) - 1;
}

void DnnGraph::convolution(ConvolutionPass pass, const ConvolutionShape& shape, int x, int w,
                           int y) {
  const cudnnBackendDescriptor_t d = make(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const std::vector<i64> pads = {shape.pad_h, shape.pad_w};
  key_ += fmt::format("convolution {} of {} {} {}, pads {} {}, stride {}, ", static_cast<int>(pass),
                      x, w, y, shape.pad_h, shape.pad_w, shape.stride);
  set_one(d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  set_one(d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE,
          CUDNN_CROSS_CORRELATION);
  set_ints(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, {2});
  set_ints(d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, pads);
  set_ints(d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, pads);
  set_ints(d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, {shape.stride, shape.stride});
  set_ints(d, CUDNN_ATTR_CONVOLUTION_DILATIONS, {1, 1});
  check(cudnnBackendFinalize(d), "cudnnBackendFinalize of a convolution");
  const ConvolutionNames names = names_of(pass);
  const cudnnBackendDescriptor_t operation = make(names.type);
  refer(operation, names.shape, d);
  refer(operation, names.x, tensors_[static_cast<std::size_t>(x)]);
  refer(operation, names.w, tensors_[static_cast<std::size_t>(w)]);
  refer(operation, names.y, tensors_[static_cast<std::size_t>(y)]);
  set_one(operation, names.alpha, CUDNN_TYPE_FLOAT, 1.0f);
  set_one(operation, names.beta, CUDNN_TYPE_FLOAT, 0.0f);
  check(cudnnBackendFinalize(operation), "cudnnBackendFinalize of a convolution's operation");
  operations_.push_back(operation);
}

void DnnGraph::pointwise(cudnnPointwiseMode_t mode, int x, int b, int y) {
  const cudnnBackendDescriptor_t d = make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  key_ += fmt::format("pointwise {} of {} {} {}, ", static_cast<int>(mode), x, b, y);
  set_one(d, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
  set_one(d, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  check(cudnnBackendFinalize(d), "cudnnBackendFinalize of a pointwise mode");
  const cudnnBackendDescriptor_t operation = make(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  refer(operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, d);
  refer(operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensors_[static_cast<std::size_t>(x)]);
  if (b >= 0)
    refer(operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, tensors_[static_cast<std::size_t>(b)]);
  refer(operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensors_[static_cast<std::size_t>(y)]);
  check(cudnnBackendFinalize(operation), "cudnnBackendFinalize of a pointwise operation");
  operations_.push_back(operation);
}

bool DnnGraph::build(bool ready) {
  ready_ = ready;
  std::shared_ptr<DnnPlan>& known = x_->dnn_plans[key_ + (ready ? "ready" : "")];
  if (!known) {
    choose_plan();
    known = made_;
  }
  made_ = known;
  if (made_->plan) bind_pack();
  return made_->plan != nullptr;
}

void DnnGraph::choose_plan() {
  const cudnnBackendDescriptor_t graph = make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  set_one(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, x_->dnn);
  set(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, operations_);
  if (!finalize(graph)) return;
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
    if (try_heuristics(graph, mode)) return;
}

bool DnnGraph::try_heuristics(cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode) {
  const cudnnBackendDescriptor_t heuristics = make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  refer(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  set_one(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
  if (!finalize(heuristics)) return false;
  i64 count = 0;
  check(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr),
        "cudnnBackendGetAttribute");
  std::vector<cudnnBackendDescriptor_t> configs;
  for (i64 k = 0; k < count; ++k) configs.push_back(make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
  if (configs.empty()) return false;
  check(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count, configs.data()),
        "cudnnBackendGetAttribute");
  configs.resize(static_cast<std::size_t>(count));
  return std::any_of(configs.begin(), configs.end(),
                     [&](cudnnBackendDescriptor_t config) { return try_config(config); });
}

bool DnnGraph::is_compiled_first(cudnnBackendDescriptor_t engine) const {
  cudnnBackendBehaviorNote_t notes[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
  i64 count = 0;
  check(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                 CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &count, notes),
        "cudnnBackendGetAttribute");
  return std::find(notes, notes + count, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) != notes + count;
}

bool DnnGraph::is_acceptable(cudnnBackendDescriptor_t config) {
  const cudnnBackendDescriptor_t engine = make(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t to_fill = engine;
  i64 count = 0;
  check(cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                 1, &count, &to_fill),
        "cudnnBackendGetAttribute");
  cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
  check(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                 CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count,
                                 notes),
        "cudnnBackendGetAttribute");
  if (ready_ && is_compiled_first(engine)) return false;
  const bool exact = x_->precision == Precision::f32 && !reduced_;
  return std::none_of(notes, notes + count, [&](cudnnBackendNumericalNote_t note) {
    if (note == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) return true;
    if (note == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION) return true;
    if (note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS) return true;
    return exact && (note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE || note == CUDNN_NUMERICAL_NOTE_FFT ||
                     note == CUDNN_NUMERICAL_NOTE_WINOGRAD);
  });
}

bool DnnGraph::try_config(cudnnBackendDescriptor_t config) {
  if (!is_acceptable(config)) {
    made_->why = "only engines of another precision, whose sums have no order, or to be compiled";
    return false;
  }
  const cudnnBackendDescriptor_t plan = make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  set_one(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, x_->dnn);
  refer(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
  if (!finalize(plan)) return false;
  i64 bytes = 0, count = 0;
  check(cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
                                 1, &count, &bytes),
        "cudnnBackendGetAttribute");
  if (bytes > x_->workspace_bytes) {
    made_->why = "only engines that need more workspace";
    return false;
  }
  made_->plan = plan;
  return true;
}

void DnnGraph::bind_pack() {
  cudnnBackendDescriptor_t pack = nullptr;
  check(cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack),
        "cudnnBackendCreateDescriptor");
  pack_ = BackendDescriptor(pack);
  set_ints(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids_);
  set(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, data_);
  set_one(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, x_->workspace);
  check(cudnnBackendFinalize(pack), "cudnnBackendFinalize of a variant pack");
}

void DnnGraph::run() const {
  check(cudnnBackendExecute(x_->dnn, made_->plan, pack_.get()), "cudnnBackendExecute");
}

}  // namespace cohort::cuda
