#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/build.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "train/trainer_impl.h"

namespace cohort {

void Trainer::check_resumable(const nlohmann::json& saved) const {
  const nlohmann::json now = state_json();
  for (const char* key : {"seed", "global_batch", "lanes", "window", "data"}) {
    if (saved.at(key) == now.at(key)) continue;
    fail(Exit::usage, "{}: cannot resume: '{}' was {} in the checkpoint and is {} now: the rest of "
         "the epoch would use other rows; set it back, or start a new run with --new",
         run.path(), key, saved.at(key).dump(), now.at(key).dump());
  }
  for (const char* key : {"ranks", "device", "build"})
    if (ranks.rank() == 0 && saved.at(key) != now.at(key))
      log::warn("resuming with another {} ({} then, {} now): the run goes on, equal up to rounding, "
                "not bit for bit", key, saved.at(key).dump(), now.at(key).dump());
}

bool Trainer::resume() {
  std::optional<LoadedCheckpoint> loaded;
  const std::string path = on_rank_0(ranks, [&] {
    loaded = load_newest(files, run.checkpoints());
    return loaded ? loaded->path : "";
  });
  if (path.empty()) return false;
  if (ranks.rank() != 0) loaded = load_checkpoint(files, path);
  const nlohmann::json& saved = loaded->state();
  check_resumable(saved);
  HostTensors host = state->copy_to_host();
  restore(*loaded, host.views);
  state->copy_from_host(host);
  step = saved.at("step").get<i64>();
  productive_seconds = saved.value("productive_seconds", 0.0);
  Decision decision = state->first_decision();
  decision.updates = saved.at("update_count").get<i64>();
  if (decision.loss_scale != 1 && saved.value("loss_scale", 1.0) != 1) {   // float16, then and now
    decision.loss_scale = saved.at("loss_scale").get<double>();
    decision.good_steps = saved.at("good_steps").get<i64>();
  }
  state->write_decision(decision);
  best = saved.at("best").at("value").get<double>();
  best_step = saved.at("best").at("step").get<i64>();
  evaluations_since_best = saved.at("best").at("evaluations_since").get<i64>();
  stopped_early = out_of_patience();
  if (ranks.rank() == 0) {
    ledger_from_json(saved.at("ledger"), ledger);
    log::info("resumed from {} at step {}", path, step);
  }
  return true;
}

nlohmann::json Trainer::state_json() const {
  const Experiment& e = session.experiment;
  const i64 lanes = e.data.lanes > 0 ? e.data.lanes : std::min<i64>(batch, 64);
  const Decision decision = state->read_decision();
  return {{"step", step},
          {"epoch", step / steps_per_epoch},
          {"epoch_step", step % steps_per_epoch},
          {"update_count", decision.updates},
          {"loss_scale", decision.loss_scale},
          {"good_steps", decision.good_steps},
          {"productive_seconds", productive_seconds},
          {"seed", e.train.seed},
          {"global_batch", batch},
          {"lanes", lanes},
          {"window", e.data.window},
          {"data", session.shards->fingerprint()},
          {"best", {{"value", best}, {"step", best_step},
                    {"evaluations_since", evaluations_since_best}}},
          {"ranks", ranks.size()},
          {"device", session.device->describe()},
          {"build", build_id()}};
}

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

void Trainer::checkpoint() {
  const Ledger sum = summed_ledger();
  on_rank_0(ranks, [&] {
    const HostTensors host = state->copy_to_host();
    nlohmann::json saved = state_json();
    saved["ledger"] = ledger_to_json(sum);
    try {
      save_checkpoint(files, run.checkpoints() + "/" + checkpoint_name(step), host.views,
                      saved, [&] { return run.still_newest(); });
      prune(files, run.checkpoints(), session.experiment.checkpoint.keep_last, best_step);
    } catch (const Error& e) {
      fail(Exit::storage, "step {}: checkpoint: {}", step, e.what());
    }
    return "";
  });
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
  on_rank_0(ranks, [&] {
    append_ledger(files, run.ledger(), lines);
    return "";
  });
  ledger = Ledger(static_cast<i64>(shards.size()));
}

void Trainer::end_epoch() {
  write_ledger();
  const Experiment& e = session.experiment;
  const i64 epoch = step / steps_per_epoch;
  const bool due = e.train.eval_every_epochs > 0 &&
                   (epoch % e.train.eval_every_epochs == 0 || step == total);
  if (!due || session.shards->rows(e.eval.split) == 0) return;
  if (!evaluator) evaluator = std::make_unique<Evaluator>(session, *state, e.eval.split);
  judge(evaluator->run());
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
  }
  if (metrics) metrics->add(EvalLine{step, epoch, e.eval.split, result.rows, result.metrics});
  if (ranks.rank() == 0)
    log::info("epoch {} step {} {}: {} rows{}", epoch + 1, step, e.eval.split, result.rows, text);
  stopped_early = out_of_patience();
  if (stopped_early && ranks.rank() == 0)
    log::info("early stop: {} has not improved in {} evaluations", chosen, evaluations_since_best);
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
  run.finish(outcome == Exit::done ? "done" : "stopped", static_cast<int>(outcome));
  tell_effective_time();
  if (outcome == Exit::stopped)
    log::info("stopped on request at step {} with a checkpoint; --resume goes on", step);
  log::flush();
}

// run.json tells how the attempt ended, where the storage still takes it.
void Trainer::note_failure(const Error& error) const {
  if (ranks.rank() != 0) return;
  try {
    run.finish(error.what(), static_cast<int>(error.exit_code()));
    tell_effective_time();
  } catch (const Error& second) {
    log::warn("run.json keeps the outcome before: {}", second.what());
  }
}

}  // namespace cohort
