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

void Evaluator::each(const std::function<void(const EvalBlock&, const Scored&)>& use) {
  const Communicator& ranks = session_.ranks();
  Batch batch;
  for (const EvalBlock& block : eval_blocks(reader_.rows(), session_.experiment.eval.batch,
                                            ranks.rank(), ranks.size())) {
    reader_.read_rows(batch, block, session_.experiment.eval.batch);
    plan_.infer(batch);
    Scored scored{&batch, steps_, spec_.width, plan_.prediction(batch.valid),
                  plan_.target(batch.valid)};
    use(block, scored);
  }
}

EvalResult Evaluator::run() {
  std::string mine;
  each([&](const EvalBlock& block, const Scored& scored) {
    const std::vector<i32> valid = valid_steps(*scored.batch);
    MetricBlock metrics(spec_);
    metrics.add({scored.batch->valid, scored.steps, scored.prediction.data(),
                 scored.target.data(), valid.empty() ? nullptr : valid.data()});
    mine += metrics.bytes(block.index);
  });
  EvalResult result;
  result.rows = reader_.rows();
  result.metrics = merge_metrics(spec_, session_.ranks().all_gather(mine));
  return result;
}

}  // namespace cohort
