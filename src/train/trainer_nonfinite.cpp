// What the loop does about steps that are not finite, and about replicas that differ.
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "train/nonfinite.h"
#include "train/rollback.h"
#include "train/trainer_impl.h"

namespace cohort {
namespace {

constexpr i64 most_searches = 3;   // of steps in a row: later ones tell no more

}  // namespace

// Collective: every rank knows that the step was skipped.
void Trainer::tell_skipped(const BegunStep& done, const StepResult& result) {
  const SkippedStep skipped{step + 1, result.loss, result.grad_norm, bad_steps, skipped_steps};
  std::string blame;
  const bool overflow =   // float16 finds its loss scale by overflowing
      session.device->activation() == DType::f16 && std::isfinite(result.loss);
  if (!overflow && bad_steps <= most_searches) {
    const Batch& rows = done.item.batch;
    const NonFinite found = plan->find_nonfinite(rows, done.item.sparse, reducer.get());
    std::vector<std::string> shards;
    for (const ShardInfo& shard : session.shards->shards()) shards.push_back(shard.file);
    std::string named;
    if (!found.rows.empty()) named = name_rows(rows, found.rows, shards);
    if (found.largest_row >= 0)
      named = fmt::format("a sum over rows, the largest {:.3g} of {}", found.largest,
                          name_rows(rows, {found.largest_row}, shards));
    blame = "; " + blame_nonfinite(ranks, found, named);
  }
  if (ranks.rank() == 0) log::warn("{}{}", to_text(skipped), blame);
}

// After the last of train.nonfinite_limit steps in a row: as configured, or as far as it goes.
void Trainer::give_up_or_roll_back() {
  const TrainConfig& c = session.experiment.train;
  const bool may = c.nonfinite_action == "rollback";
  rolling_back = may && rollbacks < c.most_rollbacks;
  last_skipped = step + 1;
  if (rolling_back) return;
  const std::string tried =
      may ? fmt::format(", and so it was after {} rollbacks, the last at {:.3g} times the learning "
                        "rate (train.most_rollbacks)", rollbacks, rate_factor)
          : "";
  fail(Exit::nonfinite, "step {}: {} steps in a row were not finite{}; lower the learning rate or set "
       "optimizer.clip_norm, then resume from the newest checkpoint", step + 1, bad_steps, tried);
}

// Of rank 0. The steps in a row are the last `bad_steps` ones. The weights that gave the first of
// them would give it again, so a finite step must lie between the checkpoint and them. Makes the
// rollback count.
std::string Trainer::choose_checkpoint() {
  const TrainConfig& c = session.experiment.train;
  const i64 first = last_skipped - bad_steps + 1;
  if (!run.still_newest())
    fail(Exit::storage, "{}: another job has taken the run over: no rollback", run.path());
  const std::optional<i64> to = good_checkpoint(files, folders, first - 1);
  if (!to)
    fail(Exit::nonfinite, "steps {} to {} were not finite, and no checkpoint from before them is good "
         "to go back to; lower the learning rate or set optimizer.clip_norm, then start again with "
         "--new", first, last_skipped);
  const Rollback next{run.attempt(), first,        last_skipped,
                      *to,           rate_factor * c.rollback_rate, skipped_steps};
  add_rollback(files, run.rollbacks(), next);
  log::warn("steps {} to {} were not finite: going back to the checkpoint of step {}, with {:.3g} "
            "times the learning rate of the config (rollback {} of {})", first, last_skipped, next.to,
            next.learning_rate_factor, rollbacks + 1, c.most_rollbacks);
  return "";
}

// As a resume in the same process. All steps are finished. Collective.
void Trainer::roll_back() {
  enter(Phase::checkpoint);
  saver->wait(given);
  on_rank_0(ranks, [&] { return choose_checkpoint(); });
  if (!resume())
    fail(Exit::storage, "{}: the checkpoint to go back to is gone", run.path());
  saver->forget_last();
  rolling_back = save_owed = false;
  if (replicas)
    replicas = std::make_unique<ReplicaCheck>(*session.device, state->tensors());
  status.done(step);
  open_records();
}

void Trainer::tell_totals() const {
  run.note({{"skipped_steps", skipped_steps}, {"rollbacks", rollbacks}});
  log::info("steps skipped because they were not finite: {}; rollbacks: {}", skipped_steps,
            rollbacks);
}

// By the config alone, so that all ranks come to it.
bool Trainer::compares_replicas(i64 steps) const {
  const i64 every = session.experiment.train.compare_every_steps;
  return replicas && every > 0 && steps % every == 0;
}

}  // namespace cohort
