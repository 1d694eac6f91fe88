// What the loop does about steps that are not finite, and about replicas that differ.
#include <cmath>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "train/nonfinite.h"
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

// By the config alone, so that all ranks come to it.
bool Trainer::compares_replicas(i64 steps) const {
  const i64 every = session.experiment.train.compare_every_steps;
  return replicas && every > 0 && steps % every == 0;
}

}  // namespace cohort
