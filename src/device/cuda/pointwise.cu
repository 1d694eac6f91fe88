// Element by element: sums with activation, dropout, concatenation, inner products.
#include "base/philox.h"
#include "device/cuda/common.cuh"

namespace cohort::cuda {
namespace {

__device__ bool at_valid_step(const Steps& steps, i64 row, i64 at) {
  const i64 r = quotient(at, row), step = quotient(at - r * row, quotient(row, steps.capacity));
  return step < steps_in(steps, r);
}

template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    sum_kernel(RowCount rows, i64 row, Steps steps, const void* const* in, int inputs, T* out,
               Activation activation) {
  const i64 end = rows.rows * row, used = valid_of(rows) * row;
  for (i64 at = first_index() * width; at < end; at += index_step() * width) {
    float sum[width] = {};
    for (int i = 0; i < inputs && at < used; ++i) {
      const auto x = load_pack<width>(static_cast<const T*>(in[i]), at, used);
      for (int k = 0; k < width; ++k) sum[k] += to_float(x.lane[k]);
    }
    for (int k = 0; k < width; ++k) {
      const bool valid = at + k < used && (!steps.lengths || at_valid_step(steps, row, at + k));
      sum[k] = valid ? activate(activation, sum[k]) : 0;
    }
    put_pack(out, false, at, end, sum);
  }
}

// One thread serves all inputs of an element in turn, so that one may come twice.
template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    sum_back_kernel(RowCount rows, i64 row, const Gradient* d_in, int inputs, const T* d_out,
                    const T* out, Activation activation) {
  const i64 end = rows.rows * row, used = valid_of(rows) * row;
  for (i64 at = first_index() * width; at < end; at += index_step() * width) {
    float d[width] = {};
    if (at < used) {
      const auto dy = load_pack<width>(d_out, at, used);
      for (int k = 0; k < width; ++k) d[k] = to_float(dy.lane[k]);
    }
    if (at < used && activation != Activation::none) {
      const auto y = load_pack<width>(out, at, used);
      for (int k = 0; k < width; ++k) d[k] *= slope(activation, to_float(y.lane[k]));
    }
    for (int i = 0; i < inputs; ++i) {
      if (!d_in[i].data) continue;
      float x[width];
      for (int k = 0; k < width; ++k) x[k] = d[k];
      put_pack(static_cast<T*>(d_in[i].data), d_in[i].accumulate, at, end, x);
    }
  }
}

// A thread treats the four elements of a row that share one draw of random bits.
template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    dropout_kernel(RowCount rows, i64 row, const T* in, T* out, bool accumulate,
                   DropoutMask mask) {
  const i64 quads = (row + 3) / 4, valid = valid_of(rows);
  const u64 key = mix_keys(mix_keys(mask.seed, static_cast<u64>(*mask.epoch)), mask.layer);
  for (i64 i = first_index(); i < rows.rows * quads; i += index_step()) {
    const i64 r = quotient(i, quads), quad = i - r * quads;
    const i64 first = r * row + quad * 4, end = (r + 1) * row;
    PhiloxBlock bits{};
    if (r < valid)
      bits = philox_block(key, static_cast<u64>(mask.row_id[r]), static_cast<u64>(quad));
    for (int part = 0; part < 4; part += width) {
      const i64 at = first + part;
      if (at >= end) break;
      float x[width] = {};
      Pack<T, width> from{};
      if (r < valid) from = load_pack<width>(in, at, end);
      for (int k = 0; k < width; ++k)
        if (r < valid && bits.word[part + k] >= mask.threshold)
          x[k] = mask.factor * to_float(from.lane[k]);
      put_pack(out, accumulate, at, end, x);
    }
  }
}

// The part that holds column `column`; `count` if none does.
__device__ int part_of(const ConcatPart* parts, int count, i64 column) {
  int k = 0;
  while (k < count && (column < parts[k].offset || column >= parts[k].offset + parts[k].width)) ++k;
  return k;
}

template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    concat_kernel(RowCount rows, i64 row, Concatenation c, T* out) {
  const i64 end = rows.rows * row, used = valid_of(rows) * row, vector = row / c.vectors;
  for (i64 at = first_index() * width; at < end; at += index_step() * width) {
    Pack<T, width> x{};
    if (at < used) {
      const i64 v = quotient(at, vector), column = at - v * vector;
      const ConcatPart& part = c.parts[part_of(c.parts, c.count, column)];
      const T* in = static_cast<const T*>(part.in) + v * part.width + column - part.offset;
      x = load_pack<width>(in, 0, width);
    }
    store_pack(out, at, end, x);
  }
}

template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    concat_back_kernel(RowCount rows, i64 row, Concatenation c, const T* d_out) {
  const i64 end = rows.rows * row, used = valid_of(rows) * row, vector = row / c.vectors;
  for (i64 at = first_index() * width; at < end; at += index_step() * width) {
    const i64 v = quotient(at, vector), column = at - v * vector;
    const int k = part_of(c.parts, c.count, column);
    if (k == c.count || !c.parts[k].d_in.data) continue;
    const ConcatPart& part = c.parts[k];
    float x[width] = {};
    if (at < used) {
      const auto dy = load_pack<width>(d_out, at, end);
      for (int j = 0; j < width; ++j) x[j] = to_float(dy.lane[j]);
    }
    T* to = static_cast<T*>(part.d_in.data) + v * part.width + column - part.offset;
    put_pack(to, part.d_in.accumulate, 0, width, x);
  }
}

// One warp per row.
template <class T>
__global__ void __launch_bounds__(block_threads)
    dot_kernel(RowCount rows, i64 row, const T* a, const T* b, T* out) {
  const i64 valid = valid_of(rows);
  for (i64 r = first_index() / 32; r < rows.rows; r += index_step() / 32) {
    float sum = 0;
    for (i64 k = threadIdx.x % 32; r < valid && k < row; k += 32)
      sum += to_float(a[r * row + k]) * to_float(b[r * row + k]);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) out[r] = from_float<T>(sum);
  }
}

template <class T, int width>
__device__ void scale_into(const Gradient& to, const T* from, float factor, i64 at, i64 end,
                           bool used) {
  if (!to.data) return;
  float x[width] = {};
  if (used) {
    const auto pack = load_pack<width>(from, at, end);
    for (int k = 0; k < width; ++k) x[k] = factor * to_float(pack.lane[k]);
  }
  put_pack(static_cast<T*>(to.data), to.accumulate, at, end, x);
}

template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    dot_back_kernel(RowCount rows, i64 row, const T* a, const T* b, const T* d_out, Gradient d_a,
                    Gradient d_b) {
  const i64 end = rows.rows * row, used = valid_of(rows) * row;
  for (i64 at = first_index() * width; at < end; at += index_step() * width) {
    const float d = at < used ? to_float(d_out[quotient(at, row)]) : 0;
    scale_into<T, width>(d_a, b, d, at, end, at < used);
    scale_into<T, width>(d_b, a, d, at, end, at < used);
  }
}

unsigned grid_for(const Values& v, int width) {
  return blocks_for((v.rows.rows * v.row + width - 1) / width, block_threads);
}

}  // namespace

void sum_forward(cudaStream_t s, const Values& v, const Steps& steps, const void* const* in,
                 int inputs, void* out, Activation activation) {
  with_packs(v.type, 8, [&](auto zero, auto width) {
    using T = decltype(zero);
    launch(s, sum_kernel<T, width()>, grid_for(v, width), block_threads, 0, v.rows, v.row, steps,
           in, inputs, static_cast<T*>(out), activation);
  });
}

void sum_backward(cudaStream_t s, const Values& v, const Gradient* d_in, int inputs,
                  const void* d_out, const void* out, Activation activation) {
  with_packs(v.type, 8, [&](auto zero, auto width) {
    using T = decltype(zero);
    launch(s, sum_back_kernel<T, width()>, grid_for(v, width), block_threads, 0, v.rows, v.row,
           d_in, inputs, static_cast<const T*>(d_out), static_cast<const T*>(out), activation);
  });
}

void dropout(cudaStream_t s, const Values& v, const void* in, const Gradient& out,
             const DropoutMask& mask) {
  with_type(v.type, [&](auto zero) {
    using T = decltype(zero);
    const auto kernel = v.row % 4 == 0 ? dropout_kernel<T, 4> : dropout_kernel<T, 1>;
    launch(s, kernel, blocks_for(v.rows.rows * ((v.row + 3) / 4), block_threads), block_threads, 0,
           v.rows, v.row, static_cast<const T*>(in), static_cast<T*>(out.data), out.accumulate,
           mask);
  });
}

void concat_forward(cudaStream_t s, const Values& v, const Concatenation& c, void* out) {
  with_packs(v.type, c.multiple, [&](auto zero, auto width) {
    using T = decltype(zero);
    launch(s, concat_kernel<T, width()>, grid_for(v, width), block_threads, 0, v.rows, v.row, c,
           static_cast<T*>(out));
  });
}

void concat_backward(cudaStream_t s, const Values& v, const Concatenation& c, const void* d_out) {
  with_packs(v.type, c.multiple, [&](auto zero, auto width) {
    using T = decltype(zero);
    launch(s, concat_back_kernel<T, width()>, grid_for(v, width), block_threads, 0, v.rows, v.row,
           c, static_cast<const T*>(d_out));
  });
}

void dot_forward(cudaStream_t s, const Values& v, const void* a, const void* b, void* out) {
  with_type(v.type, [&](auto zero) {
    using T = decltype(zero);
    launch(s, dot_kernel<T>, blocks_for(v.rows.rows * 32, block_threads), block_threads, 0, v.rows,
           v.row, static_cast<const T*>(a), static_cast<const T*>(b), static_cast<T*>(out));
  });
}

void dot_backward(cudaStream_t s, const Values& v, const void* a, const void* b, const void* d_out,
                  const Gradient& d_a, const Gradient& d_b) {
  with_packs(v.type, v.row, [&](auto zero, auto width) {
    using T = decltype(zero);
    launch(s, dot_back_kernel<T, width()>, grid_for(v, width), block_threads, 0, v.rows, v.row,
           static_cast<const T*>(a), static_cast<const T*>(b), static_cast<const T*>(d_out), d_a,
           d_b);
  });
}

}  // namespace cohort::cuda
