// What the ops around matrix products and convolutions share.
#pragma once
#include <utility>

#include "device/cuda/kernels_products.h"
#include "device/cuda/ops.h"

namespace cohort::cuda {

inline i64 aligned(i64 bytes) { return (bytes + 255) / 256 * 256; }

// Hands out parts of `saved` or `scratch`. The same calls add up what is needed while it has no
// memory.
class Carver {
 public:
  explicit Carver(const View& memory) : data_(memory.as<char>()) {}
  template <class T = char>
  T* take(i64 values, i64 bytes_each = sizeof(T)) {
    char* here = data_ ? data_ + used_ : nullptr;
    used_ += aligned(values * bytes_each);
    return reinterpret_cast<T*>(here);
  }
  i64 used() const { return used_; }

 private:
  char* data_;
  i64 used_ = 0;
};

// The first `count` parameters of an op as products read them: themselves, or copies in the
// activations' type that the forward pass makes.
struct Weights {
  DType type = DType::f32;
  std::vector<const void*> data;
  std::vector<ParameterCopy> copies;

  Weights(const Call& c, Carver& saved, std::size_t count) : type(c.in[0].dtype) {
    for (std::size_t k = 0; k < count; ++k) {
      const View& param = c.param[k];
      if (type == DType::f32) {
        data.push_back(param.data);
        continue;
      }
      void* to = saved.take(param.count(), size_of(type));
      copies.push_back({param.as<float>(), to, param.count()});
      data.push_back(to);
    }
  }
  void cast(cudaStream_t s) const {
    if (!copies.empty()) copy_parameters(s, type, copies.data(), static_cast<int>(copies.size()));
  }
};

// dz and the bias gradient of vectors, with the memory that this takes.
struct BackOfVectors {
  Vectors vectors;
  VectorGradient gradient;
  const void* dz = nullptr;     // for products to read

  BackOfVectors(const Call& c, const Vectors& v, Activation activation, Carver& scratch)
      : vectors(v) {
    gradient.activation = activation;
    gradient.parts = scratch.take<float>(gradient_parts(v));
    if (c.d_out.empty()) return;
    gradient.d_out = c.d_out[0].data;
    gradient.out = c.out[0].data;
  }
  // Where dz would be d_out, which is zero in padding rows, that is taken in place of `memory`.
  void want_dz(void* memory) {
    const bool same = gradient.activation == Activation::none && !vectors.steps.lengths;
    gradient.dz = same ? nullptr : memory;
    dz = same ? gradient.d_out : memory;
  }
  void want_bias(Context& x, const View& d_bias) {
    gradient.d_bias = d_bias.as<float>();
    gradient.counters = counters(x, gradient_counters(vectors));
  }
  void run(cudaStream_t s) const {
    if (gradient.dz || gradient.d_bias) gradient_of_vectors(s, vectors, gradient);
  }
};

// dense.cpp. The dense layer's passes, for what else is one: convolutions of one place.
struct DenseShape {
  Vectors vectors;              // the results
  i64 features = 1;
  bool bias = true;
  Activation activation = Activation::none;
};
Needs dense_needs(const Call& c, const DenseShape& d);
std::unique_ptr<Kernel> dense_forward(Context& x, const Call& c, const DenseShape& d);
std::unique_ptr<Kernel> dense_backward(Context& x, const Call& c, const DenseShape& d);

}  // namespace cohort::cuda
