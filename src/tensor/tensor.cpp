#include "tensor/tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
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
    case DType::bf16:
    case DType::f16: return 2;
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
    case DType::bf16: return "bfloat16";
    case DType::f16: return "float16";
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

namespace {

template <class T>
std::vector<double> widen(const void* data, i64 elements) {
  std::vector<T> values(static_cast<std::size_t>(elements));
  if (elements > 0) std::memcpy(values.data(), data, values.size() * sizeof(T));
  return {values.begin(), values.end()};
}

// The upper half of a float32.
double from_bf16(u16 bits) { return std::bit_cast<float>(static_cast<u32>(bits) << 16); }

// IEEE 754 binary16.
double from_f16(u16 bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double value = std::ldexp(exponent == 0 ? fraction : fraction + 1024,
                            exponent == 0 ? -24 : exponent - 25);
  if (exponent == 31)
    value = fraction == 0 ? std::numeric_limits<double>::infinity()
                          : std::numeric_limits<double>::quiet_NaN();
  return bits >> 15 ? -value : value;
}

std::vector<double> widen_halves(const void* data, i64 elements, double (*widened)(u16)) {
  std::vector<u16> halves(static_cast<std::size_t>(elements));
  if (elements > 0) std::memcpy(halves.data(), data, halves.size() * 2);
  std::vector<double> values;
  for (u16 bits : halves) values.push_back(widened(bits));
  return values;
}

}  // namespace

std::vector<double> to_doubles(DType type, const void* data, i64 elements) {
  switch (type) {
    case DType::f32: return widen<float>(data, elements);
    case DType::f64: return widen<double>(data, elements);
    case DType::i32: return widen<i32>(data, elements);
    case DType::i64: return widen<i64>(data, elements);
    case DType::u8: return widen<u8>(data, elements);
    case DType::bf16: return widen_halves(data, elements, from_bf16);
    case DType::f16: return widen_halves(data, elements, from_f16);
  }
  broken(__FILE__, __LINE__, "unknown element type");
}

namespace {

template <class T, class Narrow>
std::vector<char> narrow_all(const std::vector<double>& values, Narrow narrowed) {
  std::vector<char> bytes(values.size() * sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const T value = narrowed(values[i]);
    std::memcpy(&bytes[i * sizeof(T)], &value, sizeof(T));
  }
  return bytes;
}

template <class T>
std::vector<char> cast_all(const std::vector<double>& values) {
  return narrow_all<T>(values, [](double x) { return static_cast<T>(x); });
}

u16 to_bf16(double x) {
  const u32 bits = std::bit_cast<u32>(static_cast<float>(x));
  if (std::isnan(x)) return static_cast<u16>(bits >> 16 | 64);
  return static_cast<u16>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

u16 to_f16(double x) {
  const auto sign = static_cast<u16>(std::signbit(x) ? 0x8000 : 0);
  if (std::isnan(x)) return sign | 0x7e00;
  if (std::abs(x) >= 65520) return sign | 0x7c00;   // rounds to infinity
  const int exponent = std::max(x == 0 ? -14 : std::ilogb(x), -14);
  const auto units = static_cast<u32>(std::nearbyint(std::ldexp(std::abs(x), 10 - exponent)));
  // Units of 2^(exponent - 10); a carry into the next binade lands in the exponent by itself.
  return static_cast<u16>(sign + (static_cast<u32>(exponent + 14) << 10) + units);
}

}  // namespace

std::vector<char> from_doubles(DType type, const std::vector<double>& values) {
  switch (type) {
    case DType::f32: return cast_all<float>(values);
    case DType::f64: return cast_all<double>(values);
    case DType::i32: return cast_all<i32>(values);
    case DType::i64: return cast_all<i64>(values);
    case DType::u8: return cast_all<u8>(values);
    case DType::bf16: return narrow_all<u16>(values, to_bf16);
    case DType::f16: return narrow_all<u16>(values, to_f16);
  }
  broken(__FILE__, __LINE__, "unknown element type");
}

}  // namespace cohort
