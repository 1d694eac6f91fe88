#include <cstring>

#include "device/cpu/cpu_impl.h"

namespace cohort::cpu {

namespace {

i64 batch_norm_groups(const BatchNorm& op, i64 global_batch) {
  return op.groups > 0 ? op.groups : std::max<i64>(1, global_batch / 32);
}

// sync per group: rows, elements per channel, then two sums of each channel.
struct Groups {
  const Call& c;
  const BatchNorm& op;
  i64 channels = last(c.in[0].shape);
  i64 groups = batch_norm_groups(op, c.scalars->global_batch);
  i64 record = 2 + 2 * channels;

  i64 of_row(i64 r) const {
    return c.position.as<i32>()[r] * groups / c.scalars->global_batch;
  }
  double* sums(i64 g) const { return c.sync.as<double>() + g * record; }
  // mean then inverse deviation
  double* saved(i64 g) const { return reinterpret_cast<double*>(c.saved.data) + g * 2 * channels; }
  // use(row, first element, channels' vectors at a time) of every valid row and step
  template <class Use>
  void vectors(Use use) const {
    const i64 n = row_size(c.in[0]);
    const bool ragged = !c.lengths.empty() && c.lengths[0].data;
    for (i64 r = 0; r < valid_rows(c); ++r) {
      const i64 end = ragged ? steps_in(c, 0, r) * (n / c.in[0].shape[1]) : n;
      for (i64 first = 0; first < end; first += channels) use(r, r * n + first);
    }
  }
};

void zero_sync(const Call& c) {
  std::memset(c.sync.data, 0, static_cast<std::size_t>(c.sync.bytes()));
}

void sum_groups(const Groups& g) {
  zero_sync(g.c);
  for (i64 r = 0; r < valid_rows(g.c); ++r) g.sums(g.of_row(r))[0] += 1;
  g.vectors([&](i64 r, i64 first) {
    double* sums = g.sums(g.of_row(r));
    sums[1] += 1;
    for (i64 k = 0; k < g.channels; ++k) {
      const double x = real(g.c.in[0])[first + k];
      sums[2 + k] += x;
      sums[2 + g.channels + k] += x * x;
    }
  });
}

bool owns(const Groups& g, i64 group) {
  const i64 batch = g.c.scalars->global_batch;
  const i64 first = (group * batch + g.groups - 1) / g.groups;
  for (i64 r = 0; r < g.c.rows; ++r)
    if (g.c.position.as<i32>()[r] == first) return true;
  return false;
}

void finish_statistics(const Groups& g) {
  const i64 C = g.channels;
  for (i64 group = 0; group < g.groups; ++group) {
    const double* sums = g.sums(group);
    const double n = sums[1];
    if (n == 0) continue;
    const bool add = g.c.d_param.size() == 4 && owns(g, group);
    for (i64 k = 0; k < C; ++k) {
      const double mean = sums[2 + k] / n;
      const double variance = std::max(0.0, sums[2 + C + k] / n - mean * mean);
      g.saved(group)[k] = mean;
      g.saved(group)[C + k] = 1 / std::sqrt(variance + g.op.epsilon);
      if (!add) continue;
      real(g.c.d_param[2])[k] += static_cast<float>(sums[0] * mean);
      real(g.c.d_param[3])[k] += static_cast<float>(sums[0] * variance * (n > 1 ? n / (n - 1) : 1));
    }
  }
}

}  // namespace

Needs needs(const Call& c, const BatchNorm& op, i64) {
  Needs needs;
  const i64 groups = batch_norm_groups(op, c.scalars->global_batch);
  needs.saved = groups * 2 * last(c.in[0].shape) * size_of(DType::f64);
  needs.phases = 2;
  needs.sync = {groups, 2 + 2 * last(c.in[0].shape)};
  return needs;
}

void forward(Context&, const Call& c, const BatchNorm& op) {
  const Groups g{c, op};
  const bool training = c.scalars->training;
  if (training && c.phase == 0) return sum_groups(g);
  if (training) finish_statistics(g);
  const i64 C = g.channels;
  g.vectors([&](i64 r, i64 first) {
    const double* stats = training ? g.saved(g.of_row(r)) : nullptr;
    for (i64 k = 0; k < C; ++k) {
      const double mean = stats ? stats[k] : real(c.param[2])[k];
      const double inverse = stats ? stats[C + k] : 1 / std::sqrt(real(c.param[3])[k] + op.epsilon);
      const double xhat = (real(c.in[0])[first + k] - mean) * inverse;
      real(c.out[0])[first + k] =
          static_cast<float>(xhat * real(c.param[0])[k] + real(c.param[1])[k]);
    }
  });
}

void backward(Context&, const Call& c, const BatchNorm& op) {
  const Groups g{c, op};
  const i64 C = g.channels;
  const auto xhat = [&](i64 r, i64 at, i64 k) {
    const double* stats = g.saved(g.of_row(r));
    return (real(c.in[0])[at] - stats[k]) * stats[C + k];
  };
  if (c.phase == 0) {
    zero_sync(c);
    g.vectors([&](i64 r, i64 first) {
      double* sums = g.sums(g.of_row(r));
      sums[1] += 1;
      for (i64 k = 0; k < C; ++k) {
        const double dy = real(c.d_out[0])[first + k], scaled = dy * xhat(r, first + k, k);
        sums[2 + k] += dy;
        sums[2 + C + k] += scaled;
        real(c.d_param[0])[k] += static_cast<float>(scaled);
        real(c.d_param[1])[k] += static_cast<float>(dy);
      }
    });
    return;
  }
  if (!begin_gradient(c, 0)) return;
  g.vectors([&](i64 r, i64 first) {
    const double* sums = g.sums(g.of_row(r));
    const double* stats = g.saved(g.of_row(r));
    for (i64 k = 0; k < C; ++k) {
      const double dy = real(c.d_out[0])[first + k];
      const double centred =
          dy - sums[2 + k] / sums[1] - xhat(r, first + k, k) * sums[2 + C + k] / sums[1];
      real(c.d_in[0])[first + k] +=
          static_cast<float>(real(c.param[0])[k] * stats[C + k] * centred);
    }
  });
}

}  // namespace cohort::cpu
