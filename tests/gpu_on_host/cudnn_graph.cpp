// What the support surface of cuDNN's graph API promises for convolutions, and execution of plans.
//
// A convolution alone (any layout, channels and groups; one type throughout) is a single-operation
// engine's. Everything else is the generic runtime fusion engine's: a convolution, then pointwise
// operations that lead to one output, on channels-last tensors whose channels fill 16 bytes.
#include "cudnn_graph.h"

#include <algorithm>

namespace hg {

std::size_t Tensor::bytes() const {
  std::int64_t last = 0;
  for (std::size_t i = 0; i < dims.size(); ++i) last += (dims[i] - 1) * strides[i];
  return std::size_t(last + 1) * bytes_of(type);
}

bool Tensor::channels_last() const {
  return strides[1] == 1 && strides[3] == dims[1] && strides[2] == dims[1] * dims[3] &&
         strides[0] == dims[1] * dims[3] * dims[2];
}

namespace {

constexpr auto kGood = CUDNN_STATUS_SUCCESS;

cudnnStatus_t read_tensor(const Descriptor* d, Plan* plan, Tensor* tensor) {
  if (!is_alive(d)) return refuse(CUDNN_STATUS_BAD_PARAM, "an operation's tensor is not alive");
  plan->sources.push_back(d);
  number_of(d->one<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE), &tensor->type);
  tensor->id = d->one<std::int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
  tensor->dims = d->all<std::int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
  tensor->strides = d->all<std::int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
  tensor->alignment = d->one<std::int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
  tensor->is_virtual = d->one<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL);
  if (tensor->dims.size() != 4) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_SHAPE, "tensor %ld: %zu dimensions, expected 4",
                  long(tensor->id), tensor->dims.size());
  }
  if (tensor->is_virtual && tensor->type != Number::f32) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "virtual tensor %ld is not float",
                  long(tensor->id));
  }
  return kGood;
}

struct ConvolutionNames {
  cudnnBackendAttributeName_t x, w, y, convolution, alpha, beta;
};

ConvolutionNames names_of(Step step) {
  switch (step) {
    case Step::data:
      return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    case Step::filter:
      return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
    default:
      return {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
  }
}

cudnnStatus_t read_geometry(const Descriptor& d, Operation* op) {
  if (d.one<cudnnConvolutionMode_t>(CUDNN_ATTR_CONVOLUTION_CONV_MODE) != CUDNN_CROSS_CORRELATION) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED, "convolution: cross-correlation only");
  }
  if (d.one<cudnnDataType_t>(CUDNN_ATTR_CONVOLUTION_COMP_TYPE) != CUDNN_DATA_FLOAT) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "convolution: computes in float only");
  }
  if (d.one<std::int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS) != 2) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_SHAPE, "convolution: two spatial dimensions only");
  }
  auto read = [&](cudnnBackendAttributeName_t name, std::int64_t least, std::int64_t(&out)[2]) {
    const auto values = d.all<std::int64_t>(name);
    if (values.size() != 2 || values[0] < least || values[1] < least) return false;
    std::copy(values.begin(), values.end(), out);
    return true;
  };
  const bool good = read(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, 0, op->pad) &&
                    read(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, 0, op->post_pad) &&
                    read(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, 1, op->stride) &&
                    read(CUDNN_ATTR_CONVOLUTION_DILATIONS, 1, op->dilation);
  if (!good) return refuse(CUDNN_STATUS_BAD_PARAM, "convolution: two values an attribute");
  for (int i = 0; i < 2; ++i) {
    if (op->pad[i] != op->post_pad[i]) {
      return refuse(CUDNN_STATUS_NOT_SUPPORTED_PADDING, "convolution: padding before and after");
    }
  }
  return kGood;
}

cudnnStatus_t check_shapes(const Operation& op) {
  const auto &x = op.x.dims, &w = op.w.dims, &y = op.y.dims;
  if (x[1] % w[1] || w[0] % op.groups() || y[1] != w[0] || y[0] != x[0]) {
    return refuse(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "convolution: channels or batch");
  }
  for (int i = 0; i < 2; ++i) {
    const std::int64_t window = op.dilation[i] * (w[2 + i] - 1) + 1;
    const std::int64_t room = x[2 + i] + op.pad[i] + op.post_pad[i] - window;
    if (room < 0 || y[2 + i] != room / op.stride[i] + 1) {
      return refuse(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH,
                    "convolution: output of %ld along dimension %d does not fit", long(y[2 + i]),
                    2 + i);
    }
  }
  return kGood;
}

cudnnStatus_t read_convolution(const Descriptor& d, Step step, Plan* plan) {
  Operation op;
  op.step = step;
  const ConvolutionNames names = names_of(step);
  if (const auto status = read_tensor(d.descriptor(names.x), plan, &op.x)) return status;
  if (const auto status = read_tensor(d.descriptor(names.w), plan, &op.w)) return status;
  if (const auto status = read_tensor(d.descriptor(names.y), plan, &op.y)) return status;
  const Descriptor* const geometry = d.descriptor(names.convolution);
  if (!is_alive(geometry)) return refuse(CUDNN_STATUS_BAD_PARAM, "a convolution is not alive");
  plan->sources.push_back(geometry);
  if (const auto status = read_geometry(*geometry, &op)) return status;
  op.alpha = d.one<float>(names.alpha);
  op.beta = d.one<float>(names.beta);
  if (op.alpha != 1 || (op.beta != 0 && op.beta != 1)) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED, "convolution: alpha 1, beta 0 or 1 only");
  }
  plan->operations.push_back(op);
  return check_shapes(op);
}

// Which tensors a pointwise operation has: x and y, of two-operand ones b as well; of a gradient
// the incoming one takes the place of b, x or y says where it passes, and dx is written.
cudnnStatus_t read_pointwise(const Descriptor& d, Plan* plan) {
  const Descriptor* const mode = d.descriptor(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
  if (!is_alive(mode)) return refuse(CUDNN_STATUS_BAD_PARAM, "a pointwise mode is not alive");
  plan->sources.push_back(mode);
  Operation op;
  op.mode = mode->one<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
  if (mode->one<cudnnDataType_t>(CUDNN_ATTR_POINTWISE_MATH_PREC) != CUDNN_DATA_FLOAT ||
      mode->one<double>(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP) != 0) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED, "pointwise: float and a clip at zero only");
  }
  auto x = CUDNN_ATTR_OPERATION_POINTWISE_XDESC, b = CUDNN_ATTR_OPERATION_POINTWISE_BDESC;
  auto y = CUDNN_ATTR_OPERATION_POINTWISE_YDESC;
  const bool two = op.mode == CUDNN_POINTWISE_ADD || op.mode == CUDNN_POINTWISE_MUL;
  const bool one = op.mode == CUDNN_POINTWISE_RELU_FWD || op.mode == CUDNN_POINTWISE_IDENTITY;
  const bool gradient = op.mode == CUDNN_POINTWISE_RELU_BWD;
  if (!two && !one && !gradient) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED, "pointwise mode %d", op.mode);
  }
  std::size_t expected = two ? 4 : 3;
  if (gradient) {
    x = d.has(x) ? x : y;
    b = CUDNN_ATTR_OPERATION_POINTWISE_DYDESC;
    y = CUDNN_ATTR_OPERATION_POINTWISE_DXDESC;
    expected = 4;
  }
  for (auto alpha :
       {CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2}) {
    if (d.one<float>(alpha, 1.0f) != 1) return refuse(CUDNN_STATUS_NOT_SUPPORTED, "alpha not 1");
    expected += d.has(alpha);
  }
  const bool complete = d.has(x) && d.has(y) && (one || d.has(b));
  if (!complete || d.attributes.size() != expected) {
    return refuse(CUDNN_STATUS_BAD_PARAM, "pointwise mode %d: missing or needless tensors",
                  op.mode);
  }
  if (const auto status = read_tensor(d.descriptor(x), plan, &op.x)) return status;
  if (const auto status = read_tensor(d.descriptor(y), plan, &op.y)) return status;
  if (!one) {
    if (const auto status = read_tensor(d.descriptor(b), plan, &op.w)) return status;
  }
  plan->operations.push_back(op);
  return kGood;
}

bool fits(const Tensor& operand, const Tensor& output) {
  if (operand.dims == output.dims) return true;
  const auto& d = operand.dims;
  const bool rest = d[0] == 1 && d[2] == 1 && d[3] == 1;
  return rest && (d[1] == 1 || d[1] == output.dims[1]);
}

// Each operation behind the convolution takes the one before; the last writes the graph's output.
cudnnStatus_t check_chain(const Plan& plan) {
  const auto& ops = plan.operations;
  for (std::size_t i = 1; i < ops.size(); ++i) {
    const Tensor& before = ops[i - 1].output();
    const Operation& op = ops[i];
    const bool first = op.x.id == before.id;
    const bool second = !op.w.dims.empty() && op.w.id == before.id;
    if (op.is_convolution() || first == second) {
      return refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN,
                    "operation %zu does not take the one before it", i);
    }
    const Tensor& other = first ? op.w : op.x;
    const bool outside = other.dims.empty() || (!other.is_virtual && fits(other, op.y));
    if (!before.is_virtual || !outside || before.dims != op.y.dims) {
      return refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN,
                    "operation %zu: virtual tensors inside, real ones outside, shapes that fit", i);
    }
  }
  if (ops.back().output().is_virtual) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "the graph writes a virtual tensor");
  }
  return kGood;
}

cudnnStatus_t check_fused(const Plan& plan) {
  const Operation& convolution = plan.operations.front();
  if (convolution.groups() != 1 || convolution.beta != 0) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED, "fusion: one group and beta 0 only");
  }
  for (const Operation& op : plan.operations) {
    for (const Tensor* t : {&op.x, &op.w, &op.y}) {
      if (t->dims.empty() || t->count() == t->dims[1]) continue;  // a vector or a scalar
      if (!t->channels_last()) {
        return refuse(CUDNN_STATUS_NOT_SUPPORTED_LAYOUT, "fusion: tensor %ld not channels-last",
                      long(t->id));
      }
      if (t->is_virtual) continue;
      if (t->dims[1] * std::int64_t(bytes_of(t->type)) % 16 || t->alignment < 16) {
        return refuse(CUDNN_STATUS_NOT_SUPPORTED_SHAPE,
                      "fusion: tensor %ld: its %ld channels do not fill 16 aligned bytes",
                      long(t->id), long(t->dims[1]));
      }
    }
  }
  return kGood;
}

cudnnStatus_t check_support(const Plan& plan) {
  const Operation& convolution = plan.operations.front();
  if (!convolution.is_convolution()) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "the first is no convolution");
  }
  const Tensor& out = convolution.output();
  for (const Tensor* t : {&convolution.x, &convolution.w, &convolution.y}) {
    if (t != &out && t->is_virtual) {
      return refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "a convolution of virtual tensors");
    }
  }
  const Tensor& first = convolution.step == Step::data ? convolution.y : convolution.x;
  const Tensor& second = convolution.step == Step::filter ? convolution.y : convolution.w;
  if (first.type != second.type) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "a convolution of two types");
  }
  const Number final_type = plan.operations.back().output().type;
  if (final_type != first.type && final_type != Number::f32) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "output neither float nor as the input");
  }
  if (const auto status = check_chain(plan)) return status;
  const bool alone = plan.operations.size() == 1 && out.type == first.type;
  return alone ? kGood : check_fused(plan);
}

cudnnStatus_t bind(Tensor* tensor, const Descriptor& pack) {
  if (tensor->dims.empty() || tensor->is_virtual) return kGood;
  const auto ids = pack.all<std::int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = pack.all<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  const auto found = std::find(ids.begin(), ids.end(), tensor->id);
  if (found == ids.end()) {
    return refuse(CUDNN_STATUS_BAD_PARAM, "variant pack: tensor %ld is missing", long(tensor->id));
  }
  tensor->data = pointers[std::size_t(found - ids.begin())];
  if (!tensor->data || !device_range(tensor->data, tensor->bytes())) {
    return refuse(CUDNN_STATUS_BAD_PARAM, "variant pack: tensor %ld: %zu bytes not on the device",
                  long(tensor->id), tensor->bytes());
  }
  if (!aligned(tensor->data, std::size_t(tensor->alignment))) {
    return refuse(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "tensor %ld: not aligned to %ld",
                  long(tensor->id), long(tensor->alignment));
  }
  return kGood;
}

// The output may be none of the inputs.
cudnnStatus_t check_overlap(const Plan& plan) {
  const Tensor& out = plan.operations.back().output();
  for (const Operation& op : plan.operations) {
    for (const Tensor* t : {&op.x, &op.w, &op.y}) {
      if (t == &out || t->data == nullptr) continue;
      if (overlap(t->data, t->bytes(), out.data, out.bytes())) {
        return refuse(CUDNN_STATUS_BAD_PARAM, "the output overlaps tensor %ld", long(t->id));
      }
    }
  }
  return kGood;
}

}  // namespace

cudnnStatus_t compile_graph(const Descriptor& graph, Plan* plan) {
  for (auto handle : graph.all<cudnnBackendDescriptor_t>(CUDNN_ATTR_OPERATIONGRAPH_OPS)) {
    const auto* d = static_cast<const Descriptor*>(handle);
    if (!is_alive(d)) return refuse(CUDNN_STATUS_BAD_PARAM, "an operation is not alive");
    plan->sources.push_back(d);
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    switch (d->type) {
      case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        status = read_convolution(*d, Step::forward, plan);
        break;
      case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        status = read_convolution(*d, Step::data, plan);
        break;
      case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        status = read_convolution(*d, Step::filter, plan);
        break;
      case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        status = read_pointwise(*d, plan);
        break;
      default:
        status = refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "type %d is no operation", d->type);
    }
    if (status) return status;
  }
  return check_support(*plan);
}

std::vector<Engine> engines_for(const Plan& plan) {
  const bool backward = plan.operations.front().step != Step::forward;
  if (backward) return {Engine::any_order, Engine::tensor_core, Engine::plain};
  return {Engine::tensor_core, Engine::plain};
}

std::vector<cudnnBackendNumericalNote_t> notes_of(Engine engine) {
  switch (engine) {
    case Engine::tensor_core:
      return {CUDNN_NUMERICAL_NOTE_TENSOR_CORE};
    case Engine::any_order:
      return {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC};
    default:
      return {};
  }
}

}  // namespace hg

extern "C" cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle,
                                             cudnnBackendDescriptor_t plan_handle,
                                             cudnnBackendDescriptor_t pack_handle) {
  const auto* d = static_cast<const hg::Descriptor*>(plan_handle);
  const auto* pack = static_cast<const hg::Descriptor*>(pack_handle);
  if (!handle || !hg::is_alive(d) || !hg::is_alive(pack)) {
    return hg::refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "execute: handle, plan or pack");
  }
  if (!d->finalized || !pack->finalized) {
    return hg::refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "execute: not finalized");
  }
  if (!d->plan || pack->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR) {
    return hg::refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "execute: no plan or no pack");
  }
  hg::Plan plan = *d->plan;
  for (const hg::Descriptor* source : plan.sources) {
    if (hg::is_alive(source)) continue;
    return hg::refuse(CUDNN_STATUS_BAD_PARAM, "execute: what the plan was made of was destroyed");
  }
  for (hg::Operation& op : plan.operations) {
    for (hg::Tensor* tensor : {&op.x, &op.w, &op.y}) {
      if (const auto status = hg::bind(tensor, *pack)) return status;
    }
  }
  if (const auto status = hg::check_overlap(plan)) return status;
  void* const workspace = pack->one<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  if (!workspace || !hg::device_range(workspace, hg::kCudnnWorkspace)) {
    return hg::refuse(CUDNN_STATUS_BAD_PARAM, "execute: no workspace or too small");
  }
  const cudaError_t error = hg::enqueue(handle->stream, "cudnnBackendExecute",
                                        [plan, workspace] { hg::run_plan(plan, workspace); });
  return error ? CUDNN_STATUS_EXECUTION_FAILED_CUDART : CUDNN_STATUS_SUCCESS;
}
