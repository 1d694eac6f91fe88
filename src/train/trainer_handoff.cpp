// When checkpoints are handed to serving.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "train/trainer_impl.h"

namespace cohort {

void Trainer::open_handoff(const HandoffMaker& maker) {
  HandoffConfig config = session.experiment.handoff;
  if (config.repo.empty()) return;
  MetricSpec spec = metric_spec(session);
  if (config.metric.empty()) config.metric = session.experiment.train.early_stop_metric;
  if (config.metric.empty()) config.metric = spec.names.at(0);
  spec.names = {config.metric};
  check_metrics(spec);
  if (ranks.rank() == 0 && maker) handoff = maker(config, run.path());
}

// At the end of an epoch, after its evaluation; the same on all ranks.
bool Trainer::wants_handoff() const {
  const HandoffConfig& c = session.experiment.handoff;
  if (c.repo.empty()) return false;
  const i64 epoch = step / steps_per_epoch;
  return (c.on_best && best_step == step) || (c.every_epochs > 0 && epoch % c.every_epochs == 0);
}

// Begins with the checkpoints that are due and exist, the best and the newest of them; tells of what
// has ended.
void Trainer::hand_over() {
  const i64 newest = std::max(saver->last_step(), resumed_at);
  const auto written = std::upper_bound(handoff_due.begin(), handoff_due.end(), newest);
  const std::vector<i64> due(handoff_due.begin(), written);
  handoff_due.erase(handoff_due.begin(), written);
  if (!handoff) return;
  for (const i64 at : due)
    if (at == best_step || at == due.back()) begin_handoff(at);
  handoff->poll();
}

void Trainer::begin_handoff(i64 at) {
  for (const std::string& folder : folders) {
    const std::string path = folder + "/" + checkpoint_name(at);
    if (files.exists(path)) return handoff->begin(path, at, at == best_step);
  }
  log::warn("step {}: no checkpoint of it to hand over", at);
}

// Steps of checkpoints that are due or under way, ascending: they are kept, and an attempt that
// resumes hands them over. On rank 0.
std::vector<i64> Trainer::handoffs_not_done() const {
  std::vector<i64> steps = handoff ? handoff->steps() : std::vector<i64>{};
  steps.insert(steps.end(), handoff_due.begin(), handoff_due.end());
  return steps;
}

// At the end of a run, on rank 0. One that must stop soon waits for nothing: --resume does it.
void Trainer::finish_handoff(Exit outcome) {
  if (!handoff) return;
  hand_over();
  if (outcome != Exit::stopped) handoff->wait();
  for (const i64 left : handoff->steps())
    log::info("hand-off of step {} is left to the attempt that resumes", left);
  const HandoffTotals& t = handoff->totals();
  run.note({{"handoff", {{"promoted", t.promoted}, {"not_promoted", t.not_promoted},
                         {"failed", t.failed}}}});
  log::info("hand-offs to {}: {} promoted, {} kept but not promoted, {} failed",
            session.experiment.handoff.repo, t.promoted, t.not_promoted, t.failed);
}

}  // namespace cohort
