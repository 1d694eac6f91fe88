#include "train/evaluate.h"

#include "base/error.h"

namespace cohort {
namespace {

PlanConfig inference(const Session& session) {
  PlanConfig config;
  config.rows = session.experiment.eval.batch;
  config.global_batch = config.rows;
  config.seed = session.experiment.train.seed;
  return config;
}

}  // namespace

Evaluator::Evaluator(Session& session, ModelState& state, const std::string& split)
    : session_(session),
      spec_(metric_spec(session)),
      reader_(session.shards, split, session.graph->inputs, 4),
      state_(state.averaged()),
      plan_(*session.device, *session.graph, state_, inference(session)) {
  const Graph& graph = *session.graph;
  const Value& prediction = graph.values[static_cast<std::size_t>(graph.prediction)];
  steps_ = count(prediction.shape) / spec_.width;
}

std::vector<i32> Evaluator::valid_steps(const Batch& batch) const {
  const Graph& graph = *session_.graph;
  const Value& prediction = graph.values[static_cast<std::size_t>(graph.prediction)];
  if (prediction.lengths < 0 || steps_ == 1) return {};
  const std::vector<i32>& lengths =
      batch.columns[static_cast<std::size_t>(prediction.lengths)].lengths;
  std::vector<i32> valid;
  for (i64 r = 0; r < batch.valid; ++r) {
    const i64 length = lengths[static_cast<std::size_t>(r)];
    valid.push_back(static_cast<i32>(cohort::valid_steps(prediction, length)));
  }
  return valid;
}

bool Evaluator::agree_to_stop(bool mine) {
  i64 any = mine;
  session_.ranks().all_reduce(View{&any, DType::i64, {1}}, Reduce::max);
  return any > 0;
}

// The ranks' numbers of blocks differ by one at most: all ask as often as the one that has the most.
bool Evaluator::score(const Use& use, const std::function<bool()>& stop) {
  const Communicator& ranks = session_.ranks();
  const i64 capacity = session_.experiment.eval.batch;
  const std::vector<EvalBlock> blocks =
      eval_blocks(reader_.rows(), capacity, ranks.rank(), ranks.size());
  const i64 all = (reader_.rows() + capacity - 1) / capacity;
  const i64 rounds = (all + ranks.size() - 1) / ranks.size();
  Batch batch;
  for (i64 k = 0; k < rounds; ++k) {
    if (stop && agree_to_stop(stop())) return false;
    if (k >= std::ssize(blocks)) continue;
    const EvalBlock& block = blocks[static_cast<std::size_t>(k)];
    reader_.read_rows(batch, block, capacity);
    plan_.infer(batch);
    use(block, {&batch, steps_, spec_.width, plan_.prediction(batch.valid),
                plan_.target(batch.valid)});
    session_.world->status().goes_on();
  }
  return true;
}

void Evaluator::each(const Use& use) { score(use, {}); }

std::optional<EvalResult> Evaluator::run(const std::function<bool()>& stop) {
  std::string mine;
  const auto add = [&](const EvalBlock& block, const Scored& scored) {
    const std::vector<i32> valid = valid_steps(*scored.batch);
    MetricBlock metrics(spec_);
    metrics.add({scored.batch->valid, scored.steps, scored.prediction.data(),
                 scored.target.data(), valid.empty() ? nullptr : valid.data()});
    mine += metrics.bytes(block.index);
  };
  if (!score(add, stop)) return {};
  EvalResult result;
  result.rows = reader_.rows();
  result.metrics = merge_metrics(spec_, session_.ranks().all_gather(mine));
  return result;
}

}  // namespace cohort
