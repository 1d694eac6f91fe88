// Sums of device memory over ranks, exact: the same checks for ranks as threads and as processes.
#pragma once
#include <string>
#include <vector>

#include "base/error.h"
#include "comm/nccl.h"
#include "device/cuda/cuda_device.h"

namespace cohort {

// A rank with a GPU of its own.
struct GpuRank {
  GpuRank(Communicator& c, const ReducerOptions& options, int gpu)
      : ranks(c), device(cuda::make_device({gpu, "f32", true})),
        reducer(make_nccl_reducer(*device, c, options)) {}
  template <class T>
  T* filled(const std::vector<T>& values) {
    const i64 bytes = static_cast<i64>(values.size() * sizeof(T));
    void* data = device->allocate(bytes);
    device->copy_in(data, values.data(), bytes);
    return static_cast<T*>(data);
  }
  template <class T>
  std::vector<T> fetched(const T* data, i64 count) {
    std::vector<T> values(static_cast<std::size_t>(count));
    device->copy_out(values.data(), data, count * static_cast<i64>(sizeof(T)));
    return values;
  }
  Communicator& ranks;
  std::unique_ptr<Device> device;
  std::unique_ptr<Reducer> reducer;
};

// Rank r holds i % 17 + r: small whole numbers, exact in every type.
template <class T>
std::vector<T> own_values(int rank, i64 count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (i64 i = 0; i < count; ++i)
    values[static_cast<std::size_t>(i)] = static_cast<T>(static_cast<float>(i % 17 + rank));
  return values;
}

template <class T>
void check_values(const std::vector<T>& values, int ranks, i64 times, const char* what) {
  const i64 of_ranks = static_cast<i64>(ranks) * (ranks - 1) / 2;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const i64 wanted = times * (static_cast<i64>(i % 17) * ranks + of_ranks);
    const double got = static_cast<double>(static_cast<float>(values[i]));
    if (got != static_cast<double>(wanted))
      fail(Exit::lost, "{}: element {} is {}, expected {}", what, i, got, wanted);
  }
}

// What the device was given before submit() is summed; what it is given after wait() sees the sum.
template <class T>
void check_sum(GpuRank& r, DType type, i64 count) {
  const int size = r.ranks.size();
  T* source = r.filled(own_values<T>(r.ranks.rank(), count));
  T* range = r.filled(std::vector<T>(static_cast<std::size_t>(count)));
  T* target = r.filled(std::vector<T>(static_cast<std::size_t>(count)));
  const i64 bytes = count * static_cast<i64>(sizeof(T));
  r.device->copy(range, source, bytes);
  r.reducer->submit({range, type, {count}});
  r.reducer->wait();
  r.device->copy(target, range, bytes);
  r.device->copy(range, source, bytes);   // after the sum was read
  check_values(r.fetched(target, count), size, 1, name_of(type));
  r.reducer->poll();
}

// Two buckets and what reads them, recorded once and replayed.
inline void check_recorded(GpuRank& r, i64 count) {
  float* source = r.filled(own_values<float>(r.ranks.rank(), count));
  std::vector<float*> ranges, targets;
  for (int k = 0; k < 2; ++k) {
    ranges.push_back(r.filled(std::vector<float>(static_cast<std::size_t>(count))));
    targets.push_back(r.filled(std::vector<float>(static_cast<std::size_t>(count))));
  }
  const i64 bytes = count * static_cast<i64>(sizeof(float));
  const auto step = r.device->record([&] {
    for (float* range : ranges) {
      r.device->copy(range, source, bytes);
      r.reducer->submit({range, DType::f32, {count}});
    }
    r.reducer->wait();
    for (std::size_t k = 0; k < 2; ++k) r.device->copy(targets[k], ranges[k], bytes);
    r.device->copy(source, targets[1], bytes);   // the next replay sums the sums
  });
  i64 times = 1;
  for (int replay = 0; replay < 3; ++replay, times *= r.ranks.size()) {
    step->run();
    for (float* target : targets)
      check_values(r.fetched(target, count), r.ranks.size(), times, "recorded");
  }
  r.reducer->poll();
}

inline void check_all_sums(Communicator& c, const ReducerOptions& options, int gpu) {
  GpuRank r(c, options, gpu);
  for (i64 count : {1, 3, 1001, 40000}) {
    check_sum<float>(r, DType::f32, count);
    check_sum<double>(r, DType::f64, count);
    check_sum<__nv_bfloat16>(r, DType::bf16, count);
  }
  check_recorded(r, 1001);
}

}  // namespace cohort
