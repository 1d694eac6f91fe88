#include "tensor/tensor.h"

#include <fmt/format.h>

#include <limits>

#include "base/error.h"

namespace cohort {

i64 size_of(DType type) {
  switch (type) {
    case DType::f32:
    case DType::i32: return 4;
    case DType::f64:
    case DType::i64: return 8;
    case DType::u8: return 1;
  }
  broken(__FILE__, __LINE__, "unknown element type");
}

const char* name_of(DType type) {
  switch (type) {
    case DType::f32: return "float32";
    case DType::f64: return "float64";
    case DType::i32: return "int32";
    case DType::i64: return "int64";
    case DType::u8: return "uint8";
  }
  broken(__FILE__, __LINE__, "unknown element type");
}

DType dtype_from(const std::string& name) {
  for (DType type : {DType::f32, DType::f64, DType::i32, DType::i64, DType::u8}) {
    if (name == name_of(type)) return type;
  }
  fail(Exit::usage, "unknown element type '{}': expected float32, float64, int32, int64 or uint8",
       name);
}

i64 count(const Shape& shape) {
  i64 product = 1;
  for (i64 extent : shape) {
    if (extent < 0) fail(Exit::usage, "shape {} has a negative extent", to_string(shape));
    if (__builtin_mul_overflow(product, extent, &product)) {
      fail(Exit::usage, "shape {} has more than 2^63 elements", to_string(shape));
    }
  }
  return product;
}

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace cohort
