#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/text.h"
#include "plan/plan_impl.h"

namespace cohort {

// Stages rows [first_row, first_row + rows) of the batch.
void Plan::Impl::load(const Batch& batch, i64 first_row) {
  const i64 rows = std::min(config.rows, batch.capacity - first_row);
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    const BatchColumn& column = batch.columns[k];
    const Staged& to = inputs[k];
    const i64 width = to.data.bytes() / config.rows;
    device.copy_in(to.data.data, column.data.data() + first_row * width, rows * width);
    if (to.lengths.data) device.copy_in(to.lengths.data, column.lengths.data() + first_row, rows * 4);
  }
  device.copy_in(row_id.data, batch.row_ids.data() + first_row, rows * 8);
  device.copy_in(position.data, batch.positions.data() + first_row, rows * 4);
  scalars.epoch = batch.epoch;
  scalars.step = batch.step;
  scalars.valid = std::clamp<i64>(batch.valid - first_row, 0, rows);
}

void Plan::Impl::load_sparse(const std::vector<SparseRows>& sparse, i64 micro) {
  COHORT_CHECK(sparse.size() == state.tables.size(), "one SparseRows per sparse table");
  for (std::size_t t = 0; t < state.tables.size(); ++t) {
    TableState& table = state.tables[t];
    const i64 have = static_cast<i64>(sparse[t].slots.size());
    const i64 per_pass = slots[t].count();
    const i64 take = std::clamp<i64>(have - micro * per_pass, 0, per_pass);
    device.copy_in(slots[t].data, sparse[t].slots.data() + micro * per_pass, take * 4);
    if (micro > 0) continue;
    table.active = static_cast<i64>(sparse[t].rows.size());
    COHORT_CHECK(table.active <= table.capacity, "row segment too small for the global batch");
    device.copy_in(table.rows.data, sparse[t].rows.data(), table.active * 4);
    const i64 dim = table.grad.shape[1];
    device.zero(table.grad.data, table.active * dim * size_of(table.grad.dtype));
  }
}

void Plan::Impl::submit_bucket(const Bucket& bucket, CollectiveQueue* queue) {
  View range = bucket.range;
  if (bucket.table >= 0) {
    const TableState& table = state.tables[static_cast<std::size_t>(bucket.table)];
    range = table.grad;
    range.shape[0] = table.active;
  }
  if (range.count() == 0) return;
  tickets.push_back(queue->submit([range](Communicator& c) { c.all_reduce(range, Reduce::sum); }));
}

void Plan::Impl::run_forward_backward(CollectiveQueue* queue, bool submit) {
  for (PlanStep& step : steps) {
    step.kernel->run();
    if (step.sync.data && queue) {
      const View sums = step.sync;
      queue->wait(queue->submit([sums](Communicator& c) { c.all_reduce(sums, Reduce::sum); }));
    }
    if (!submit || !queue) continue;
    for (i64 b : step.buckets) submit_bucket(buckets[static_cast<std::size_t>(b)], queue);
  }
}

StepResult Plan::Impl::reduce_gradients(const StepArguments& arguments, CollectiveQueue* queue) {
  const Batch& batch = *arguments.batch;
  device.zero(state.grads.data, state.grads.bytes());
  device.zero(loss.data, loss.bytes());
  tickets.clear();
  for (i64 micro = 0; micro < config.micro_batches; ++micro) {
    load(batch, micro * config.rows);
    load_sparse(*arguments.sparse, micro);
    run_forward_backward(queue, micro + 1 == config.micro_batches);
  }
  control.assign(2, 0.0);
  device.copy_out(control.data(), loss.data, 16);
  control.push_back(static_cast<double>(batch.valid));
  if (arguments.requests)
    control.insert(control.end(), arguments.requests->begin(), arguments.requests->end());
  const double before = seconds_now();
  if (queue) {
    const View word{control.data(), DType::f64, {static_cast<i64>(control.size())}};
    queue->wait(queue->submit([word](Communicator& c) { c.all_reduce(word, Reduce::sum); }));
  }
  StepResult result;
  result.comm_seconds = seconds_now() - before;
  result.weight = control[1];
  result.loss = result.weight > 0 ? control[0] / result.weight : 0.0;
  running_rows = control[2];
  result.requests.assign(control.begin() + 3, control.end());
  return result;
}

void Plan::Impl::update(StepResult& result, double learning_rate) {
  scalars.inverse_weight = result.weight > 0 ? 1.0 / result.weight : 0.0;
  scalars.learning_rate = learning_rate;
  double squares = 0;
  for (auto& kernel : norms) {
    double part = 0;
    kernel->run();
    device.copy_out(&part, norm.data, 8);
    squares += part;
  }
  result.grad_norm = std::sqrt(squares) * scalars.inverse_weight;
  result.skipped = !std::isfinite(result.loss) || !std::isfinite(result.grad_norm);
  if (result.skipped || result.weight <= 0) return;   // the same on every rank: inputs are reduced
  const double limit = config.optimizer.clip_norm;
  scalars.clip = limit > 0 && result.grad_norm > limit ? limit / result.grad_norm : 1.0;
  for (auto& kernel : updates) kernel->run();
  ++state.update_count;
}

StepResult Plan::Impl::infer(const Batch& batch) {
  device.zero(loss.data, loss.bytes());
  load(batch, 0);
  run_forward_backward(nullptr, false);
  double sums[2] = {0, 0};
  device.copy_out(sums, loss.data, 16);
  StepResult result;
  result.loss = sums[0];
  result.weight = sums[1];
  return result;
}

std::vector<double> Plan::Impl::read_value(i64 value, i64 rows) const {
  View view = value_view(value);
  view.shape[0] = rows;
  std::vector<double> values(static_cast<std::size_t>(view.count()));
  std::vector<char> raw(static_cast<std::size_t>(view.bytes()));
  device.copy_out(raw.data(), view.data, view.bytes());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (view.dtype == DType::f64) std::memcpy(&values[i], &raw[i * 8], 8);
    if (view.dtype == DType::f32) {
      float x;
      std::memcpy(&x, &raw[i * 4], 4);
      values[i] = x;
    }
    if (view.dtype == DType::i32) {
      i32 x;
      std::memcpy(&x, &raw[i * 4], 4);
      values[i] = x;
    }
  }
  return values;
}

Plan::Memory Plan::Impl::memory() const {
  Memory m{state.params.bytes(), state.grads.bytes(), state.slot0.bytes() + state.slot1.bytes(),
           map.bytes + scratch.bytes(), row_id.bytes() + position.bytes()};
  if (!config.train) m.grads = m.slots = 0;
  for (const TableState& table : state.tables) {
    m.params += table.weight.bytes();
    if (!config.train) continue;
    m.grads += table.grad.bytes() + table.rows.bytes();
    m.slots += table.slot0.bytes() + table.slot1.bytes();
  }
  for (const Staged& input : inputs)
    m.staging += input.data.bytes() + (input.lengths.data ? input.lengths.bytes() : 0);
  return m;
}

}  // namespace cohort
