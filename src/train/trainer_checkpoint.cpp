// When checkpoints are written and read by the loop; their files: saver.cpp and checkpoint.cpp.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/build.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "train/rollback.h"
#include "train/trainer_impl.h"

namespace cohort {
namespace {

constexpr i64 kBroadcast = i64{64} << 20;   // bytes of one message

}  // namespace

// All ranks take rank 0's word for the folders: a file that it has just made may be unseen elsewhere.
void Trainer::make_saver() {
  const CheckpointConfig& c = session.experiment.checkpoint;
  folders = split(on_rank_0(ranks, [&] { return join(run.checkpoint_folders(c.second), "\n"); }),
                  '\n');
  SaverConfig config;
  config.first = folders[0];
  if (folders.size() > 1) config.second = folders[1];
  config.attempt = fmt::format("{}", run.attempt());
  config.retries = c.retries;
  config.still_newest = [folder = run] { return folder.still_newest(); };
  saver = std::make_unique<Saver>(files, ranks, *session.device, state->tensors(), config);
}

// What an earlier attempt, or a step that is undone, left in metrics.jsonl behind this one is removed.
void Trainer::open_records() {
  on_rank_0(ranks, [&] {
    finish_records();
    const auto ours = [folder = run] { return folder.still_newest(); };
    const i64 last = step > 0 ? step : -1;
    metrics = std::make_unique<MetricsLog>(files, run.metrics(), last,
                                           evaluation_due ? last - 1 : last, ours);
    epochs = std::make_unique<LedgerFile>(files, run.ledger(), ours);
    return "";
  });
}

// What the storage has refused to take until now.
void Trainer::finish_records() const {
  if (metrics) metrics->finish();
  if (epochs) epochs->finish();
  if (events) events->finish();
}

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

// A resume neither loses averages nor begins them amid a run.
void Trainer::check_averages(const LoadedCheckpoint& loaded) const {
  const double ema = session.experiment.optimizer.ema;
  if (has_averages(loaded) == (ema > 0)) return;
  fail(Exit::usage, "{}: cannot resume with optimizer.ema={}: the checkpoint holds {} of the "
       "weights; set it {}, or start a new run from them with --new init.from={}", loaded.path, ema,
       ema > 0 ? "no averages" : "averages", ema > 0 ? "to 0" : "as it was", run.path());
}

// Rank 0 reads and checks the newest valid checkpoint and hands it to all: state.json, or null where
// there is none, and the tensors into the device's memory. Collective.
nlohmann::json Trainer::load_state() {
  std::optional<LoadedCheckpoint> loaded;
  const std::string text = on_rank_0(ranks, [&] {
    const Reading reading(status, run.checkpoints());
    const std::vector<Rollback> before = read_rollbacks(files, run.rollbacks());
    for (const std::string& folder : folders) bring_back(files, folder);
    remove_left_behind(files, folders, before);
    loaded = load_newest(files, folders, [&] { status.goes_on(); });
    if (!loaded) {
      if (!before.empty()) files.remove(run.rollbacks());   // of a run that begins again
      return std::string("null");
    }
    nlohmann::json read = loaded->state();
    count_rollbacks(read, before);
    return read.dump();
  });
  const nlohmann::json saved = nlohmann::json::parse(text);
  if (saved.is_null()) return saved;
  check_resumable(saved);
  HostTensors host = state->copy_to_host();
  on_rank_0(ranks, [&] {
    check_averages(*loaded);
    restore(*loaded, host.views);
    log::info("resumed from {} at step {}", loaded->path, saved.at("step").get<i64>());
    return "";
  });
  loaded.reset();
  for (std::vector<u8>& bytes : host.bytes) {
    for (i64 at = 0, all = static_cast<i64>(bytes.size()); at < all; at += kBroadcast)
      ranks.broadcast(bytes.data() + at, std::min(kBroadcast, all - at), 0);
  }
  state->copy_from_host(host);
  return saved;
}

bool Trainer::resume() {
  const nlohmann::json saved = load_state();
  if (saved.is_null()) return false;
  take_state(saved);
  return true;
}

// What state.json holds besides the tensors.
void Trainer::take_state(const nlohmann::json& saved) {
  step = saved.at("step").get<i64>();
  productive_seconds = saved.value("productive_seconds", 0.0);
  skipped_steps = saved.value("skipped_steps", i64{0});
  bad_steps = saved.value("skipped_in_row", i64{0});
  rollbacks = saved.value("rollbacks", i64{0});
  rate_factor = saved.value("learning_rate_factor", 1.0);
  good_save = saved.value("good_checkpoint", i64{-1});
  clean_save = bad_steps == 0 ? step : -1;
  resumed_at = step;
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
  ranking.clear();
  if (saved.contains("ranking"))
    ranking = saved.at("ranking").get<std::vector<std::pair<double, i64>>>();
  else if (best_step >= 0)
    ranking = {{best, best_step}};
  const auto most = static_cast<std::size_t>(session.experiment.checkpoint.keep_best);
  if (ranking.size() > most) ranking.resize(most);
  handoff_due = saved.value("handoff_due", std::vector<i64>{});
  last_metrics.clear();
  evaluation_due = saved.value("evaluation_due", false);
  stopped_early = out_of_patience();
  ledger = Ledger(static_cast<i64>(ledger.lines().size()));   // rank 0's holds the sum
  if (ranks.rank() == 0) ledger_from_json(saved.at("ledger"), ledger);
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
          {"skipped_steps", skipped_steps},
          {"skipped_in_row", bad_steps},
          {"rollbacks", rollbacks},
          {"learning_rate_factor", rate_factor},
          {"good_checkpoint", good_save},
          {"seed", e.train.seed},
          {"global_batch", batch},
          {"lanes", lanes},
          {"window", e.data.window},
          {"data", session.shards->fingerprint()},
          {"best", {{"value", best}, {"step", best_step},
                    {"evaluations_since", evaluations_since_best}}},
          {"ranking", ranking},
          {"evaluation_due", evaluation_due},
          {"handoff_due", handoffs_not_done()},
          {"metrics", last_metrics},
          {"loss", last_loss},
          {"config", e.text()},
          {"ranks", ranks.size()},
          {"device", session.device->describe()},
          {"build", build_id()}};
}

// Whether to finish all steps now: a stop, a rollback, or a checkpoint that can begin.
bool Trainer::wants_edge() const {
  return stopping || rolling_back || (save_owed && !saver->busy());
}

// What all ranks asked for in a step that has finished.
void Trainer::heed(const StepResult& result) {
  const std::vector<double>& asked = result.requests;
  last_loss = result.loss;
  if (asked.at(Requests::stop) > 0) stopping = true;
  if (asked.at(Requests::save) > 0) save_owed = true;
  saver->note(step, given, {asked.at(Requests::written), asked.at(Requests::failed)});
  hand_over();
}

// Rank 0's clock decides for all.
bool Trainer::save_time_is_up() const {
  const double minutes = session.experiment.checkpoint.every_minutes;
  return ranks.rank() == 0 && minutes > 0 && seconds_now() - last_save >= minutes * 60;
}

// At the edge of a step, the same on all ranks. One that is due while another is being written is
// taken later; the best and the last are this step's, so that the other is waited for.
void Trainer::save_if_due() {
  const i64 every = session.experiment.checkpoint.every_steps;
  if (step % (every > 0 ? every : steps_per_epoch) == 0) save_owed = true;
  const bool last = step == total || stopping || stopped_early;
  const bool among_best = std::any_of(ranking.begin(), ranking.end(),
                                      [&](const auto& entry) { return entry.second == step; });
  const bool wanted = among_best || (!handoff_due.empty() && handoff_due.back() == step);
  if (!last && !wanted && (!save_owed || saver->busy())) return;
  saver->wait(given);
  hand_over();
  if (saver->last_step() != step) checkpoint();
  if (!last || saver->wait(given)) return;
  fail(Exit::storage, "step {}: the last checkpoint could not be written: {}; free space or check the "
       "storage, then --resume", step, saver->last_error());
}

// Begins one. Collective.
void Trainer::checkpoint() {
  const i64 newest = std::max(saver->last_step(), resumed_at);
  if (newest >= 0 && newest == clean_save && newest < step - bad_steps) good_save = newest;
  if (bad_steps == 0) clean_save = step;
  nlohmann::json saved = state_json();
  saved["ledger"] = ledger_to_json(summed_ledger());
  const CheckpointConfig& c = session.experiment.checkpoint;
  Saver::Content content{step, saved.dump(1) + "\n", {c.keep_last, {}, c.keep_every_hours}};
  for (const auto& [value, at] : ranking) content.retention.best.push_back(at);
  if (session.experiment.train.nonfinite_action == "rollback" && good_save >= 0)
    content.retention.best.push_back(good_save);
  const std::vector<i64> kept = handoffs_not_done();
  content.retention.best.insert(content.retention.best.end(), kept.begin(), kept.end());
  saver->begin(content);
  save_owed = false;
  last_save = seconds_now();
}

void Trainer::tell_checkpoints() const {
  const SaverTotals& t = saver->totals();
  const double all = seconds_now() - began;
  run.note({{"checkpoints", {{"written", t.written}, {"given_up", t.given_up}, {"bytes", t.bytes},
                             {"copied_s", t.copied_s}, {"waited_s", t.waited_s},
                             {"writing_s", t.writing_s}, {"slices_s", t.slices_s}}}});
  log::info("checkpoints: {} written, {} given up, {}; training stood still for {} ({:.2f} %)",
            t.written, t.given_up, human_bytes(t.bytes), human_seconds(t.copied_s + t.waited_s),
            all > 0 ? 100 * (t.copied_s + t.waited_s) / all : 0.0);
}

}  // namespace cohort
