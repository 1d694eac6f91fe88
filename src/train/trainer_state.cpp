#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/build.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "train/trainer_impl.h"

namespace cohort {

// The ledger of all ranks; the same on each.
Ledger Trainer::summed_ledger() {
  const std::vector<std::string> all = ranks.all_gather(std::string(
      reinterpret_cast<const char*>(ledger.lines().data()),
      ledger.lines().size() * sizeof(Ledger::Line)));
  Ledger sum(static_cast<i64>(ledger.lines().size()));
  for (const std::string& bytes : all) {
    std::vector<Ledger::Line> lines(bytes.size() / sizeof(Ledger::Line));
    std::memcpy(static_cast<void*>(lines.data()), bytes.data(), bytes.size());
    for (std::size_t s = 0; s < lines.size(); ++s) {
      sum.lines()[s].used += lines[s].used;
      sum.lines()[s].skipped += lines[s].skipped;
      sum.lines()[s].sum += lines[s].sum;
    }
  }
  return sum;
}

void Trainer::write_ledger() {
  const Ledger sum = summed_ledger();
  const auto& shards = session.shards->shards();
  std::vector<LedgerLine> lines;
  const i64 epoch = (step - 1) / steps_per_epoch;
  for (std::size_t s = 0; s < shards.size(); ++s) {
    if (shards[s].split != session.experiment.data.split) continue;
    const Ledger::Line& counts = sum.lines()[s];
    lines.push_back({epoch, shards[s].file, shards[s].rows, counts});
    if (counts.used + counts.skipped != shards[s].rows)
      fail(Exit::data, "epoch {}: ledger of {}: expected {} rows, got {} used and {} skipped; please "
           "report this", epoch, shards[s].file, shards[s].rows, counts.used, counts.skipped);
  }
  if (epochs) epochs->add(lines);
  ledger = Ledger(static_cast<i64>(shards.size()));
}

void Trainer::end_epoch() {
  write_ledger();
  evaluation_due = true;
  evaluate_epoch();
}

// Of the epoch that ends with this step, and what follows from its values. One that is stopped is
// left to the attempt that resumes.
void Trainer::evaluate_epoch() {
  if (evaluates(step)) {
    const std::string& split = session.experiment.eval.split;
    if (!evaluator) evaluator = std::make_unique<Evaluator>(session, *state, split);
    const std::optional<EvalResult> result = evaluator->run(stop_is_requested);
    if (!result) {
      stopping = true;
      return;
    }
    judge(*result);
  }
  evaluation_due = false;
  if (wants_handoff()) handoff_due.push_back(step);
}

bool Trainer::evaluates(i64 steps) const {
  const Experiment& e = session.experiment;
  const i64 every = e.train.eval_every_epochs;
  return every > 0 && ((steps / steps_per_epoch) % every == 0 || steps == total) &&
         session.shards->rows(e.eval.split) > 0;
}

// Records an evaluation; the best one and early stopping follow from values that are the same on
// every rank.
void Trainer::judge(const EvalResult& result) {
  const Experiment& e = session.experiment;
  const i64 epoch = (step - 1) / steps_per_epoch;
  std::string chosen = e.train.early_stop_metric;
  if (chosen.empty()) chosen = result.metrics.at(0).first;
  std::string text;
  for (const auto& [name, value] : result.metrics) {
    text += fmt::format(" {} {:.6g}", name, value);
    if (events) events->scalar(e.eval.split + "/" + name, value, step, unix_time());
    if (name != chosen) continue;
    const bool better = larger_is_better(name) ? value > best : value < best;
    if (std::isfinite(value) && (best_step < 0 || better)) {
      best = value;
      best_step = step;
      evaluations_since_best = 0;
    } else {
      ++evaluations_since_best;
    }
    rank_evaluation(value, larger_is_better(name));
  }
  last_metrics = result.metrics;
  if (metrics) metrics->add(EvalLine{step, epoch, e.eval.split, result.rows, result.metrics});
  if (ranks.rank() == 0)
    log::info("epoch {} step {} {}: {} rows{}", epoch + 1, step, e.eval.split, result.rows, text);
  stopped_early = out_of_patience();
  if (stopped_early && ranks.rank() == 0)
    log::info("early stop: {} has not improved in {} evaluations", chosen, evaluations_since_best);
}

// The best evaluations so far, the best first; earlier ones first among equals.
void Trainer::rank_evaluation(double value, bool larger) {
  if (!std::isfinite(value)) return;
  const auto worse = [&](const std::pair<double, i64>& other) {
    return larger ? value > other.first : value < other.first;
  };
  ranking.insert(std::find_if(ranking.begin(), ranking.end(), worse), {value, step});
  const auto most = static_cast<std::size_t>(session.experiment.checkpoint.keep_best);
  if (ranking.size() > most) ranking.resize(most);
}

bool Trainer::out_of_patience() const {
  const i64 patience = session.experiment.train.early_stop_patience;
  return patience > 0 && evaluations_since_best >= patience;
}

void Trainer::finish(Exit outcome) {
  ranks.barrier();
  if (ranks.rank() != 0) return;
  const std::string recordings = plan->recordings();
  if (!recordings.empty()) log::info("{}: {}", run.path(), recordings);
  finish_handoff(outcome);
  finish_records();
  run.finish(outcome == Exit::done ? "done" : "stopped", static_cast<int>(outcome));
  tell_effective_time();
  tell_totals();
  if (outcome == Exit::stopped)
    log::info("stopped on request at step {} with a checkpoint; --resume goes on", step);
  tell_checkpoints();
  log::flush();
}

// run.json tells how the attempt ended, where the storage still takes it.
void Trainer::note_failure(const Error& error) const {
  if (ranks.rank() != 0) return;
  try {
    run.finish(error.what(), static_cast<int>(error.exit_code()));
    tell_effective_time();
    tell_totals();
    finish_records();
  } catch (const Error& second) {
    log::warn("not all of the run's files tell how it ended: {}", second.what());
  }
}

}  // namespace cohort
