#include "cudnn_rules.h"

namespace hg {
namespace {

constexpr auto kTensor = CUDNN_BACKEND_TENSOR_DESCRIPTOR;
constexpr auto kConvolution = CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR;
constexpr auto kPointwise = CUDNN_BACKEND_POINTWISE_DESCRIPTOR;
constexpr auto kForward = CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR;
constexpr auto kData = CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR;
constexpr auto kFilter = CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
constexpr auto kApply = CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR;
constexpr auto kGraph = CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR;
constexpr auto kHeuristics = CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR;
constexpr auto kEngine = CUDNN_BACKEND_ENGINE_DESCRIPTOR;
constexpr auto kConfiguration = CUDNN_BACKEND_ENGINECFG_DESCRIPTOR;
constexpr auto kPlan = CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR;
constexpr auto kPack = CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR;

constexpr auto kRef = CUDNN_TYPE_BACKEND_DESCRIPTOR;
constexpr auto kInt = CUDNN_TYPE_INT64;
constexpr auto kDataType = CUDNN_TYPE_DATA_TYPE;
constexpr auto kFloat = CUDNN_TYPE_FLOAT;
constexpr auto kDouble = CUDNN_TYPE_DOUBLE;

const std::vector<Rule>& rules() {
  static const std::vector<Rule> table = {
      {kTensor, CUDNN_ATTR_TENSOR_DATA_TYPE, kDataType, 1, true},
      {kTensor, CUDNN_ATTR_TENSOR_DIMENSIONS, kInt, CUDNN_DIM_MAX, true},
      {kTensor, CUDNN_ATTR_TENSOR_STRIDES, kInt, CUDNN_DIM_MAX, true},
      {kTensor, CUDNN_ATTR_TENSOR_UNIQUE_ID, kInt, 1, true},
      {kTensor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, kInt, 1, true},
      {kTensor, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, false},
      {kConvolution, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, kDataType, 1, true},
      {kConvolution, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, true},
      {kConvolution, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, kInt, 1, true},
      {kConvolution, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, kInt, CUDNN_DIM_MAX, true},
      {kConvolution, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, kInt, CUDNN_DIM_MAX, true},
      {kConvolution, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, kInt, CUDNN_DIM_MAX, true},
      {kConvolution, CUDNN_ATTR_CONVOLUTION_DILATIONS, kInt, CUDNN_DIM_MAX, true},
      {kPointwise, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, true},
      {kPointwise, CUDNN_ATTR_POINTWISE_MATH_PREC, kDataType, 1, true},
      {kPointwise, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, kDouble, 1, false},
      {kForward, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, kRef, 1, true, kTensor},
      {kForward, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, kRef, 1, true, kTensor},
      {kForward, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, kRef, 1, true, kTensor},
      {kForward, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, kRef, 1, true, kConvolution},
      {kForward, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, kFloat, 1, true},
      {kForward, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, kFloat, 1, true},
      {kData, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, kRef, 1, true, kTensor},
      {kData, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, kRef, 1, true, kTensor},
      {kData, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, kRef, 1, true, kTensor},
      {kData, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, kRef, 1, true, kConvolution},
      {kData, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, kFloat, 1, true},
      {kData, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, kFloat, 1, true},
      {kFilter, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, kRef, 1, true, kTensor},
      {kFilter, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, kRef, 1, true, kTensor},
      {kFilter, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, kRef, 1, true, kTensor},
      {kFilter, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, kRef, 1, true, kConvolution},
      {kFilter, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, kFloat, 1, true},
      {kFilter, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, kFloat, 1, true},
      {kApply, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kRef, 1, true, kPointwise},
      {kApply, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, kRef, 1, false, kTensor},
      {kApply, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, kRef, 1, false, kTensor},
      {kApply, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, kRef, 1, false, kTensor},
      {kApply, CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, kRef, 1, false, kTensor},
      {kApply, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, kRef, 1, false, kTensor},
      {kApply, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, kFloat, 1, false},
      {kApply, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, kFloat, 1, false},
      {kGraph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, false},
      {kGraph, CUDNN_ATTR_OPERATIONGRAPH_OPS, kRef, 16, true},
      {kHeuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, kRef, 1, true, kGraph},
      {kHeuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, true},
      {kEngine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, kRef, 1, true, kGraph},
      {kEngine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, kInt, 1, true},
      {kConfiguration, CUDNN_ATTR_ENGINECFG_ENGINE, kRef, 1, true, kEngine},
      {kPlan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, false},
      {kPlan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, kRef, 1, true, kConfiguration},
      {kPack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, kInt, 64, true},
      {kPack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 64, true},
      {kPack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, false},
  };
  return table;
}

}  // namespace

std::vector<Rule> rules_of(cudnnBackendDescriptorType_t type) {
  std::vector<Rule> found;
  for (const Rule& rule : rules()) {
    if (rule.of == type) found.push_back(rule);
  }
  return found;
}

std::size_t width_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
      return 8;
    case CUDNN_TYPE_BOOLEAN:
      return sizeof(bool);
    default:
      return 4;
  }
}

}  // namespace hg
