#include "train/retention.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/log.h"

namespace cohort {

std::vector<i64> steps_to_remove(const std::vector<CheckpointFacts>& present,
                                 const Retention& retention) {
  std::vector<CheckpointFacts> sorted = present;
  std::sort(sorted.begin(), sorted.end(),
            [](const CheckpointFacts& a, const CheckpointFacts& b) { return a.step < b.step; });
  std::set<i64> keep(retention.best.begin(), retention.best.end());
  const i64 last = std::max<i64>(retention.keep_last, 1);
  for (std::size_t k = sorted.size(); k-- > 0;) {
    if (static_cast<i64>(sorted.size() - k) > last) break;
    keep.insert(sorted[k].step);
  }
  const auto good = std::find_if(sorted.rbegin(), sorted.rend(),
                                 [](const CheckpointFacts& c) { return c.good; });
  if (good != sorted.rend()) keep.insert(good->step);
  if (retention.every_hours > 0) {
    const CheckpointFacts* before = nullptr;   // the one kept for the hours before
    for (const CheckpointFacts& c : sorted) {
      if (before && c.time - before->time < retention.every_hours * 3600) continue;
      keep.insert(c.step);
      before = &c;
    }
  }
  std::vector<i64> remove;
  for (const CheckpointFacts& c : sorted) {
    if (keep.count(c.step) == 0) remove.push_back(c.step);
  }
  return remove;
}

std::vector<i64> prune(Files& files, const std::string& folder, const Retention& retention) {
  std::vector<CheckpointFacts> whole;
  for (const i64 step : checkpoint_steps(files, folder)) {
    try {
      whole.push_back(checkpoint_facts(files, folder + "/" + checkpoint_name(step)));
    } catch (const Error& e) {
      log::debug("not looked at: {}", e.what());
    }
  }
  const std::vector<i64> remove = steps_to_remove(whole, retention);
  for (const i64 step : remove) remove_checkpoint(files, folder + "/" + checkpoint_name(step));
  return remove;
}

}  // namespace cohort
