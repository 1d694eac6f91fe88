#include "app/trained.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "train/run_folder.h"

namespace cohort {

LoadedCheckpoint find_checkpoint(Files& files, const std::string& run, const std::string& which) {
  const std::vector<std::string> folders = checkpoint_folders(files, run);
  const auto at_step = [&](i64 step) {
    for (const std::string& folder : folders) {
      const std::string path = folder + "/" + checkpoint_name(step);
      if (files.exists(path)) return load_checkpoint(files, path);
    }
    fail(Exit::storage, "{}: no checkpoint of step {}; `cohort checkpoint list` tells which exist",
         join(folders, ", "), step);
  };
  const auto named = parse_i64(which);
  if (named) return at_step(*named);
  if (which != "best" && which != "last")
    fail(Exit::usage, "--checkpoint {}: expected best, last or a step", which);
  auto last = load_newest(files, folders);
  if (!last)
    fail(Exit::storage, "{}: no checkpoint there; train first, or name a run folder",
         join(folders, ", "));
  const i64 best = last->state().at("best").at("step").get<i64>();
  const bool is_last = last->state().at("step") == best;
  if (which == "best" && best >= 0 && !is_last) return at_step(best);
  if (which == "best" && best < 0)
    log::info("{}: no evaluation chose a best step yet; taking the last checkpoint", run);
  return std::move(*last);
}

Trained load_trained(World& world, Experiment experiment, const LoadedCheckpoint& checkpoint) {
  Trained t;
  t.session = open_session(world, std::move(experiment));
  const Graph& graph = *t.session.graph;
  t.state = std::make_unique<ModelState>(*t.session.device, graph,
                                         std::vector<i64>(graph.params.size(), 0), false);
  HostTensors host = t.state->copy_to_host();
  restore(checkpoint, host.views, "optimizer/");
  if (has_averages(checkpoint)) {
    take_averages(checkpoint, host.views);
    log::info("{}: the weights are their averages (optimizer.ema)", checkpoint.path);
  }
  t.state->copy_from_host(host);
  t.step = checkpoint.state().at("step").get<i64>();
  return t;
}

void check_split(const ShardSet& shards, const std::string& split) {
  if (shards.rows(split) > 0) return;
  std::string names;
  for (const ShardInfo& s : shards.shards()) names += " " + s.split;
  fail(Exit::usage, "split '{}' has no rows in {}; shards there are of:{}", split, shards.path(),
       names);
}

}  // namespace cohort
