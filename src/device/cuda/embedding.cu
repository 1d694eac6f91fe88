// Embeddings. The gradient is summed without atomics: ids are sorted by the row they go to, so that
// equal ones are neighbours in the order of the batch. Stretches of the sorted list are summed in
// parallel; what a row gets from several stretches is added up afterwards, in order.
#include "device/cuda/common.cuh"

namespace cohort::cuda {
namespace {

constexpr i64 stretch = 16;   // sorted ids that one thread sums
constexpr int table_width = 4;

i64 aligned(i64 bytes) { return (bytes + 255) / 256 * 256; }
i64 id_count(const Ids& ids) { return ids.rows.rows * ids.per_row; }

int bits_of(i64 largest) {
  int bits = 1;
  while (bits < 31 && (largest >> bits) > 0) ++bits;
  return bits;
}

struct Scratch {
  i32 *keys, *places, *sorted_keys, *sorted_places;
  float* heads;   // [stretches, dim]: what a stretch adds to the row that the one before began
  float* tails;   // [stretches, dim]: to the row that the next goes on with
  char* workspace;
  i64 bytes;      // without the workspace, which is the rest
};

Scratch carve(const Ids& ids, const TableGradient& to, void* memory) {
  const i64 n = id_count(ids), list = aligned(n * 4);
  const i64 parts = aligned((n + stretch - 1) / stretch * to.dim * 4);
  char* at = static_cast<char*>(memory);
  Scratch c{};
  i64 offset = 0;
  const auto take = [&](i64 bytes) {
    char* data = memory ? at + offset : nullptr;
    offset += bytes;
    return data;
  };
  for (i32** array : {&c.keys, &c.places, &c.sorted_keys, &c.sorted_places})
    *array = reinterpret_cast<i32*>(take(list));
  c.heads = reinterpret_cast<float*>(take(parts));
  c.tails = reinterpret_cast<float*>(take(parts));
  c.workspace = take(0);
  c.bytes = offset;
  return c;
}

template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    gather_kernel(Ids ids, const float* table, i64 dim, T* out) {
  const i64 packs = dim / width, used = valid_of(ids.rows) * ids.per_row;
  const i64 count = ids.rows.rows * ids.per_row;
  for (i64 i = first_index(); i < count * packs; i += index_step()) {
    const i64 place = quotient(i, packs), column = (i - place * packs) * width;
    const i64 id = place < used ? ids.ids[place] : -1;
    Pack<float, width> row{};
    if (id >= 0) row = load_pack<width>(table, id * dim + column, (id + 1) * dim);
    Pack<T, width> value;
    for (int k = 0; k < width; ++k) value.lane[k] = from_float<T>(row.lane[k]);
    store_pack(out, place * dim + column, (place + 1) * dim, value);
  }
}

// Ids without a row get the key `rows`, behind all others.
__global__ void __launch_bounds__(block_threads)
    key_kernel(Ids ids, const i32* slots, i32 rows, i32* keys, i32* places) {
  const i64 used = valid_of(ids.rows) * ids.per_row;
  for (i64 i = first_index(); i < ids.rows.rows * ids.per_row; i += index_step()) {
    i32 key = rows;
    if (i < used && ids.ids[i] >= 0) key = slots ? slots[i] : ids.ids[i];
    keys[i] = key >= 0 && key < rows ? key : rows;
    places[i] = static_cast<i32>(i);
  }
}

struct Sorted {
  const i32* keys;
  const i32* places;
  i64 count;
};

template <int width>
__device__ void add_to(float* to, const float (&x)[width]) {
  auto& pack = *reinterpret_cast<Pack<float, width>*>(to);
  auto sum = pack;
  for (int k = 0; k < width; ++k) sum.lane[k] += x[k];
  pack = sum;
}

// One thread: some columns of one stretch.
template <class T, int width>
__global__ void __launch_bounds__(block_threads)
    stretch_kernel(Sorted sorted, TableGradient to, const T* d_out, float* heads, float* tails) {
  const i64 packs = to.dim / width, stretches = (sorted.count + stretch - 1) / stretch;
  for (i64 i = first_index(); i < stretches * packs; i += index_step()) {
    const i64 part = quotient(i, packs), column = (i - part * packs) * width;
    const i64 first = part * stretch;
    const i64 end = first + stretch < sorted.count ? first + stretch : sorted.count;
    bool continues = first > 0 && sorted.keys[first - 1] == sorted.keys[first];
    float sum[width] = {};
    for (i64 k = first; k < end; ++k) {
      const i32 key = sorted.keys[k];
      if (key == to.rows) break;
      const i64 from = sorted.places[k] * to.dim + column;
      const auto d = load_pack<width>(d_out, from, from + width);
      for (int j = 0; j < width; ++j) sum[j] += to_float(d.lane[j]);
      const bool goes_on = k + 1 < sorted.count && sorted.keys[k + 1] == key;
      if (goes_on && k + 1 < end) continue;
      float* target = to.data + key * to.dim + column;
      if (continues) target = heads + part * to.dim + column;
      else if (goes_on) target = tails + part * to.dim + column;
      if (continues || goes_on) {
        for (int j = 0; j < width; ++j) target[j] = sum[j];
      } else {
        add_to(target, sum);
      }
      continues = false;
      for (int j = 0; j < width; ++j) sum[j] = 0;
    }
  }
}

// Adds up the rows that began in one stretch and went on in the next ones.
template <int width>
__global__ void __launch_bounds__(block_threads)
    join_kernel(Sorted sorted, TableGradient to, const float* heads, const float* tails) {
  const i64 packs = to.dim / width, stretches = (sorted.count + stretch - 1) / stretch;
  for (i64 i = first_index(); i < (stretches - 1) * packs; i += index_step()) {
    const i64 part = quotient(i, packs), column = (i - part * packs) * width;
    const i64 first = part * stretch, next = first + stretch;
    const i32 key = sorted.keys[next];
    if (key == to.rows || sorted.keys[next - 1] != key) continue;
    const bool began_before = first > 0 && sorted.keys[first - 1] == key;
    if (began_before) continue;
    float sum[width];
    for (int j = 0; j < width; ++j) sum[j] = tails[part * to.dim + column + j];
    for (i64 k = part + 1; k < stretches && sorted.keys[k * stretch] == key; ++k)
      for (int j = 0; j < width; ++j) sum[j] += heads[k * to.dim + column + j];
    add_to(to.data + key * to.dim + column, sum);
  }
}

template <class T, int width>
void sum_rows(cudaStream_t s, const Sorted& sorted, const TableGradient& to, const T* d_out,
              const Scratch& scratch) {
  const i64 stretches = (sorted.count + stretch - 1) / stretch;
  const unsigned blocks = blocks_for(stretches * (to.dim / width), block_threads);
  launch(s, stretch_kernel<T, width>, blocks, block_threads, 0, sorted, to, d_out, scratch.heads,
         scratch.tails);
  if (stretches > 1)
    launch(s, join_kernel<width>, blocks, block_threads, 0, sorted, to, scratch.heads,
           scratch.tails);
}

}  // namespace

void embedding_forward(cudaStream_t s, const Ids& ids, const float* table, i64 dim, DType type,
                       void* out) {
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const bool wide = dim % table_width == 0;
    const auto kernel = wide ? gather_kernel<T, table_width> : gather_kernel<T, 1>;
    launch(s, kernel, blocks_for(id_count(ids) * dim / (wide ? table_width : 1), block_threads),
           block_threads, 0, ids, table, dim, static_cast<T*>(out));
  });
}

i64 embedding_scratch(const Ids& ids, const TableGradient& to) {
  const SortArrays arrays{nullptr, nullptr, nullptr, nullptr, id_count(ids), bits_of(to.rows)};
  return carve(ids, to, nullptr).bytes + sort_workspace(arrays);
}

void embedding_backward(cudaStream_t s, const Ids& ids, DType type, const void* d_out,
                        const TableGradient& to, void* memory, i64 bytes) {
  const Scratch scratch = carve(ids, to, memory);
  const i64 n = id_count(ids);
  launch(s, key_kernel, blocks_for(n, block_threads), block_threads, 0, ids, to.slots,
         static_cast<i32>(to.rows), scratch.keys, scratch.places);
  sort_pairs(s, {scratch.keys, scratch.sorted_keys, scratch.places, scratch.sorted_places, n,
                 bits_of(to.rows)},
             scratch.workspace, bytes - scratch.bytes);
  const Sorted sorted{scratch.sorted_keys, scratch.sorted_places, n};
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const T* d = static_cast<const T*>(d_out);
    if (to.dim % table_width == 0) return sum_rows<T, table_width>(s, sorted, to, d, scratch);
    sum_rows<T, 1>(s, sorted, to, d, scratch);
  });
}

}  // namespace cohort::cuda
