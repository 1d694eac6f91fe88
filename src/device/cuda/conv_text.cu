// The way back of convolutions with their max over time: each filter of a row has one window, so
// that gradients are sums of few windows. Dense gradients of the places are never formed.
#include "device/cuda/common.cuh"
#include "device/cuda/kernels_products.h"

namespace cohort::cuda {
namespace {

constexpr int lines = block_threads / 32;

// A block takes 32 packs of one filter's window; its lines share the rows.
template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    weight_kernel(Windowed v, const T* in, float* d_weight) {
  STATIC_SHARED(float, sums, [lines][32 * width]);
  const i64 filter = blockIdx.x, window = v.width * v.features;
  const i64 column = (static_cast<i64>(blockIdx.y) * 32 + threadIdx.x) * width;
  float sum[width] = {};
  for (i64 row = threadIdx.y; column < window && row < v.rows; row += lines) {
    const i32 first = v.first[row * v.filters + filter];
    const float d = to_float(static_cast<const T*>(v.dz)[row * v.filters + filter]);
    if (first < 0 || d == 0) continue;
    const i64 at = (row * v.steps + first) * v.features + column;
    const auto x = load_pack<width>(in, at, at + width);
    for (int k = 0; k < width; ++k) sum[k] += d * to_float(x.lane[k]);
  }
  for (int k = 0; k < width; ++k) sums[threadIdx.y][threadIdx.x * width + k] = sum[k];
  __syncthreads();
  for (int k = 0; k < width && threadIdx.y == 0 && column < window; ++k) {
    float total = 0;
    for (int line = 0; line < lines; ++line) total += sums[line][threadIdx.x * width + k];
    d_weight[filter * window + column + k] += total;
  }
}

// The filters of a row whose windows meet a tile of steps, in their order.
struct Met {
  i32 filter, first;
  float d;
};

constexpr int steps_of_line = 4, steps_of_tile = lines * steps_of_line;

// Looks at the filters from `from` on, one a thread; returns the number of those found. May be called
// again at once: `counts` was read before its last barrier, `met` is written after its first.
template <class T>
__device__ int find_windows(const Windowed& v, i64 row, i64 from, i64 tile, Met* met, int* counts) {
  const int thread = static_cast<int>(threadIdx.y * 32 + threadIdx.x);
  const i64 filter = from + thread;
  Met mine{static_cast<i32>(filter), -1, 0};
  if (filter < v.filters) mine.first = v.first[row * v.filters + filter];
  const bool meets =
      mine.first >= 0 && mine.first < tile + steps_of_tile && mine.first + v.width > tile;
  if (meets) mine.d = to_float(static_cast<const T*>(v.dz)[row * v.filters + filter]);
  const unsigned lanes = __ballot_sync(all_lanes, meets);
  if (threadIdx.x == 0) counts[threadIdx.y] = __popc(lanes);
  __syncthreads();
  int at = __popc(lanes & ((1u << threadIdx.x) - 1)), found = 0;
  for (int line = 0; line < lines; ++line) {
    if (line < static_cast<int>(threadIdx.y)) at += counts[line];
    found += counts[line];
  }
  if (meets) met[at] = mine;
  __syncthreads();
  return found;
}

// Blocks: a row, a tile of steps (each line takes every eighth of them), 32 packs of features.
template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    input_kernel(Windowed v, const T* weight, T* d_in, bool accumulate) {
  STATIC_SHARED(Met, met, [block_threads]);
  STATIC_SHARED(int, counts, [lines]);
  const i64 row = blockIdx.x, tile = static_cast<i64>(blockIdx.y) * steps_of_tile;
  const i64 column = (static_cast<i64>(blockIdx.z) * 32 + threadIdx.x) * width;
  float sum[steps_of_line][width] = {};
  for (i64 from = 0; from < v.filters; from += block_threads) {
    const int found = find_windows<T>(v, row, from, tile, met, counts);
    for (int m = 0; m < found && column < v.features; ++m) {
      for (int k = 0; k < steps_of_line; ++k) {
        const i64 tap = tile + k * lines + threadIdx.y - met[m].first;
        if (tap < 0 || tap >= v.width) continue;
        const i64 at = (met[m].filter * v.width + tap) * v.features + column;
        const auto w = load_pack<width>(weight, at, at + width);
        for (int j = 0; j < width; ++j) sum[k][j] += met[m].d * to_float(w.lane[j]);
      }
    }
  }
  for (int k = 0; k < steps_of_line && column < v.features; ++k) {
    const i64 step = tile + k * lines + threadIdx.y;
    const i64 at = (row * v.steps + step) * v.features + column;
    if (step < v.steps) put_pack(d_in, accumulate, at, at + width, sum[k]);
  }
}

// run(T{}, width) with the widest packs that divide the features.
template <class Run>
void with_features(const Windowed& v, Run run) {
  with_type(v.type, [&](auto zero) {
    if constexpr (sizeof(zero) == 2)
      if (v.features % 8 == 0) return run(zero, std::integral_constant<int, 8>{});
    if (v.features % 4 == 0) return run(zero, std::integral_constant<int, 4>{});
    run(zero, std::integral_constant<int, 1>{});
  });
}

unsigned groups(i64 n, i64 size) { return static_cast<unsigned>((n + size - 1) / size); }

}  // namespace

void windowed_weight_gradient(cudaStream_t s, const Windowed& v, const void* in, float* d_weight) {
  with_features(v, [&](auto zero, auto width) {
    using T = decltype(zero);
    const dim3 grid(static_cast<unsigned>(v.filters), groups(v.width * v.features, 32 * width()));
    launch(s, weight_kernel<T, width()>, grid, dim3(32, lines), 0, v, static_cast<const T*>(in),
           d_weight);
  });
}

void windowed_input_gradient(cudaStream_t s, const Windowed& v, const void* weight,
                             const Gradient& d_in) {
  with_features(v, [&](auto zero, auto width) {
    using T = decltype(zero);
    const dim3 grid(static_cast<unsigned>(v.rows), groups(v.steps, steps_of_tile),
                    groups(v.features, 32 * width()));
    launch(s, input_kernel<T, width()>, grid, dim3(32, lines), 0, v, static_cast<const T*>(weight),
           static_cast<T*>(d_in.data), d_in.accumulate);
  });
}

}  // namespace cohort::cuda
