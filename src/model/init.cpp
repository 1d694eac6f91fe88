#include "model/init.h"

#include <cmath>

#include "base/rng.h"

namespace cohort {
namespace {

void fill_uniform(std::vector<float>& values, double bound, Stream& stream) {
  for (float& v : values) v = static_cast<float>((2 * stream.uniform() - 1) * bound);
}

double xavier_bound(const Shape& shape) {
  const double total = static_cast<double>(count(shape));
  const double out = shape.empty() ? 1 : static_cast<double>(shape.front());
  const double in = shape.empty() ? 1 : static_cast<double>(shape.back());
  return std::sqrt(6.0 / (total / out + total / in));
}

}  // namespace

std::vector<float> initial_values(const Param& param, u64 seed) {
  std::vector<float> values(static_cast<std::size_t>(count(param.shape)), 0.0f);
  Stream stream(mix_key(seed, name_key(param.name)));
  switch (param.init) {
    case Init::zeros:
      break;
    case Init::ones:
      values.assign(values.size(), 1.0f);
      break;
    case Init::uniform_fan_in:
      fill_uniform(values, 1 / std::sqrt(param.init_scale), stream);
      break;
    case Init::normal:
      for (float& v : values) v = static_cast<float>(stream.normal() * param.init_scale);
      break;
    case Init::xavier:
      fill_uniform(values, xavier_bound(param.shape), stream);
      break;
    case Init::lstm_bias:
      for (std::size_t k = values.size() / 4; k < values.size() / 2; ++k) values[k] = 1.0f;
      break;
  }
  return values;
}

}  // namespace cohort
