#include "train/rollback.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "train/checkpoint.h"
#include "train/json_lines.h"

namespace cohort {

using nlohmann::json;

std::vector<Rollback> read_rollbacks(Files& files, const std::string& path) {
  std::vector<Rollback> all;
  for (const json& line : read_json_lines(files, path)) {
    try {
      all.push_back({line.at("attempt"), line.at("first_skipped"), line.at("last_skipped"),
                     line.at("to"), line.at("learning_rate_factor"), line.at("skipped_steps")});
    } catch (const json::exception& e) {
      fail(Exit::storage, "{}: line {}: {}", path, all.size() + 1, e.what());
    }
  }
  return all;
}

void add_rollback(Files& files, const std::string& path, const Rollback& rollback) {
  const nlohmann::ordered_json line = {{"time", utc_now()},
                                       {"attempt", rollback.attempt},
                                       {"first_skipped", rollback.first_skipped},
                                       {"last_skipped", rollback.last_skipped},
                                       {"to", rollback.to},
                                       {"learning_rate_factor", rollback.learning_rate_factor},
                                       {"skipped_steps", rollback.skipped_steps}};
  const std::string before = files.exists(path) ? files.read(path) : "";
  write_atomically(files, path, before + line.dump() + "\n");
}

namespace {

// Errors say why it is not good.
void check_good(Files& files, const std::string& path) {
  if (!checkpoint_facts(files, path).good) fail(Exit::nonfinite, "it holds values that are not finite");
  if (load_checkpoint(files, path).state().value("skipped_in_row", i64{0}) > 0)
    fail(Exit::nonfinite, "it was written amid steps that were not finite");
}

}  // namespace

std::optional<i64> good_checkpoint(Files& files, const std::vector<std::string>& folders,
                                   i64 before) {
  std::vector<std::pair<i64, std::string>> all;
  for (const std::string& folder : folders)
    for (const i64 step : checkpoint_steps(files, folder))
      if (step < before) all.emplace_back(step, folder + "/" + checkpoint_name(step));
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (const auto& [step, path] : all) {
    try {
      check_good(files, path);
      return step;
    } catch (const Error& e) {
      log::warn("{} is not gone back to: {}", path, e.what());
    }
  }
  return {};
}

namespace {

// Rollbacks of the run when this checkpoint was written; nothing where that cannot be read.
std::optional<i64> rollbacks_of(Files& files, const std::string& checkpoint) {
  const std::string path = checkpoint + "/state.json";
  if (!files.exists(path)) return {};
  const json state = json::parse(files.read(path), nullptr, false);
  if (!state.is_object()) return {};
  return state.value("rollbacks", i64{0});
}

}  // namespace

void remove_left_behind(Files& files, const std::vector<std::string>& folders,
                        const std::vector<Rollback>& rollbacks) {
  for (const std::string& folder : folders) {
    for (const i64 step : checkpoint_steps(files, folder)) {
      const auto passed = [&](const Rollback& r) { return r.to < step; };
      const auto last = std::find_if(rollbacks.rbegin(), rollbacks.rend(), passed);
      if (last == rollbacks.rend()) continue;
      const std::string path = folder + "/" + checkpoint_name(step);
      const auto written_after = rollbacks_of(files, path);
      // A damaged one is skipped by who reads, and replaced by who writes that step again.
      if (!written_after || *written_after >= rollbacks.rend() - last) continue;
      remove_checkpoint(files, path);
      log::info("{} is removed: the run went back to step {}", path, last->to);
    }
  }
}

void count_rollbacks(json& state, const std::vector<Rollback>& rollbacks) {
  const auto all = static_cast<i64>(rollbacks.size());
  if (state.value("rollbacks", i64{0}) >= all) return;
  state["rollbacks"] = all;
  state["learning_rate_factor"] = rollbacks.back().learning_rate_factor;
  state["skipped_steps"] = rollbacks.back().skipped_steps;
}

}  // namespace cohort
