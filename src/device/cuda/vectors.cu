// What products leave to us: bias, activation, zeros at what is not valid, and the way back.
#include "device/cuda/common.cuh"
#include "device/cuda/kernels_products.h"

namespace cohort::cuda {
namespace {

constexpr int lines = block_threads / 32;   // vectors that a block treats at a time

__device__ bool is_valid(const Vectors& v, i64 vector, i64 valid_rows) {
  const i64 row = quotient(vector, v.per_row);
  if (row >= valid_rows) return false;
  if (!v.steps.lengths) return true;
  return quotient(vector - row * v.per_row, v.per_step) < steps_in(v.steps, row);
}

template <class T, int width>
__global__ void __launch_bounds__(block_threads) clear_kernel(Vectors v, T* data) {
  const i64 packs = v.width / width, end = v.count() * packs, valid = valid_of(v.rows);
  const i64 first = v.steps.lengths ? 0 : valid * v.per_row * packs;
  for (i64 i = first + first_index(); i < end; i += index_step()) {
    if (is_valid(v, quotient(i, packs), valid)) continue;
    store_pack(data, i * width, (i + 1) * width, Pack<T, width>{});
  }
}

template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    finish_kernel(Vectors v, T* data, const float* bias, Activation activation) {
  const i64 packs = v.width / width, end = v.count() * packs, valid = valid_of(v.rows);
  for (i64 i = first_index(); i < end; i += index_step()) {
    const i64 vector = quotient(i, packs), at = i * width, column = (i - vector * packs) * width;
    float x[width] = {};
    if (is_valid(v, vector, valid)) {
      const auto pack = load_pack<width>(data, at, at + width);
      for (int k = 0; k < width; ++k) {
        const float sum = to_float(pack.lane[k]) + (bias ? bias[column + k] : 0);
        x[k] = activate(activation, sum);
      }
    }
    put_pack(data, false, at, at + width, x);
  }
}

// The sum of the lines' values, in the threads of the first line.
template <int width>
__device__ void add_lines(float (*sums)[32 * width], float (&sum)[width]) {
  for (int k = 0; k < width; ++k) sums[threadIdx.y][threadIdx.x * width + k] = sum[k];
  __syncthreads();
  for (int k = 0; k < width && threadIdx.y == 0; ++k) {
    sum[k] = 0;
    for (int line = 0; line < lines; ++line) sum[k] += sums[line][threadIdx.x * width + k];
  }
}

// Columns of one tile, over the parts of all splits.
template <int width>
__device__ void add_parts(const Vectors& v, const VectorGradient& g, i64 column,
                          float (*sums)[32 * width]) {
  float sum[width] = {};
  for (unsigned part = threadIdx.y; column < v.width && part < gridDim.y; part += lines)
    for (int k = 0; k < width; ++k) sum[k] += g.parts[part * v.width + column + k];
  add_lines<width>(sums, sum);
  for (int k = 0; k < width && threadIdx.y == 0 && column < v.width; ++k)
    g.d_bias[column + k] += sum[k];
}

// Blocks of 32 packs by `lines` vectors; the grid is column tiles by splits of the vectors.
template <class T, int width>
__global__ void __launch_bounds__(block_threads) gradient_kernel(Vectors v, VectorGradient g) {
  STATIC_SHARED(float, sums, [lines][32 * width]);
  const i64 column = (static_cast<i64>(blockIdx.x) * 32 + threadIdx.x) * width;
  const i64 valid = valid_of(v.rows), step = static_cast<i64>(gridDim.y) * lines;
  float sum[width] = {};
  for (i64 i = static_cast<i64>(blockIdx.y) * lines + threadIdx.y;
       column < v.width && i < v.count(); i += step) {
    const i64 at = i * v.width + column;
    float d[width] = {};
    if (is_valid(v, i, valid)) {
      const auto dy = load_pack<width>(static_cast<const T*>(g.d_out), at, at + width);
      for (int k = 0; k < width; ++k) d[k] = to_float(dy.lane[k]);
      if (g.activation != Activation::none) {
        const auto y = load_pack<width>(static_cast<const T*>(g.out), at, at + width);
        for (int k = 0; k < width; ++k) d[k] *= slope(g.activation, to_float(y.lane[k]));
      }
    }
    for (int k = 0; k < width; ++k) sum[k] += d[k];
    if (g.dz) put_pack(static_cast<T*>(g.dz), false, at, at + width, d);
  }
  if (!g.d_bias) return;
  add_lines<width>(sums, sum);
  for (int k = 0; k < width && threadIdx.y == 0 && column < v.width; ++k)
    g.parts[blockIdx.y * v.width + column + k] = sum[k];
  if (last_block(g.counters + blockIdx.x, gridDim.y)) add_parts<width>(v, g, column, sums);
}

template <int width, class T>
__device__ void load_floats(const T* from, float (&x)[width]) {
  const auto pack = load_pack<width>(from, 0, width);
  for (int k = 0; k < width; ++k) x[k] = to_float(pack.lane[k]);
}

template <int width, class T>
__device__ void copy_stretch(float* values, T* copy, i64 first, i64 end, bool add_back) {
  for (i64 i = first + first_index() * width; i < end; i += index_step() * width) {
    float x[width];
    if (add_back) {
      load_floats(copy + i, x);
      put_pack(values, true, i, i + width, x);
    } else {
      load_floats(values + i, x);
      put_pack(copy, false, i, i + width, x);
    }
  }
}

struct CopyTable {
  ParameterCopy part[most_copies];
};
template <class T>
__global__ void __launch_bounds__(block_threads)
    copy_kernel(CopyTable table, int count, bool add_back) {
  for (int p = 0; p < count; ++p) {
    const ParameterCopy& part = table.part[p];
    T* copy = static_cast<T*>(part.copy);
    const auto at = reinterpret_cast<std::uintptr_t>(part.values) |
                    reinterpret_cast<std::uintptr_t>(copy);
    // Stretches of weight spaces begin anywhere.
    const i64 whole = at % 16 == 0 ? part.count / 4 * 4 : 0;
    copy_stretch<4>(part.values, copy, 0, whole, add_back);
    copy_stretch<1>(part.values, copy, whole, part.count, add_back);
  }
}

constexpr int add_width = 4;

template <class To, class From>
__global__ void __launch_bounds__(block_threads) add_kernel(To* to, const From* from, i64 count) {
  for (i64 i = first_index() * add_width; i < count; i += index_step() * add_width) {
    const auto pack = load_pack<add_width>(from, i, count);
    float x[add_width];
    for (int k = 0; k < add_width; ++k) x[k] = to_float(pack.lane[k]);
    put_pack(to, true, i, count, x);
  }
}

int widest(DType type, i64 width) {
  const int most = type == DType::f32 ? 4 : 8;
  return width % most == 0 ? most : 1;
}
unsigned tiles_of(const Vectors& v) {
  const i64 columns = 32 * widest(v.type, v.width);
  return static_cast<unsigned>((v.width + columns - 1) / columns);
}
// Enough blocks to fill the device; more vectors than that go to the same blocks.
unsigned splits_of(const Vectors& v) {
  constexpr i64 blocks = 512;
  const i64 most = (v.count() + lines - 1) / lines, wanted = blocks / tiles_of(v);
  return static_cast<unsigned>(wanted < 1 ? 1 : wanted < most ? wanted : most < 1 ? 1 : most);
}

void copy(cudaStream_t s, DType type, const ParameterCopy* parts, int count, bool add_back) {
  CopyTable table{};
  i64 most = 0;
  for (int p = 0; p < count; ++p) {
    table.part[p] = parts[p];
    most = parts[p].count > most ? parts[p].count : most;
  }
  with_type(type, [&](auto zero) {
    launch(s, copy_kernel<decltype(zero)>, blocks_for((most + 3) / 4, block_threads), block_threads, 0, table,
           count, add_back);
  });
}

}  // namespace

void finish_vectors(cudaStream_t s, const Vectors& v, void* data, const float* bias,
                    Activation activation) {
  with_packs(v.type, v.width, [&](auto zero, auto width) {
    using T = decltype(zero);
    const unsigned blocks = blocks_for(v.count() * v.width / width, block_threads);
    if (!bias && activation == Activation::none)
      launch(s, clear_kernel<T, width>, blocks, block_threads, 0, v, static_cast<T*>(data));
    else
      launch(s, finish_kernel<T, width>, blocks, block_threads, 0, v, static_cast<T*>(data), bias,
             activation);
  });
}

i64 gradient_parts(const Vectors& v) { return splits_of(v) * v.width; }
i64 gradient_counters(const Vectors& v) { return tiles_of(v); }

void gradient_of_vectors(cudaStream_t s, const Vectors& v, const VectorGradient& g) {
  with_packs(v.type, v.width, [&](auto zero, auto width) {
    launch(s, gradient_kernel<decltype(zero), width>, dim3(tiles_of(v), splits_of(v)),
           dim3(32, lines), 0, v, g);
  });
}

void copy_parameters(cudaStream_t s, DType type, const ParameterCopy* parts, int count) {
  copy(s, type, parts, count, false);
}
void add_gradients(cudaStream_t s, DType type, const ParameterCopy* parts, int count) {
  copy(s, type, parts, count, true);
}

void add_values(cudaStream_t s, DType to_type, void* to, DType from_type, const void* from,
                i64 count) {
  with_type(to_type, [&](auto a) {
    with_type(from_type, [&](auto b) {
      using To = decltype(a);
      using From = decltype(b);
      launch(s, add_kernel<To, From>, blocks_for((count + add_width - 1) / add_width, block_threads),
             block_threads, 0, static_cast<To*>(to), static_cast<const From*>(from), count);
    });
  });
}

}  // namespace cohort::cuda
