#include "data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <list>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "data/eval_reader.h"

namespace cohort {

std::vector<EvalBlock> eval_blocks(i64 rows, i64 eval_batch, int rank, int world) {
  std::vector<EvalBlock> mine;
  for (i64 i = rank; i * eval_batch < rows; i += world) {
    mine.push_back({i, i * eval_batch, std::min(rows, (i + 1) * eval_batch)});
  }
  return mine;
}

void clear_column(BatchColumn& column, const Input& input, bool ids, i64 rows) {
  const i64 bytes = rows * count(input.shape) * size_of(input.dtype);
  column.data.assign(static_cast<std::size_t>(bytes), ids ? u8{0xff} : u8{0});
  if (input.ragged) column.lengths.assign(static_cast<std::size_t>(rows), 0);
}

void put_row(BatchColumn& column, const Input& input, i64 row, const u8* data, i64 bytes) {
  const i64 stride = count(input.shape) * size_of(input.dtype);
  COHORT_CHECK(bytes <= stride, "row larger than its place");
  if (input.ragged) {
    const i64 element = std::max<i64>(stride / std::max<i64>(input.max_length, 1), 1);
    column.lengths.at(static_cast<std::size_t>(row)) = static_cast<i32>(bytes / element);
  }
  COHORT_CHECK((row + 1) * stride <= static_cast<i64>(column.data.size()), "row of a batch");
  if (bytes == 0) return;
  std::memcpy(column.data.data() + row * stride, data, static_cast<std::size_t>(bytes));
}

struct RowReader::State {
  struct Loaded {
    i64 block = -1;
    std::mutex mutex;  // held while it is read
    bool ready = false;
    std::vector<Column> columns;
    std::vector<i64> row_ids;
  };
  std::shared_ptr<ShardSet> shards;
  std::vector<Input> inputs;
  std::vector<i64> fields;  // index of each input's field
  std::vector<Block> blocks;
  std::vector<i64> starts;  // first row of each block in the split, then the count
  std::size_t cached = 1;
  std::mutex mutex;                         // of the cache
  std::list<std::shared_ptr<Loaded>> cache;  // the block used last comes first

  std::shared_ptr<Loaded> cached_block(i64 block) {
    const std::lock_guard lock(mutex);
    const auto found = std::find_if(cache.begin(), cache.end(),
                                    [&](const auto& entry) { return entry->block == block; });
    if (found != cache.end()) {
      cache.splice(cache.begin(), cache, found);
    } else {
      cache.push_front(std::make_shared<Loaded>());
      cache.front()->block = block;
      if (cache.size() > cached) cache.pop_back();
    }
    return cache.front();
  }
  // Other threads that need the block wait for the first one.
  std::shared_ptr<const Loaded> load(i64 block) {
    std::shared_ptr<Loaded> loaded = cached_block(block);
    const std::lock_guard lock(loaded->mutex);
    if (loaded->ready) return loaded;
    const Block& b = blocks[static_cast<std::size_t>(block)];
    std::vector<Column> columns;
    for (i64 field : fields) columns.push_back(shards->read(b, field));
    loaded->columns = std::move(columns);
    loaded->row_ids = shards->row_ids(b);
    loaded->ready = true;
    return loaded;
  }
  template <class T>
  void check_ids(const u8* data, i64 n, const RowRef& row, std::size_t input) const {
    const Field& field = shards->fields()[static_cast<std::size_t>(fields[input])];
    for (i64 i = 0; i < n; ++i) {
      T id;
      std::memcpy(&id, data + i * static_cast<i64>(sizeof(T)), sizeof(T));
      if (static_cast<i64>(id) >= 0 && static_cast<i64>(id) < field.classes) continue;
      const Block& b = blocks[static_cast<std::size_t>(row.block)];
      fail(Exit::data, "{}:{}: field '{}' holds id {}, expected [0, {}): shard the data again",
           shards->shards()[static_cast<std::size_t>(b.shard)].file, b.first_row + row.row,
           field.name, static_cast<i64>(id), field.classes);
    }
  }
  void copy(BatchColumn& column, std::size_t input, const Column& from, std::size_t slot,
            const RowRef& row) const {
    const Field& field = shards->fields()[static_cast<std::size_t>(fields[input])];
    const Input& in = inputs[input];
    const i64 element = count(field.shape) * size_of(field.dtype);
    i64 first = row.row, length = 1;
    if (in.ragged) {
      const std::size_t r = static_cast<std::size_t>(row.row);
      const Range kept = kept_elements(in, from.starts.at(r + 1) - from.starts[r]);
      first = from.starts[r] + kept.begin;
      length = kept.end - kept.begin;
    }
    COHORT_CHECK((first + length) * element <= static_cast<i64>(from.values.size()),
                 "column smaller than its rows");
    const u8* source = from.values.data() + first * element;
    const i64 bytes = length * element;
    if (field.classes > 0) {
      const i64 n = bytes / size_of(field.dtype);
      if (field.dtype == DType::i32) check_ids<i32>(source, n, row, input);
      if (field.dtype == DType::u8) check_ids<u8>(source, n, row, input);
    }
    put_row(column, in, static_cast<i64>(slot), source, bytes);
  }
  // Padding everywhere: 0, and -1 where ids are.
  void clear(Batch& batch, i64 capacity) const {
    const std::size_t n = static_cast<std::size_t>(capacity);
    batch.capacity = capacity;
    batch.valid = 0;
    batch.row_ids.assign(n, -1);
    batch.positions.assign(n, -1);
    batch.blocks.assign(n, -1);
    batch.columns.resize(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Field& field = shards->fields()[static_cast<std::size_t>(fields[i])];
      const bool ids = field.classes > 0 && field.dtype != DType::u8;
      clear_column(batch.columns[i], inputs[i], ids, capacity);
    }
  }
};

RowReader::RowReader(std::shared_ptr<ShardSet> shards, const std::string& split,
                     std::vector<Input> inputs, i64 cached)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.shards = std::move(shards);
  s.inputs = std::move(inputs);
  s.blocks = s.shards->blocks(split);
  s.cached = static_cast<std::size_t>(std::max<i64>(cached, 1));
  for (const Input& input : s.inputs) {
    const Field& field = s.shards->field(input.field);
    if (field.dtype != input.dtype || field.ragged != input.ragged) {
      fail(Exit::data, "{}: field '{}' is {}{}, the model expects {}{}", s.shards->path(),
           field.name, field.ragged ? "ragged " : "", name_of(field.dtype),
           input.ragged ? "ragged " : "", name_of(input.dtype));
    }
    s.fields.push_back(&field - s.shards->fields().data());
  }
  s.starts.push_back(0);
  for (const Block& block : s.blocks) s.starts.push_back(s.starts.back() + block.rows);
}
RowReader::~RowReader() = default;

i64 RowReader::rows() const { return state_->starts.back(); }

void RowReader::fill(Batch& batch, const std::vector<RowRef>& rows, i64 first_position,
                     i64 capacity) const {
  State& s = *state_;
  COHORT_CHECK(static_cast<i64>(rows.size()) <= capacity, "batch smaller than its rows");
  s.clear(batch, capacity);
  std::size_t padding = rows.size();
  for (std::size_t i = rows.size(); i-- > 0;) {
    if (rows[i].block < 0) {
      batch.positions[--padding] = static_cast<i32>(first_position + static_cast<i64>(i));
    }
  }
  std::unordered_map<i64, std::shared_ptr<const State::Loaded>> held;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].block < 0) continue;
    auto& entry = held[rows[i].block];
    if (!entry) entry = s.load(rows[i].block);
    const State::Loaded& loaded = *entry;
    const std::size_t slot = static_cast<std::size_t>(batch.valid++);
    for (std::size_t k = 0; k < s.inputs.size(); ++k) {
      s.copy(batch.columns[k], k, loaded.columns[k], slot, rows[i]);
    }
    batch.row_ids[slot] = loaded.row_ids[static_cast<std::size_t>(rows[i].row)];
    batch.positions[slot] = static_cast<i32>(first_position + static_cast<i64>(i));
    batch.blocks[slot] = s.blocks[static_cast<std::size_t>(rows[i].block)].shard;
  }
}

void RowReader::read_rows(Batch& batch, const EvalBlock& block, i64 capacity) const {
  std::vector<RowRef> rows;
  const auto& starts = state_->starts;
  for (i64 row = block.begin; row < std::min(block.end, this->rows()); ++row) {
    const i64 b = std::upper_bound(starts.begin(), starts.end(), row) - starts.begin() - 1;
    rows.push_back({b, row - starts[static_cast<std::size_t>(b)]});
  }
  fill(batch, rows, 0, capacity);
}

struct Loader::State {
  struct Slot {
    Batch batch;
    bool ready = false;
    std::exception_ptr error;
  };
  LoaderConfig config;
  RowReader reader;
  std::mutex mutex;  // of all below
  std::condition_variable changed;
  LaneSampler sampler;
  std::vector<Slot> ring;           // batch i goes to slot i modulo its size
  i64 epoch = 0, step = 0;          // of the batch claimed next
  i64 claimed = 0, taken = 0;       // batches; `taken` counts those handed back
  bool holding = false, closing = false;
  double waited = 0;
  std::vector<std::thread> threads;

  State(const LoaderConfig& c, i64 cached)
      : config(c), reader(c.shards, c.split, c.inputs, cached),
        sampler(c.shards->blocks(c.split), c.lanes),
        ring(static_cast<std::size_t>(std::max<i64>({c.ahead, c.threads, 1}) + 1)) {}

  Slot& slot(i64 batch) { return ring[static_cast<std::size_t>(batch) % ring.size()]; }

  // Claims batches in turn and fills them beside the other threads, until an error: the consumer
  // meets it after the batches before.
  void loop() {
    for (;;) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] {
        return closing || claimed - taken < static_cast<i64>(ring.size());
      });
      if (closing) return;
      Slot& mine = slot(claimed++);
      mine.batch.epoch = epoch;
      mine.batch.step = step;
      const std::vector<RowRef> rows = sampler.rows_at(epoch, step, config.positions);
      if (++step == sampler.steps()) {
        step = 0;
        ++epoch;
      }
      lock.unlock();
      try {
        reader.fill(mine.batch, rows, config.positions.begin, config.capacity);
      } catch (...) {
        mine.error = std::current_exception();
      }
      lock.lock();
      mine.ready = true;
      closing = closing || mine.error;
      changed.notify_all();
    }
  }
};

Loader::Loader(const LoaderConfig& config, i64 epoch, i64 step) {
  const i64 lanes = config.lanes.lanes > 0 ? config.lanes.lanes
                                           : std::min<i64>(config.lanes.global_batch, 64);
  const i64 mine = config.positions.end - config.positions.begin;
  const i64 touched = std::min(lanes, mine * lanes / std::max<i64>(config.lanes.global_batch, 1) + 2);
  state_ = std::make_unique<State>(config, touched * (config.lanes.window + 1));
  if (state_->sampler.rows() == 0) {
    fail(Exit::data, "{}: split '{}' has no rows", config.shards->path(), config.split);
  }
  if (mine > 0 && mine < config.lanes.global_batch / lanes) {
    log::warn("more ranks than lanes ({}): several ranks read the same blocks; lanes: {} avoids it",
              lanes, (config.lanes.global_batch + mine - 1) / mine);
  }
  state_->epoch = epoch;
  state_->step = step;
  for (int i = 0; i < std::max(config.threads, 1); ++i) {
    state_->threads.emplace_back([s = state_.get()] { s->loop(); });
  }
}

Loader::~Loader() {
  {
    std::lock_guard lock(state_->mutex);
    state_->closing = true;
  }
  state_->changed.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

i64 Loader::steps_per_epoch() const { return state_->sampler.steps(); }
double Loader::waited_seconds() const { return state_->waited; }

const Batch& Loader::next() {
  State& s = *state_;
  const double start = seconds_now();
  std::unique_lock lock(s.mutex);
  if (s.holding) {
    s.slot(s.taken++).ready = false;
    s.holding = false;
    s.changed.notify_all();
  }
  State::Slot& slot = s.slot(s.taken);
  s.changed.wait(lock, [&] { return slot.ready; });
  s.waited += seconds_now() - start;
  if (slot.error) std::rethrow_exception(slot.error);
  s.holding = true;
  return slot.batch;
}

}  // namespace cohort
