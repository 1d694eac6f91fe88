// Batch norm, channels last. A block treats a tile of channels of one group: lanes of packs of
// channels by lines of vectors, and its share of the group's vectors. Sums are taken in float about
// a value of the data, then joined in double, in an order that depends on the shapes alone.
#include "device/cuda/common.cuh"
#include "device/cuda/kernels_layers.h"

namespace cohort::cuda {
namespace {

constexpr i64 most_splits = 256;

struct Tiling {
  int lanes;      // packs of a tile; a power of two
  i64 tiles;
};
Tiling tiling_of(i64 channels, int width) {
  const i64 packs = channels / width;
  Tiling t{1, 1};
  while (t.lanes < 32 && t.lanes < packs) t.lanes *= 2;
  t.tiles = (packs + t.lanes - 1) / t.lanes;
  return t;
}

// Where a thread stands in its block.
struct Spot {
  int lane, line, lines;
  i64 channel;        // the first of its pack

  __device__ Spot(int lanes, int width)
      : lane(static_cast<int>(threadIdx.x) % lanes),
        line(static_cast<int>(threadIdx.x) / lanes),
        lines(block_threads / lanes),
        channel((static_cast<i64>(blockIdx.x) * lanes + lane) * width) {}
};

__device__ i64 first_position(const NormShape& n, i64 group) {
  return quotient(group * n.global_batch + n.groups - 1, n.groups);
}
__device__ i64 valid_vectors(const NormShape& n, i64 row) {
  return steps_in(n.steps, row) * n.vectors_per_step;
}
__device__ i64 row_vectors(const NormShape& n) { return n.steps.capacity * n.vectors_per_step; }

// Valid rows of a group: they lie in [first, end), others may be among them.
struct Found {
  i64 first, end, rows, vectors;

  __device__ void join(const Found& other) {
    if (other.rows == 0) return;
    if (rows == 0 || other.first < first) first = other.first;
    if (rows == 0 || other.end > end) end = other.end;
    rows += other.rows;
    vectors += other.vectors;
  }
};

struct Group {
  i64 from, to;                // positions
  Found found;

  __device__ bool holds(const NormShape& n, i64 row) const {
    return n.groups == 1 || (n.position[row] >= from && n.position[row] < to);
  }
};

__device__ Group find_group(const NormShape& n, i64 group) {
  STATIC_SHARED(Found, warps, [block_threads / 32]);
  const i64 valid = valid_of(n.rows);
  Group g{first_position(n, group), first_position(n, group + 1), {0, 0, 0, 0}};
  for (i64 r = threadIdx.x; r < valid; r += block_threads)
    if (g.holds(n, r)) g.found.join({r, r + 1, 1, valid_vectors(n, r)});
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const Found& f = g.found;
    g.found.join({__shfl_xor_sync(all_lanes, f.first, lanes),
                  __shfl_xor_sync(all_lanes, f.end, lanes),
                  __shfl_xor_sync(all_lanes, f.rows, lanes),
                  __shfl_xor_sync(all_lanes, f.vectors, lanes)});
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = g.found;
  __syncthreads();
  g.found = warps[0];
  for (int warp = 1; warp < block_threads / 32; ++warp) g.found.join(warps[warp]);
  return g;
}

// use(vector, whether it is valid) of this thread's vectors of the group.
template <class Use>
__device__ void each_vector(const NormShape& n, const Group& g, const Spot& spot, Use use) {
  const i64 per_row = row_vectors(n);
  const i64 total = (g.found.end - g.found.first) * per_row;
  const i64 share = quotient(total + n.splits - 1, n.splits), first = blockIdx.y * share;
  const i64 end = first + share < total ? first + share : total;
  for (i64 v = first + spot.line; v < end; v += spot.lines) {
    const i64 r = quotient(v, per_row), row = g.found.first + r;
    if (g.holds(n, row))
      use(g.found.first * per_row + v, v - r * per_row < valid_vectors(n, row));
  }
}

// use(vector) of this thread's share of the padding rows.
template <class Use>
__device__ void each_padding(const NormShape& n, const Spot& spot, Use use) {
  const i64 blocks = n.groups * n.splits, block = blockIdx.z * n.splits + blockIdx.y;
  const i64 first = valid_of(n.rows) * row_vectors(n), end = n.rows.rows * row_vectors(n);
  for (i64 v = first + block * spot.lines + spot.line; v < end; v += blocks * spot.lines) use(v);
}

// Two sums of each channel, of the whole group, in sync: threads, then lines, then splits. True in
// the last block of the group's tile, where they are complete.
template <int width>
__device__ bool add_up(const NormShape& n, const NormMemory& m, const Spot& spot,
                       const double (&mine)[2][width]) {
  STATIC_SHARED(double, columns, [block_threads * width * 2]);
  const int lanes = block_threads / spot.lines, tile = lanes * width;
  const i64 group = blockIdx.z, first = static_cast<i64>(blockIdx.x) * tile;
  for (int stat = 0; stat < 2; ++stat)
    for (int k = 0; k < width; ++k)
      columns[(stat * spot.lines + spot.line) * tile + spot.lane * width + k] = mine[stat][k];
  __syncthreads();
  const auto part = [&](i64 split, int stat) {
    return m.parts + ((group * n.splits + split) * 2 + stat) * n.channels + first;
  };
  const auto each_column = [&](auto use) {
    for (int k = static_cast<int>(threadIdx.x); k < 2 * tile; k += block_threads)
      if (first + k % tile < n.channels) use(k / tile, k % tile);
  };
  each_column([&](int stat, int column) {
    double sum = 0;
    for (int line = 0; line < spot.lines; ++line)
      sum += columns[(stat * spot.lines + line) * tile + column];
    part(blockIdx.y, stat)[column] = sum;
  });
  if (!last_block(m.counters + group * gridDim.x + blockIdx.x, gridDim.y)) return false;
  each_column([&](int stat, int column) {
    double sum = 0;
    for (i64 split = 0; split < n.splits; ++split) sum += part(split, stat)[column];
    m.sync[group * (2 + 2 * n.channels) + 2 + stat * n.channels + first + column] = sum;
  });
  return true;
}

// Also the numbers of rows and vectors.
__device__ void put_counts(const NormShape& n, const NormMemory& m, const Group& g) {
  if (blockIdx.x > 0 || threadIdx.x > 0) return;
  double* record = m.sync + blockIdx.z * (2 + 2 * n.channels);
  record[0] = static_cast<double>(g.found.rows);
  record[1] = static_cast<double>(g.found.vectors);
}

template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    moments_kernel(NormShape n, NormMemory m, int lanes, const T* in) {
  const Spot spot(lanes, width);
  const Group group = find_group(n, blockIdx.z);
  float about[width] = {}, sum[width] = {}, squares[width] = {};
  i64 count = 0;
  if (spot.channel < n.channels)
    each_vector(n, group, spot, [&](i64 vector, bool valid) {
      if (!valid) return;
      const i64 at = vector * n.channels + spot.channel;
      const auto x = load_pack<width>(in, at, at + width);
      for (int k = 0; k < width; ++k) {
        if (count == 0) about[k] = to_float(x.lane[k]);
        const float d = to_float(x.lane[k]) - about[k];
        sum[k] += d;
        squares[k] += d * d;
      }
      ++count;
    });
  double sums[2][width];
  for (int k = 0; k < width; ++k) {
    const double a = about[k], s = sum[k], c = static_cast<double>(count);
    sums[0][k] = s + c * a;
    sums[1][k] = squares[k] + 2 * a * s + c * a * a;
  }
  if (add_up(n, m, spot, sums)) put_counts(n, m, group);
}

struct Moments {
  double rows, vectors, mean, variance;   // the biased one
};
__device__ Moments moments_of(const NormShape& n, const NormMemory& m, i64 group, i64 channel) {
  const double* record = m.sync + group * (2 + 2 * n.channels);
  Moments s{record[0], record[1], 0, 0};
  if (s.vectors == 0) return s;
  s.mean = record[2 + channel] / s.vectors;
  s.variance = record[2 + n.channels + channel] / s.vectors - s.mean * s.mean;
  if (s.variance < 0) s.variance = 0;
  return s;
}

// Channels of this block's tile, one per thread.
template <class Use>
__device__ void each_channel(const NormShape& n, int tile, Use use) {
  const int k = static_cast<int>(threadIdx.x);
  const i64 channel = static_cast<i64>(blockIdx.x) * tile + k;
  if (k < tile && channel < n.channels) use(k, channel);
}

// Adds what each group that begins among this rank's rows brings to the running statistics.
__device__ void add_running(const NormShape& n, const NormMemory& m, int tile,
                            const NormGradients& to) {
  const i64 channel = static_cast<i64>(blockIdx.x) * tile + threadIdx.x;
  const bool used = static_cast<int>(threadIdx.x) < tile && channel < n.channels;
  const i64 lane = threadIdx.x % 32;
  double mean = 0, variance = 0;
  for (i64 first = 0; first < n.rows.rows; first += 32) {
    const i64 p = first + lane < n.rows.rows ? n.position[first + lane] : -1;
    const i64 group = p < 0 ? 0 : quotient(p * n.groups, n.global_batch);
    const u32 begins = __ballot_sync(all_lanes, p >= 0 && first_position(n, group) == p);
    for (int k = 0; k < 32; ++k) {
      if (!(begins >> k & 1)) continue;
      const i64 g = __shfl_sync(all_lanes, group, k);
      if (!used) continue;
      const Moments s = moments_of(n, m, g, channel);
      mean += s.rows * s.mean;
      variance += s.rows * s.variance * (s.vectors > 1 ? s.vectors / (s.vectors - 1) : 1);
    }
  }
  if (!used) return;
  to.running[channel] += static_cast<float>(mean);
  to.running_variance[channel] += static_cast<float>(variance);
}

// Blocks beyond the splits add up the running statistics.
template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    normalise_kernel(NormShape n, NormMemory m, int lanes, const T* in, T* out, NormGradients to) {
  STATIC_SHARED(float, means, [32 * width]);
  STATIC_SHARED(float, scales, [32 * width]);
  if (blockIdx.y == n.splits) {
    if (blockIdx.z == 0) add_running(n, m, lanes * width, to);
    return;
  }
  const Spot spot(lanes, width);
  each_channel(n, lanes * width, [&](int k, i64 channel) {
    Moments s{};
    if (!m.running) s = moments_of(n, m, blockIdx.z, channel);
    if (m.running) s.mean = m.running[channel];
    if (m.running) s.variance = m.running_variance[channel];
    const auto inverse = static_cast<float>(1 / sqrt(s.variance + n.epsilon));
    means[k] = static_cast<float>(s.mean);
    scales[k] = inverse * m.weight[channel];
    if (m.running || blockIdx.y > 0) return;
    m.saved[2 * blockIdx.z * n.channels + channel] = means[k];
    m.saved[(2 * blockIdx.z + 1) * n.channels + channel] = inverse;
  });
  const Group group = find_group(n, blockIdx.z);   // all threads have met
  if (spot.channel >= n.channels) return;
  const auto bias = load_pack<width>(m.bias, spot.channel, n.channels);
  const Pack<T, width> zeros{};
  each_vector(n, group, spot, [&](i64 vector, bool valid) {
    const i64 at = vector * n.channels + spot.channel;
    if (!valid) return store_pack(out, at, at + width, zeros);
    const auto x = load_pack<width>(in, at, at + width);
    Pack<T, width> y;
    for (int k = 0; k < width; ++k) {
      const int c = spot.lane * width + k;
      const float value = (to_float(x.lane[k]) - means[c]) * scales[c] + bias.lane[k];
      y.lane[k] = from_float<T>(activate(n.activation, value));
    }
    store_pack(out, at, at + width, y);
  });
  each_padding(n, spot, [&](i64 vector) {
    const i64 at = vector * n.channels + spot.channel;
    store_pack(out, at, at + width, zeros);
  });
}

// dy before the activation.
template <int width, class T>
__device__ void load_gradient(const NormShape& n, const T* d_out, const T* out, i64 at,
                              float (&d)[width]) {
  const auto dy = load_pack<width>(d_out, at, at + width);
  for (int k = 0; k < width; ++k) d[k] = to_float(dy.lane[k]);
  if (n.activation == Activation::none) return;
  const auto y = load_pack<width>(out, at, at + width);
  for (int k = 0; k < width; ++k) d[k] *= slope(n.activation, to_float(y.lane[k]));
}

// The parameters' gradients are the sums over this rank's groups; the last block of a tile knows
// them all.
__device__ void add_parameters(const NormShape& n, const NormMemory& m, int tile,
                               const NormGradients& to) {
  const i64 first = static_cast<i64>(gridDim.z) * gridDim.x;
  if (!last_block(m.counters + first + blockIdx.x, gridDim.z)) return;
  each_channel(n, tile, [&](int, i64 channel) {
    double sum = 0, sum_xhat = 0;
    for (i64 group = 0; group < n.groups; ++group) {
      const double* sums = m.sync + group * (2 + 2 * n.channels) + 2;
      sum += sums[channel];
      sum_xhat += sums[n.channels + channel];
    }
    to.weight[channel] += static_cast<float>(sum_xhat);
    to.bias[channel] += static_cast<float>(sum);
  });
}

template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    gradient_sums_kernel(NormShape n, NormMemory m, int lanes, const T* in, const T* out,
                         const T* d_out, NormGradients to) {
  const Spot spot(lanes, width);
  const Group group = find_group(n, blockIdx.z);
  double sums[2][width] = {};
  if (spot.channel < n.channels) {
    const float* saved = m.saved + 2 * blockIdx.z * n.channels + spot.channel;
    const auto mean = load_pack<width>(saved, 0, width);
    const auto inverse = load_pack<width>(saved + n.channels, 0, width);
    float sum[width] = {}, sum_xhat[width] = {};
    each_vector(n, group, spot, [&](i64 vector, bool valid) {
      if (!valid) return;
      const i64 at = vector * n.channels + spot.channel;
      const auto x = load_pack<width>(in, at, at + width);
      float d[width];
      load_gradient(n, d_out, out, at, d);
      for (int k = 0; k < width; ++k) {
        sum[k] += d[k];
        sum_xhat[k] += d[k] * ((to_float(x.lane[k]) - mean.lane[k]) * inverse.lane[k]);
      }
    });
    for (int k = 0; k < width; ++k) {
      sums[0][k] = sum[k];
      sums[1][k] = sum_xhat[k];
    }
  }
  if (!add_up(n, m, spot, sums)) return;
  put_counts(n, m, group);
  add_parameters(n, m, lanes * width, to);
}

// dx = scale * (dy - mean dy - xhat * mean (dy * xhat)), of a channel in a group.
struct Backward {
  float mean, inverse, scale, mean_dy, mean_dy_xhat;
};

template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    backward_kernel(NormShape n, NormMemory m, int lanes, const T* in, const T* out,
                    const T* d_out, T* d_in, bool accumulate) {
  STATIC_SHARED(Backward, channels, [32 * width]);
  const Spot spot(lanes, width);
  each_channel(n, lanes * width, [&](int k, i64 channel) {
    const double* record = m.sync + blockIdx.z * (2 + 2 * n.channels);
    const float* saved = m.saved + 2 * blockIdx.z * n.channels + channel;
    const double share = record[1] > 0 ? 1 / record[1] : 0;
    channels[k] = {saved[0], saved[n.channels], saved[n.channels] * m.weight[channel],
                   static_cast<float>(record[2 + channel] * share),
                   static_cast<float>(record[2 + n.channels + channel] * share)};
  });
  const Group group = find_group(n, blockIdx.z);   // all threads have met
  if (spot.channel >= n.channels) return;
  each_vector(n, group, spot, [&](i64 vector, bool valid) {
    const i64 at = vector * n.channels + spot.channel;
    float d[width] = {};
    if (valid) {
      const auto x = load_pack<width>(in, at, at + width);
      load_gradient(n, d_out, out, at, d);
      for (int k = 0; k < width; ++k) {
        const Backward& b = channels[spot.lane * width + k];
        const float xhat = (to_float(x.lane[k]) - b.mean) * b.inverse;
        d[k] = b.scale * (d[k] - b.mean_dy - xhat * b.mean_dy_xhat);
      }
    }
    put_pack(d_in, accumulate, at, at + width, d);
  });
  each_padding(n, spot, [&](i64 vector) {
    const i64 at = vector * n.channels + spot.channel;
    float d[width] = {};
    put_pack(d_in, accumulate, at, at + width, d);
  });
}

// run(T{}, width, lanes, grid)
template <class Run>
void with_grid(const NormShape& n, i64 more_blocks, Run run) {
  with_packs(n.type, n.channels, [&](auto zero, auto width) {
    const Tiling t = tiling_of(n.channels, width);
    const dim3 grid(static_cast<unsigned>(t.tiles), static_cast<unsigned>(n.splits + more_blocks),
                    static_cast<unsigned>(n.groups));
    run(zero, width, t.lanes, grid);
  });
}

Tiling tiling_of(const NormShape& n) {
  Tiling t{};
  with_packs(n.type, n.channels, [&](auto, auto width) { t = tiling_of(n.channels, width); });
  return t;
}

}  // namespace

i64 norm_splits(const NormShape& n, i64 processors) {
  const Tiling t = tiling_of(n);
  const i64 largest = (n.global_batch + n.groups - 1) / n.groups;
  const i64 rows = largest < n.rows.rows ? largest : n.rows.rows;
  const i64 vectors = rows * n.steps.capacity * n.vectors_per_step;
  const i64 lines = block_threads / t.lanes;
  const i64 useful = (vectors + 4 * lines - 1) / (4 * lines);
  const i64 wanted = 4 * processors / (t.tiles * n.groups);
  const i64 splits = wanted < useful ? wanted : useful;
  return splits < 1 ? 1 : splits < most_splits ? splits : most_splits;
}
i64 norm_parts_bytes(const NormShape& n) {
  return n.groups * n.splits * 2 * n.channels * static_cast<i64>(sizeof(double));
}
i64 norm_counters(const NormShape& n) { return (n.groups + 1) * tiling_of(n).tiles; }

void norm_moments(cudaStream_t s, const NormShape& n, const NormMemory& m, const void* in) {
  with_grid(n, 0, [&](auto zero, auto width, int lanes, dim3 grid) {
    using T = decltype(zero);
    launch(s, moments_kernel<T, width()>, grid, block_threads, 0, n, m, lanes,
           static_cast<const T*>(in));
  });
}

void norm_forward(cudaStream_t s, const NormShape& n, const NormMemory& m, const void* in,
                  void* out, const NormGradients& to) {
  with_grid(n, to.running ? 1 : 0, [&](auto zero, auto width, int lanes, dim3 grid) {
    using T = decltype(zero);
    launch(s, normalise_kernel<T, width()>, grid, block_threads, 0, n, m, lanes,
           static_cast<const T*>(in), static_cast<T*>(out), to);
  });
}

void norm_gradient_sums(cudaStream_t s, const NormShape& n, const NormMemory& m,
                        const NormValues& v, const NormGradients& to) {
  with_grid(n, 0, [&](auto zero, auto width, int lanes, dim3 grid) {
    using T = decltype(zero);
    launch(s, gradient_sums_kernel<T, width()>, grid, block_threads, 0, n, m, lanes,
           static_cast<const T*>(v.in), static_cast<const T*>(v.out),
           static_cast<const T*>(v.d_out), to);
  });
}

void norm_backward(cudaStream_t s, const NormShape& n, const NormMemory& m, const NormValues& v,
                   const Gradient& d_in) {
  with_grid(n, 0, [&](auto zero, auto width, int lanes, dim3 grid) {
    using T = decltype(zero);
    launch(s, backward_kernel<T, width()>, grid, block_threads, 0, n, m, lanes,
           static_cast<const T*>(v.in), static_cast<const T*>(v.out),
           static_cast<const T*>(v.d_out), static_cast<T*>(d_in.data), d_in.accumulate);
  });
}

}  // namespace cohort::cuda
