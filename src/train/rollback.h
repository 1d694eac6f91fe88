// Going back to a checkpoint from before steps that were not finite.
//
// rollbacks.jsonl in the run folder makes it happen: a rollback counts once its line is there. The
// checkpoints that it leaves behind are removed after that, by the next attempt if need be.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "store/files.h"

namespace cohort {

struct Rollback {
  i64 attempt = 1;
  i64 first_skipped = 0, last_skipped = 0;   // the steps in a row
  i64 to = 0;                                // step of the checkpoint
  double learning_rate_factor = 1;           // of the run, from here on
  i64 skipped_steps = 0;                     // of the run, so far
};

// The rollbacks of a run, the oldest first; none where there is no file.
std::vector<Rollback> read_rollbacks(Files& files, const std::string& path);
void add_rollback(Files& files, const std::string& path, const Rollback& rollback);

// The newest valid checkpoint in `folders` of fewer than `before` steps whose values are finite and
// that was not written amid skipped steps. Others are warned about.
std::optional<i64> good_checkpoint(Files& files, const std::vector<std::string>& folders,
                                   i64 before);

// Removes what was written before a rollback and lies behind the step that it went back to.
void remove_left_behind(Files& files, const std::vector<std::string>& folders,
                        const std::vector<Rollback>& rollbacks);

// Where `state` (of state.json) was written before the last rollback: what holds since.
void count_rollbacks(nlohmann::json& state, const std::vector<Rollback>& rollbacks);

}  // namespace cohort
