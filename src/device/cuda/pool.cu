// Pools. Gradients are gathered: an input asks the windows that cover it, in their order, so that
// nothing is added by two threads.
#include "device/cuda/common.cuh"
#include "device/cuda/kernels_layers.h"

namespace cohort::cuda {
namespace {

// A pack of channels at one place of an image.
struct Spot {
  i64 row, channel;
  i32 y, x;
};
__device__ Spot spot_of(i64 index, i64 packs, i32 width, i32 height, int pack_width) {
  Spot spot;
  const i64 place = quotient(index, packs), line = quotient(place, width);
  spot.channel = (index - place * packs) * pack_width;
  spot.x = static_cast<i32>(place - line * width);
  spot.row = quotient(line, height);
  spot.y = static_cast<i32>(line - spot.row * height);
  return spot;
}

struct Range {
  i32 first, end;
};
// Inputs of window `k` along one side.
__device__ Range inputs_of(i32 k, i32 size, i32 stride, i32 padding, i32 length) {
  const i32 first = k * stride - padding;
  return {first > 0 ? first : 0, first + size < length ? first + size : length};
}
// Windows that hold input `k`.
__device__ Range windows_of(i32 k, i32 size, i32 stride, i32 padding, i32 count) {
  const i32 from = k + padding - size + 1, to = (k + padding) / stride + 1;
  return {from > 0 ? (from + stride - 1) / stride : 0, to < count ? to : count};
}

template <class T, class Choice, int width>
__global__ void __launch_bounds__(block_threads)
    max_kernel(Windows w, const T* in, T* out, Choice* choice) {
  const i64 packs = w.channels / width, valid = valid_of(w.rows);
  const i64 count = w.rows.rows * w.out_height * w.out_width * packs;
  for (i64 i = first_index(); i < count; i += index_step()) {
    const Spot o = spot_of(i, packs, w.out_width, w.out_height, width);
    Pack<T, width> best{};
    Pack<Choice, width> where{};
    bool any = false;
    const Range ys = inputs_of(o.y, w.size_y, w.stride, w.padding, w.height);
    const Range xs = inputs_of(o.x, w.size_x, w.stride, w.padding, w.width);
    for (i32 y = ys.first; o.row < valid && y < ys.end; ++y) {
      for (i32 x = xs.first; x < xs.end; ++x) {
        const i64 at = ((o.row * w.height + y) * w.width + x) * w.channels + o.channel;
        const auto here = load_pack<width>(in, at, at + width);
        const i32 place = (y - (o.y * w.stride - w.padding)) * w.size_x + x -
                          (o.x * w.stride - w.padding);
        for (int k = 0; k < width; ++k) {
          if (any && !(to_float(here.lane[k]) > to_float(best.lane[k]))) continue;
          best.lane[k] = here.lane[k];
          where.lane[k] = static_cast<Choice>(place);
        }
        any = true;
      }
    }
    store_pack(out, i * width, (i + 1) * width, best);
    store_pack(choice, i * width, (i + 1) * width, where);
  }
}

template <class T, class Choice, int width>
__global__ void __launch_bounds__(block_threads)
    max_back_kernel(Windows w, const T* d_out, const Choice* choice, T* d_in, bool accumulate) {
  const i64 packs = w.channels / width, valid = valid_of(w.rows);
  const i64 count = w.rows.rows * w.height * w.width * packs;
  for (i64 i = first_index(); i < count; i += index_step()) {
    const Spot p = spot_of(i, packs, w.width, w.height, width);
    const Range ys = windows_of(p.y, w.size_y, w.stride, w.padding, w.out_height);
    const Range xs = windows_of(p.x, w.size_x, w.stride, w.padding, w.out_width);
    float d[width] = {};
    for (i32 y = ys.first; p.row < valid && y < ys.end; ++y) {
      for (i32 x = xs.first; x < xs.end; ++x) {
        const i64 at = ((p.row * w.out_height + y) * w.out_width + x) * w.channels + p.channel;
        const auto dy = load_pack<width>(d_out, at, at + width);
        const auto chosen = load_pack<width>(choice, at, at + width);
        const i32 place = (p.y - (y * w.stride - w.padding)) * w.size_x + p.x -
                          (x * w.stride - w.padding);
        for (int k = 0; k < width; ++k)
          if (static_cast<i32>(chosen.lane[k]) == place) d[k] += to_float(dy.lane[k]);
      }
    }
    put_pack(d_in, accumulate, i * width, (i + 1) * width, d);
  }
}

template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    average_kernel(Windows w, float share, const T* in, T* out) {
  const i64 packs = w.channels / width, valid = valid_of(w.rows);
  const i64 count = w.rows.rows * w.out_height * w.out_width * packs;
  for (i64 i = first_index(); i < count; i += index_step()) {
    const Spot o = spot_of(i, packs, w.out_width, w.out_height, width);
    const Range ys = inputs_of(o.y, w.size_y, w.stride, 0, w.height);
    const Range xs = inputs_of(o.x, w.size_x, w.stride, 0, w.width);
    float sum[width] = {};
    for (i32 y = ys.first; o.row < valid && y < ys.end; ++y) {
      for (i32 x = xs.first; x < xs.end; ++x) {
        const i64 at = ((o.row * w.height + y) * w.width + x) * w.channels + o.channel;
        const auto here = load_pack<width>(in, at, at + width);
        for (int k = 0; k < width; ++k) sum[k] += to_float(here.lane[k]);
      }
    }
    for (int k = 0; k < width; ++k) sum[k] *= share;
    put_pack(out, false, i * width, (i + 1) * width, sum);
  }
}

template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    average_back_kernel(Windows w, float share, const T* d_out, T* d_in, bool accumulate) {
  const i64 packs = w.channels / width, valid = valid_of(w.rows);
  const i64 count = w.rows.rows * w.height * w.width * packs;
  for (i64 i = first_index(); i < count; i += index_step()) {
    const Spot p = spot_of(i, packs, w.width, w.height, width);
    const Range ys = windows_of(p.y, w.size_y, w.stride, 0, w.out_height);
    const Range xs = windows_of(p.x, w.size_x, w.stride, 0, w.out_width);
    float d[width] = {};
    for (i32 y = ys.first; p.row < valid && y < ys.end; ++y) {
      for (i32 x = xs.first; x < xs.end; ++x) {
        const i64 at = ((p.row * w.out_height + y) * w.out_width + x) * w.channels + p.channel;
        const auto dy = load_pack<width>(d_out, at, at + width);
        for (int k = 0; k < width; ++k) d[k] += share * to_float(dy.lane[k]);
      }
    }
    put_pack(d_in, accumulate, i * width, (i + 1) * width, d);
  }
}

// Blocks of 32 features by 8 lanes that share the steps of one row.
constexpr unsigned time_lanes = 8;

template <class T>
__global__ void __launch_bounds__(block_threads)
    over_time_kernel(Sequences q, const T* in, T* out, i32* first) {
  STATIC_SHARED(float, values, [time_lanes][33]);
  STATIC_SHARED(i32, places, [time_lanes][33]);
  const i64 f = static_cast<i64>(blockIdx.x) * 32 + threadIdx.x, valid = valid_of(q.rows);
  for (i64 r = blockIdx.y; r < q.rows.rows; r += gridDim.y) {
    const i32 steps = r < valid ? steps_in(q.steps, r) : 0;
    const T* row = in + r * q.steps.capacity * q.features;
    float best = 0;
    i32 at = -1;
    for (auto t = static_cast<i32>(threadIdx.y); f < q.features && t < steps; t += time_lanes) {
      const float x = to_float(row[t * q.features + f]);
      if (at >= 0 && !(x > best)) continue;
      best = x;
      at = t;
    }
    __syncthreads();   // the row before is done
    values[threadIdx.y][threadIdx.x] = best;
    places[threadIdx.y][threadIdx.x] = at;
    __syncthreads();
    if (threadIdx.y > 0 || f >= q.features) continue;
    for (unsigned k = 1; k < time_lanes; ++k) {
      const float x = values[k][threadIdx.x];
      const i32 place = places[k][threadIdx.x];
      if (place < 0 || (at >= 0 && !(x > best || (x == best && place < at)))) continue;
      best = x;
      at = place;
    }
    out[r * q.features + f] = from_float<T>(best);
    first[r * q.features + f] = at;
  }
}

template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    over_time_back_kernel(Sequences q, const T* d_out, const i32* first, T* d_in, bool accumulate) {
  const i64 packs = q.features / width, steps = q.steps.capacity;
  for (i64 i = first_index(); i < q.rows.rows * steps * packs; i += index_step()) {
    const i64 place = quotient(i, packs), r = quotient(place, steps);
    const i64 from = r * q.features + (i - place * packs) * width;
    float d[width] = {};
    for (int k = 0; k < width; ++k)
      if (first[from + k] == place - r * steps) d[k] = to_float(d_out[from + k]);
    put_pack(d_in, accumulate, i * width, (i + 1) * width, d);
  }
}

i64 outputs_of(const Windows& w) {
  return w.rows.rows * w.out_height * w.out_width * w.channels;
}
i64 inputs_of(const Windows& w) { return w.rows.rows * w.height * w.width * w.channels; }
bool fits_byte(const Windows& w) { return w.size_y * w.size_x <= 256; }

template <class Choice>
void choose(cudaStream_t s, const Windows& w, const void* in, void* out, void* choice) {
  with_packs(w.type, w.channels, [&](auto zero, auto width) {
    using T = decltype(zero);
    launch(s, max_kernel<T, Choice, width()>, blocks_for(outputs_of(w) / width, block_threads),
           block_threads, 0, w, static_cast<const T*>(in), static_cast<T*>(out),
           static_cast<Choice*>(choice));
  });
}
template <class Choice>
void choose_back(cudaStream_t s, const Windows& w, const void* d_out, const void* choice,
                 const Gradient& d_in) {
  with_packs(w.type, w.channels, [&](auto zero, auto width) {
    using T = decltype(zero);
    launch(s, max_back_kernel<T, Choice, width()>, blocks_for(inputs_of(w) / width, block_threads),
           block_threads, 0, w, static_cast<const T*>(d_out), static_cast<const Choice*>(choice),
           static_cast<T*>(d_in.data), d_in.accumulate);
  });
}
float share_of(const Windows& w) { return 1 / static_cast<float>(w.size_y * w.size_x); }

}  // namespace

i64 choice_bytes(const Windows& w) { return outputs_of(w) * (fits_byte(w) ? 1 : 2); }

void max_pool_forward(cudaStream_t s, const Windows& w, const void* in, void* out, void* choice) {
  fits_byte(w) ? choose<u8>(s, w, in, out, choice) : choose<u16>(s, w, in, out, choice);
}
void max_pool_backward(cudaStream_t s, const Windows& w, const void* d_out, const void* choice,
                       const Gradient& d_in) {
  fits_byte(w) ? choose_back<u8>(s, w, d_out, choice, d_in)
               : choose_back<u16>(s, w, d_out, choice, d_in);
}

void average_pool_forward(cudaStream_t s, const Windows& w, const void* in, void* out) {
  with_packs(w.type, w.channels, [&](auto zero, auto width) {
    using T = decltype(zero);
    launch(s, average_kernel<T, width()>, blocks_for(outputs_of(w) / width, block_threads),
           block_threads, 0, w, share_of(w), static_cast<const T*>(in), static_cast<T*>(out));
  });
}
void average_pool_backward(cudaStream_t s, const Windows& w, const void* d_out,
                           const Gradient& d_in) {
  with_packs(w.type, w.channels, [&](auto zero, auto width) {
    using T = decltype(zero);
    launch(s, average_back_kernel<T, width()>, blocks_for(inputs_of(w) / width, block_threads),
           block_threads, 0, w, share_of(w), static_cast<const T*>(d_out),
           static_cast<T*>(d_in.data), d_in.accumulate);
  });
}

void max_over_time_forward(cudaStream_t s, const Sequences& q, const void* in, void* out,
                           i32* first) {
  with_type(q.type, [&](auto zero) {
    using T = decltype(zero);
    constexpr i64 most = 1024;   // more than fill a device
    const i64 rows = q.rows.rows < most ? q.rows.rows : most;
    const dim3 grid(static_cast<unsigned>((q.features + 31) / 32), static_cast<unsigned>(rows));
    launch(s, over_time_kernel<T>, grid, dim3(32, time_lanes), 0, q, static_cast<const T*>(in),
           static_cast<T*>(out), first);
  });
}
void max_over_time_backward(cudaStream_t s, const Sequences& q, const void* d_out,
                            const i32* first, const Gradient& d_in) {
  with_packs(q.type, q.features, [&](auto zero, auto width) {
    using T = decltype(zero);
    const i64 packs = q.rows.rows * q.steps.capacity * q.features / width;
    launch(s, over_time_back_kernel<T, width()>, blocks_for(packs, block_threads), block_threads, 0,
           q, static_cast<const T*>(d_out), first, static_cast<T*>(d_in.data), d_in.accumulate);
  });
}

}  // namespace cohort::cuda
