// Element types, shapes and views. A view owns nothing; all arrays are dense and row-major.
#pragma once
#include <string>
#include <vector>

#include "base/types.h"

namespace cohort {

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"  // the enumerators are named as the types they stand for
enum class DType : u8 { f32, f64, i32, i64, u8, bf16, f16 };
#pragma GCC diagnostic pop
i64 size_of(DType type);                      // bytes
const char* name_of(DType type);              // "float32", ...
DType dtype_from(const std::string& name);    // throws Error(usage) naming the known ones

using Shape = std::vector<i64>;
i64 count(const Shape& shape);                // product; 1 for a scalar; checked against overflow
std::string to_string(const Shape& shape);    // "[32, 10]"

struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;

  i64 count() const { return cohort::count(shape); }
  i64 bytes() const { return count() * size_of(dtype); }
  template <class T>
  T* as() const { return static_cast<T*>(data); }
};

struct NamedView {
  std::string name;
  View view;
};

// Elements of any type, widened.
std::vector<double> to_doubles(DType type, const void* data, i64 elements);
// Bytes of these numbers in a type, rounded to the nearest (ties to even); integers truncated.
std::vector<char> from_doubles(DType type, const std::vector<double>& values);

}  // namespace cohort
