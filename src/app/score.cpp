#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"

namespace cohort {
namespace {

// The checkpoint that a word names: best (by the early-stopping metric), last, or a step.
LoadedCheckpoint find_checkpoint(Files& files, const std::string& run, const std::string& which) {
  const std::string folder = run + "/checkpoints";
  const auto at_step = [&](i64 step) {
    return load_checkpoint(files, folder + "/" + checkpoint_name(step));
  };
  const auto named = parse_i64(which);
  if (named) return at_step(*named);
  if (which != "best" && which != "last")
    fail(Exit::usage, "--checkpoint {}: expected best, last or a step", which);
  auto last = load_newest(files, folder);
  if (!last)
    fail(Exit::storage, "{}: no checkpoint there; train first, or name a run folder", folder);
  const i64 best = last->state().at("best").at("step").get<i64>();
  const bool is_last = last->state().at("step") == best;
  if (which == "best" && best >= 0 && !is_last) return at_step(best);
  if (which == "best" && best < 0)
    log::info("{}: no evaluation chose a best step yet; taking the last checkpoint", run);
  return std::move(*last);
}

struct Loaded {
  Session session;
  std::unique_ptr<ModelState> state;
  i64 step = 0;
};

Loaded load(World& world, const ScoreOptions& options) {
  Files& files = real_files();
  if (!files.exists(options.run + "/config.yaml"))
    fail(Exit::usage, "{}: expected a run folder with config.yaml; give runs/<name>", options.run);
  Loaded l;
  l.session = open_session(world, Experiment::load(options.run + "/config.yaml",
                                                   options.overrides));
  const Graph& graph = *l.session.graph;
  l.state = std::make_unique<ModelState>(*l.session.device, graph,
                                         std::vector<i64>(graph.params.size(), 0), false);
  const LoadedCheckpoint checkpoint = find_checkpoint(files, options.run, options.checkpoint);
  HostTensors host = l.state->copy_to_host();
  restore(checkpoint, host.views, "optimizer/");
  l.state->copy_from_host(host);
  l.step = checkpoint.state().at("step").get<i64>();
  if (l.session.shards->rows(options.split) == 0) {
    std::string names;
    for (const ShardInfo& s : l.session.shards->shards()) names += " " + s.split;
    fail(Exit::usage, "split '{}' has no rows in {}; shards there are of:{}", options.split,
         l.session.shards->path(), names);
  }
  return l;
}

}  // namespace

int run_eval(World& world, const ScoreOptions& options) {
  Loaded l = load(world, options);
  const EvalResult result = Evaluator(l.session, *l.state, options.split).run();
  if (world.communicator().rank() != 0) return 0;
  nlohmann::json metrics = nlohmann::json::object();
  for (const auto& [name, value] : result.metrics)
    metrics[name] = std::isfinite(value) ? nlohmann::json(value) : nlohmann::json();
  if (options.json) {
    const nlohmann::json report = {{"run", options.run}, {"split", options.split},
                                   {"step", l.step}, {"rows", result.rows}, {"metrics", metrics}};
    fmt::print("{}\n", report.dump());
  } else {
    fmt::print("{} split {} step {}: {} rows\n", options.run, options.split, l.step, result.rows);
    for (const auto& [name, value] : result.metrics) fmt::print("  {:<10} {:.6f}\n", name, value);
  }
  return 0;
}

int run_predict(World& world, const ScoreOptions& options) {
  Loaded l = load(world, options);
  std::vector<std::pair<i64, std::string>> mine;
  Evaluator(l.session, *l.state, options.split)
      .each([&](const EvalBlock& block, const Evaluator::Scored& s) {
        const i64 width = s.steps * s.width;
        for (i64 r = 0; r < s.batch->valid; ++r) {
          const auto row = s.prediction.begin() + r * width;
          const nlohmann::json line = {{"row", s.batch->row_ids[static_cast<std::size_t>(r)]},
                                       {"prediction", std::vector<double>(row, row + width)}};
          mine.emplace_back(block.begin + r, line.dump());
        }
      });
  nlohmann::json packed = mine;
  std::vector<std::pair<i64, std::string>> all;
  for (const std::string& part : world.communicator().all_gather(packed.dump())) {
    const auto rows = nlohmann::json::parse(part).get<std::vector<std::pair<i64, std::string>>>();
    all.insert(all.end(), rows.begin(), rows.end());
  }
  if (world.communicator().rank() != 0) return 0;
  std::sort(all.begin(), all.end());
  std::string text;
  for (const auto& row : all) text += row.second + "\n";
  Files& files = real_files();
  files.make_folder(options.run + "/predictions");
  const std::string path = options.run + "/predictions/" + options.split + ".jsonl";
  write_atomically(files, path, text);
  log::info("{}: {} rows", path, all.size());
  return 0;
}

}  // namespace cohort
