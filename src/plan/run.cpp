#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/text.h"
#include "plan/plan_impl.h"

namespace cohort {
namespace {

void put(char* to, const void* from, i64 bytes) {
  if (bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

}  // namespace

// Writes rows [micro * rows, (micro + 1) * rows) of the batch, and what goes with them, to a slot.
void Plan::Impl::fill(char* host, const StepArguments& arguments, i64 micro) {
  const Batch& batch = *arguments.batch;
  const i64 first = micro * config.rows;
  const i64 rows = std::min(config.rows, batch.capacity - first);
  Scalars scalars;
  scalars.epoch = batch.epoch;
  scalars.valid = std::clamp<i64>(batch.valid - first, 0, rows);
  scalars.learning_rate = arguments.learning_rate;
  put(host + staging.scalars, &scalars, sizeof(scalars));
  double word[word_size] = {0, 0, static_cast<double>(batch.valid)};
  if (arguments.requests)
    std::copy(arguments.requests->begin(), arguments.requests->end(), word + 3);
  put(host + staging.word, word, sizeof(word));
  put(host + staging.row_id, batch.row_ids.data() + first, rows * 8);
  put(host + staging.position, batch.positions.data() + first, rows * 4);
  for (std::size_t k = 0; k < graph.inputs.size(); ++k) {
    const BatchColumn& column = batch.columns[k];
    const i64 width = count(graph.inputs[k].shape) * size_of(graph.inputs[k].dtype);
    put(host + staging.data[k], column.data.data() + first * width, rows * width);
    if (staging.lengths[k] >= 0)
      put(host + staging.lengths[k], column.lengths.data() + first, rows * 4);
  }
  if (arguments.sparse) fill_sparse(host, *arguments.sparse, micro);
}

void Plan::Impl::fill_sparse(char* host, const std::vector<SparseRows>& sparse, i64 micro) {
  COHORT_CHECK(sparse.size() == state.tables.size(), "one SparseRows per sparse table");
  for (std::size_t t = 0; t < state.tables.size(); ++t) {
    TableState& table = state.tables[t];
    const i64 have = static_cast<i64>(sparse[t].slots.size());
    const i64 per_pass = staging.ids[t];
    const i64 take = std::clamp<i64>(have - micro * per_pass, 0, per_pass);
    put(host + staging.slots[t], sparse[t].slots.data() + micro * per_pass, take * 4);
    table.active = static_cast<i64>(sparse[t].rows.size());
    COHORT_CHECK(table.active <= table.capacity, "row segment too small for the global batch");
    put(host + staging.rows[t], sparse[t].rows.data(), table.active * 4);
    put(host + staging.active + static_cast<i64>(t) * 8, &table.active, 8);
  }
}

// The rows of a table's segment that this step zeroes and reduces.
View Plan::Impl::treated(const TableState& table) const {
  View range = table.grad;
  range.shape[0] = device.rows_treated(table.active, table.capacity);
  return range;
}

void Plan::Impl::give_nodes(const Slot& slot, bool submit, Reducer* reducer) {
  for (auto& kernel : ingest[static_cast<std::size_t>(slot.index)]) kernel->run();
  for (PlanStep& step : steps) {
    step.kernel->run();
    if (!reducer) continue;
    if (step.sync.data) {
      reducer->submit(step.sync);
      reducer->wait();
    }
    for (i64 b : step.buckets) {
      const Bucket& bucket = buckets[static_cast<std::size_t>(b)];
      const View range = bucket.table < 0
                             ? bucket.range
                             : treated(state.tables[static_cast<std::size_t>(bucket.table)]);
      if (submit && range.count() > 0) reducer->submit(range);
    }
  }
}

void Plan::Impl::give_update() {
  for (auto& kernel : norms) kernel->run();
  decision->run();
  for (auto& kernel : updates) kernel->run();
}

void Plan::Impl::start_pass(const Slot& slot, bool first) {
  if (slot.device != fixed) device.copy(fixed, slot.device, staging.fixed_bytes);
  if (!first) return;
  device.zero(loss.data, loss.bytes());
  device.zero(state.grads.data, config.train ? state.grads.bytes() : 0);
  for (const TableState& table : state.tables)
    if (config.train) device.zero(table.grad.data, treated(table).bytes());
}

// Everything that the device does in a pass, in order.
void Plan::Impl::give(const Slot& slot, const Pace& pace, Reducer* reducer) {
  auto* clock = results.as<char>() + word_size * 8 + sizeof(Decision);
  if (reducer) reducer->work_begins(reinterpret_cast<WorkClock*>(clock), pace.first);
  start_pass(slot, pace.first);
  give_nodes(slot, pace.last, reducer);
  if (pace.last) give_end(pace, reducer);
  if (reducer) reducer->work_ends();
}

// After the step's last pass: what the sums over ranks decide.
void Plan::Impl::give_end(const Pace& pace, Reducer* reducer) {
  char* word = fixed + staging.word;
  device.copy(word, loss.data, loss.bytes());
  if (reducer) {
    reducer->submit(View{word, DType::f64, {word_size}});
    reducer->wait();
  }
  if (pace.update) give_update();
  device.copy(results.data, word, word_size * 8);
  device.copy(results.as<char>() + word_size * 8, state.decision, sizeof(Decision));
}

void Plan::Impl::run_pass(const StepArguments& arguments, i64 micro, const Pace& pace,
                          Reducer* reducer) {
  const Slot& slot = slots[static_cast<std::size_t>(next_slot)];
  for (Pending& step : pending)
    if (step.slot == next_slot) collect(step, reducer);
  device.wait(slot, [&] { if (reducer) reducer->poll(); });
  fill(slot.host, arguments, micro);
  device.send(slot);
  // Libraries make what they need when they first run, which may not be recorded.
  const std::array<bool, 4> kind = {pace.first, pace.last, pace.update, reducer != nullptr};
  const bool ran = !given.insert(kind).second;
  if (device.records() && ran) {
    std::vector<i64> key = {next_slot, pace.first, pace.last, pace.update,
                            reinterpret_cast<i64>(reducer)};
    for (const TableState& table : state.tables)
      if (config.train) key.push_back(treated(table).shape[0]);
    std::unique_ptr<Kernel>& kernel = recorded[key];
    if (!kernel)
      kernel = device.record([this, slot, pace, reducer] { give(slot, pace, reducer); });
    kernel->run();
  } else {
    give(slot, pace, reducer);
  }
  device.close(slot, results.data, pace.last ? results.bytes() : 0);
  next_slot = (next_slot + 1) % static_cast<i64>(slots.size());
}

void Plan::Impl::begin(const StepArguments& arguments, Reducer* reducer) {
  const std::size_t requests = arguments.requests ? arguments.requests->size() : 0;
  COHORT_CHECK(requests <= most_requests, "more requests than the control word holds");
  const double waited = reducer ? reducer->waited_seconds() : 0;
  i64 slot = 0;
  for (i64 micro = 0; micro < config.micro_batches; ++micro) {
    const bool last = micro + 1 == config.micro_batches;
    slot = next_slot;
    run_pass(arguments, micro, {micro == 0, last, last && arguments.update}, reducer);
  }
  Pending step{slot, requests, arguments.update, false, 0, {}};
  step.result.comm_seconds = reducer ? reducer->waited_seconds() - waited : 0;
  pending.push_back(step);
}

// Reads the results of a step from its slot, before the slot is used again.
void Plan::Impl::collect(Pending& step, Reducer* reducer) {
  if (step.collected) return;
  const Slot& slot = slots[static_cast<std::size_t>(step.slot)];
  device.wait(slot, [&] { if (reducer) reducer->poll(); });
  double word[word_size];
  Decision decided;
  WorkClock clock;
  std::memcpy(word, slot.results, sizeof(word));
  std::memcpy(static_cast<void*>(&decided), slot.results + sizeof(word), sizeof(decided));
  std::memcpy(&clock, slot.results + sizeof(word) + sizeof(decided), sizeof(clock));
  StepResult& result = step.result;
  step.loss_sum = word[0];
  result.device_seconds = 1e-9 * static_cast<double>(clock.nanoseconds);
  result.weight = word[1];
  result.loss = word[1] > 0 ? word[0] / word[1] : 0.0;
  result.requests.assign(word + 3, word + 3 + step.requests);
  if (step.update) {
    result.grad_norm = decided.grad_norm;
    result.skipped = decided.skipped;
  }
  step.collected = true;
}

StepResult Plan::Impl::finish(Reducer* reducer) {
  COHORT_CHECK(!pending.empty(), "finish() without begin()");
  collect(pending.front(), reducer);
  const StepResult result = pending.front().result;
  pending.erase(pending.begin());
  return result;
}

StepResult Plan::Impl::infer(const Batch& batch) {
  begin({&batch, nullptr, nullptr, 0, false}, nullptr);
  collect(pending.front(), nullptr);
  StepResult result = pending.front().result;
  result.loss = pending.front().loss_sum;
  pending.erase(pending.begin());
  return result;
}

std::vector<double> Plan::Impl::read_value(i64 value, i64 rows) const {
  View view = value_view(value);
  view.shape[0] = rows;
  std::vector<char> raw(static_cast<std::size_t>(view.bytes()));
  device.copy_out(raw.data(), view.data, view.bytes());
  return to_doubles(view.dtype, raw.data(), view.count());
}

std::vector<StepCost> Plan::Impl::costs() const {
  if (!config.train) return {};
  CostInputs inputs{&graph, config.rows, config.micro_batches, size_of(device.activation()),
                    size_of(device.real()), config.optimizer, {}};
  for (std::size_t k = 0; k < graph.nodes.size(); ++k)
    inputs.saved_bytes.push_back(map.runs_backward[k] ? saved_bytes[k] : 0);
  return count_costs(inputs);
}

Launches Plan::Impl::launches() {
  return device.record([this] { give(slots[0], {true, true, config.train}, nullptr); })->launches();
}

Plan::Memory Plan::Impl::memory() const {
  Memory m{state.params.bytes(), state.grads.bytes(), state.slot0.bytes() + state.slot1.bytes(),
           map.bytes + scratch.bytes(), staging.bytes * static_cast<i64>(slots.size()), 0};
  if (state.average.data) m.slots += state.average.bytes();
  if (!config.train) m.grads = m.slots = 0;
  for (const TableState& table : state.tables) {
    m.params += table.weight.bytes();
    if (!config.train) continue;
    m.grads += table.grad.bytes();
    m.slots += table.slot0.bytes() + table.slot1.bytes();
  }
  return m;
}

}  // namespace cohort
