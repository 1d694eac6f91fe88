// Backend descriptors in few words, for the tests of cuDNN's stand-in.
#pragma once
#include <cudnn.h>

#include <array>
#include <string>

#include "library_test.h"

namespace hg::library_test {

inline cudnnDataType_t cudnn_type(Number type) {
  return type == Number::f32    ? CUDNN_DATA_FLOAT
         : type == Number::bf16 ? CUDNN_DATA_BFLOAT16
                                : CUDNN_DATA_HALF;
}

class Backend {
 public:
  explicit Backend(cudnnBackendDescriptorType_t type) {
    EXPECT_EQ(cudnnBackendCreateDescriptor(type, &handle_), CUDNN_STATUS_SUCCESS);
  }
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  ~Backend() { cudnnBackendDestroyDescriptor(handle_); }
  cudnnBackendDescriptor_t get() const { return handle_; }

  template <class T>
  Backend& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
               const std::vector<T>& values) {
    EXPECT_EQ(
        cudnnBackendSetAttribute(handle_, name, type, std::int64_t(values.size()), values.data()),
        CUDNN_STATUS_SUCCESS);
    return *this;
  }
  Backend& ints(cudnnBackendAttributeName_t name, const std::vector<std::int64_t>& values) {
    return set(name, CUDNN_TYPE_INT64, values);
  }
  template <class T>
  Backend& value(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, T v) {
    EXPECT_EQ(cudnnBackendSetAttribute(handle_, name, type, 1, &v), CUDNN_STATUS_SUCCESS);
    return *this;
  }
  Backend& refer(cudnnBackendAttributeName_t name, const Backend& to) {
    return value(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, to.get());
  }
  cudnnStatus_t finalize() { return cudnnBackendFinalize(handle_); }

 private:
  cudnnBackendDescriptor_t handle_ = nullptr;
};

inline std::string last_error() {
  char text[512];
  cudnnGetLastErrorString(text, sizeof text);
  return text;
}

using Dims = std::array<std::int64_t, 4>;

class TensorDescriptor : public Backend {
 public:
  TensorDescriptor(std::int64_t id, Number type, Dims dims, bool is_virtual = false,
                   bool channels_last = true)
      : Backend(CUDNN_BACKEND_TENSOR_DESCRIPTOR) {
    const auto [n, c, h, w] = dims;
    value(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, cudnn_type(type));
    ints(CUDNN_ATTR_TENSOR_DIMENSIONS, {n, c, h, w});
    if (channels_last) ints(CUDNN_ATTR_TENSOR_STRIDES, {c * h * w, 1, c * w, c});
    if (!channels_last) ints(CUDNN_ATTR_TENSOR_STRIDES, {c * h * w, h * w, w, 1});
    ints(CUDNN_ATTR_TENSOR_UNIQUE_ID, {id});
    ints(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, {16});
    value(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, is_virtual);
    EXPECT_EQ(finalize(), CUDNN_STATUS_SUCCESS) << last_error();
  }
};

// One operation after the other, heuristics, and a plan by the engine of a given rank.
class GraphRun {
 public:
  GraphRun() {
    EXPECT_EQ(cudnnCreate(&handle), CUDNN_STATUS_SUCCESS);
    EXPECT_EQ(cudnnSetStream(handle, stream), CUDNN_STATUS_SUCCESS);
  }
  GraphRun(const GraphRun&) = delete;
  GraphRun& operator=(const GraphRun&) = delete;
  ~GraphRun() { cudnnDestroy(handle); }

  // The status of the heuristics, which is where an unsupported graph shows.
  cudnnStatus_t build(const std::vector<const Backend*>& operations) {
    std::vector<cudnnBackendDescriptor_t> handles;
    for (const Backend* operation : operations) handles.push_back(operation->get());
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, handles);
    EXPECT_EQ(graph.finalize(), CUDNN_STATUS_SUCCESS) << last_error();
    heuristics.refer(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    heuristics.value(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
    return heuristics.finalize();
  }
  std::int64_t engines() const {
    std::int64_t count = 0;
    EXPECT_EQ(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr),
              CUDNN_STATUS_SUCCESS);
    return count;
  }
  cudnnStatus_t run(std::int64_t rank, const std::vector<std::int64_t>& ids,
                    const std::vector<void*>& pointers, void* workspace) const {
    Backend plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    std::vector<std::unique_ptr<Backend>> configs;
    std::vector<cudnnBackendDescriptor_t> handles;
    for (std::int64_t i = 0; i <= rank; ++i) {
      configs.push_back(std::make_unique<Backend>(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
      handles.push_back(configs.back()->get());
    }
    std::int64_t count = 0;
    EXPECT_EQ(
        cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, rank + 1, &count, handles.data()),
        CUDNN_STATUS_SUCCESS);
    plan.refer(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, *configs.back());
    if (const auto status = plan.finalize()) return status;
    Backend pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.ints(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids);
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers);
    pack.value(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
    EXPECT_EQ(pack.finalize(), CUDNN_STATUS_SUCCESS) << last_error();
    const auto status = cudnnBackendExecute(handle, plan.get(), pack.get());
    stream.wait();
    return status;
  }

  Stream stream;
  cudnnHandle_t handle = nullptr;
  Backend graph{CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR};
  Backend heuristics{CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR};
};

}  // namespace hg::library_test
