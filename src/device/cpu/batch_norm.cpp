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
  i64 groups = batch_norm_groups(op, c.global_batch);
  i64 record = 2 + 2 * channels;

  i64 of_row(i64 r) const {
    return c.position.as<i32>()[r] * groups / c.global_batch;
  }
  double* sums(i64 g) const { return c.sync.as<double>() + g * record; }
  // mean then inverse deviation
  double* saved(i64 g) const { return reinterpret_cast<double*>(c.saved.data) + g * 2 * channels; }
  // A shard's own sums, in scratch: like sync.
  double* part(i64 shard) const {
    return reinterpret_cast<double*>(c.scratch.data) + shard * groups * record;
  }
  // dy of the vector at `first` before the activation; `shard` lends the memory.
  const float* d_before(const Context& x, i64 shard, i64 first) const {
    const float* dy = real(c.d_out[0]) + first;
    if (op.activation == Activation::none) return dy;
    float* d = reinterpret_cast<float*>(part(x.threads)) + shard * padded(channels);
    activate_back(x, op.activation, d, dy, real(c.out[0]) + first, channels);
    return d;
  }
  // use(first element) of every vector of channels among the valid steps of row r.
  template <class Use>
  void vectors(i64 r, Use use) const {
    const i64 n = row_size(c.in[0]);
    const bool ragged = !c.lengths.empty() && c.lengths[0].data;
    const i64 end = ragged ? steps_in(c, 0, r) * (n / c.in[0].shape[1]) : n;
    for (i64 first = r * n; first < r * n + end; first += channels) use(first);
  }
};

// sync = the sum, in shard order, of what add(shard, row, sums of its group) makes of the valid rows.
template <class Add>
void sum_rows(Context& x, const Groups& g, Add add) {
  const i64 n = g.groups * g.record;
  std::fill_n(g.part(0), x.threads * n, 0.0);
  sharded(x, valid_rows(g.c), [&](int shard, i64 first, i64 end) {
    for (i64 r = first; r < end; ++r) add(shard, r, g.part(shard) + g.of_row(r) * g.record);
  });
  std::copy_n(g.part(0), n, g.sums(0));
  for (i64 shard = 1; shard < x.threads; ++shard)
    for (i64 k = 0; k < n; ++k) g.sums(0)[k] += g.part(shard)[k];
}

void sum_groups(Context& x, const Groups& g) {
  sum_rows(x, g, [&](i64, i64 r, double* sums) {
    sums[0] += 1;
    g.vectors(r, [&](i64 first) {
      const float* in = real(g.c.in[0]) + first;
      double* squares = sums + 2 + g.channels;
      sums[1] += 1;
      for (i64 k = 0; k < g.channels; ++k) sums[2 + k] += in[k];
      for (i64 k = 0; k < g.channels; ++k) squares[k] += static_cast<double>(in[k]) * in[k];
    });
  });
}

bool owns(const Groups& g, i64 group) {
  const i64 batch = g.c.global_batch;
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

Needs needs(const Call& c, const BatchNorm& op, i64 threads) {
  Needs needs;
  const Groups g{c, op};
  needs.saved = g.groups * 2 * g.channels * size_of(DType::f64);
  needs.scratch = threads * (g.groups * g.record * size_of(DType::f64) +
                             padded(g.channels) * size_of(DType::f32));
  needs.phases = 2;
  needs.sync = {g.groups, g.record};
  return needs;
}

namespace {

// Mean and inverse deviation of the running statistics, where the batch's are not used.
void read_running(const Groups& g) {
  const i64 C = g.channels;
  for (i64 k = 0; k < C; ++k) {
    g.saved(0)[k] = real(g.c.param[2])[k];
    g.saved(0)[C + k] = 1 / std::sqrt(real(g.c.param[3])[k] + g.op.epsilon);
  }
}

// Sums of dy and dy * xhat, dy before the activation; they are the parameters' gradients as well.
void sum_gradients(Context& x, const Groups& g) {
  const i64 C = g.channels;
  sum_rows(x, g, [&](i64 shard, i64 r, double* sums) {
    const double* stats = g.saved(g.of_row(r));
    sums[0] += 1;
    g.vectors(r, [&](i64 first) {
      const float* in = real(g.c.in[0]) + first;
      const float* dy = g.d_before(x, shard, first);
      sums[1] += 1;
      for (i64 k = 0; k < C; ++k) sums[2 + k] += dy[k];
      for (i64 k = 0; k < C; ++k)
        sums[2 + C + k] += dy[k] * (in[k] - stats[k]) * stats[C + k];
    });
  });
  for (i64 group = 0; group < g.groups; ++group)
    for (i64 k = 0; k < C; ++k) {
      real(g.c.d_param[0])[k] += static_cast<float>(g.sums(group)[2 + C + k]);
      real(g.c.d_param[1])[k] += static_cast<float>(g.sums(group)[2 + k]);
    }
}

}  // namespace

void forward(Context& x, const Call& c, const BatchNorm& op) {
  const Groups g{c, op};
  const bool training = c.training;
  if (training && c.phase == 0) return sum_groups(x, g);
  training ? finish_statistics(g) : read_running(g);
  const i64 C = g.channels;
  sharded(x, valid_rows(c), [&](int, i64 begin, i64 end) {
    for (i64 r = begin; r < end; ++r) {
      const double* stats = g.saved(training ? g.of_row(r) : 0);
      g.vectors(r, [&](i64 first) {
        const float* in = real(c.in[0]) + first;
        float* out = real(c.out[0]) + first;
        for (i64 k = 0; k < C; ++k)
          out[k] = static_cast<float>((in[k] - stats[k]) * stats[C + k] * real(c.param[0])[k] +
                                      real(c.param[1])[k]);
        activate(x, op.activation, out, C);
      });
    }
  });
}

void backward(Context& x, const Call& c, const BatchNorm& op) {
  const Groups g{c, op};
  const i64 C = g.channels;
  if (c.phase == 0) return sum_gradients(x, g);
  if (!begin_gradient(c, 0)) return;
  sharded(x, valid_rows(c), [&](int shard, i64 begin, i64 end) {
    for (i64 r = begin; r < end; ++r) {
      const double* sums = g.sums(g.of_row(r));
      const double* stats = g.saved(g.of_row(r));
      const double share = 1 / sums[1];
      g.vectors(r, [&](i64 first) {
        const float* in = real(c.in[0]) + first;
        const float* dy = g.d_before(x, shard, first);
        float* d_in = real(c.d_in[0]) + first;
        for (i64 k = 0; k < C; ++k) {
          const double xhat = (in[k] - stats[k]) * stats[C + k];
          const double centred = dy[k] - (sums[2 + k] + xhat * sums[2 + C + k]) * share;
          d_in[k] += static_cast<float>(real(c.param[0])[k] * stats[C + k] * centred);
        }
      });
    }
  });
}

}  // namespace cohort::cpu
