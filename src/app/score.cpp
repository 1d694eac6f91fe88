#include <algorithm>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/trained.h"
#include "base/error.h"
#include "base/log.h"
#include "serve/json_text.h"
#include "train/evaluate.h"

namespace cohort {
namespace {

Trained load(World& world, const ScoreOptions& options) {
  Files& files = real_files();
  if (!files.exists(options.run + "/config.yaml"))
    fail(Exit::usage, "{}: expected a run folder with config.yaml; give runs/<name>", options.run);
  Experiment experiment = Experiment::load(options.run + "/config.yaml", options.overrides);
  Trained t = load_trained(world, std::move(experiment),
                           find_checkpoint(files, options.run, options.checkpoint));
  check_split(*t.session.shards, options.split);
  return t;
}

}  // namespace

int run_eval(World& world, const ScoreOptions& options) {
  Trained l = load(world, options);
  const EvalResult result = *Evaluator(l.session, *l.state, options.split).run();
  if (world.communicator().rank() != 0) return 0;
  nlohmann::json metrics = nlohmann::json::object();
  for (const auto& [name, value] : result.metrics) metrics[name] = number_or_null(value);
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
  Trained l = load(world, options);
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
