#include "train/warm_start.h"

#include <fnmatch.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "train/checkpoint.h"
#include "train/run_folder.h"

namespace cohort {
namespace {

using Names = std::vector<std::string>;

bool matches_any(const std::string& name, const Names& patterns) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return matches(name, pattern); });
}

Names names_of(const Graph& graph) {
  Names names;
  for (const Param& param : graph.params) names.push_back(param.name);
  return names;
}

void check_patterns(const char* key, const Names& patterns, const Names& names) {
  for (const std::string& pattern : patterns) {
    if (std::any_of(names.begin(), names.end(),
                    [&](const std::string& name) { return matches(name, pattern); }))
      continue;
    const std::string near = nearest(pattern, names);
    fail(Exit::usage, "{}: \"{}\" matches no parameter of the model{}; there are: {}", key, pattern,
         near.empty() ? "" : fmt::format(" (did you mean \"{}\"?)", near), join(names, ", "));
  }
}

std::string listed(const Names& names) {
  return names.empty() ? "0" : fmt::format("{} ({})", names.size(), join(names, ", "));
}

// The checkpoint that init.from names: itself, or the newest valid one of a run.
LoadedCheckpoint open_source(Files& files, const std::string& from) {
  if (files.exists(from + "/manifest.json")) return load_checkpoint(files, from);
  if (!files.exists(from + "/checkpoints"))
    fail(Exit::usage, "init.from: {}: expected a run folder (with checkpoints/) or a checkpoint "
         "(step-<12 digits>), got neither", from);
  std::optional<LoadedCheckpoint> newest = load_newest(files, checkpoint_folders(files, from));
  if (!newest) fail(Exit::usage, "init.from: {}: the run has no checkpoint yet", from);
  return std::move(*newest);
}

// Embeddings mean what the vocabulary of their shard set says.
void warn_of_vocabulary(const Session& session, const WarmStart& chosen, const std::string& data) {
  if (data == session.shards->fingerprint()) return;
  for (const Node& node : session.graph->nodes) {
    if (!std::holds_alternative<Embedding>(node.op)) continue;
    for (i64 p : node.params) {
      const std::string& name = session.graph->params[static_cast<std::size_t>(p)].name;
      if (std::count(chosen.taken.begin(), chosen.taken.end(), name))
        log::warn("{}: taken from a run on another shard set: its rows mean the same ids only where "
                  "both sets have the same vocabulary; else add it to init.fresh", name);
    }
  }
}

void tell(const Session& session, const WarmStart& chosen) {
  Names frozen;
  for (const Param& param : session.graph->params)
    if (param.frozen) frozen.push_back(param.name);
  log::info("warm start, not a resume: weights from {} (step {} of that run); step, optimizer and "
            "rows begin anew\n  taken: {}\n  left to the seed: {}\n  frozen: {}\n  not used: {}",
            chosen.checkpoint, chosen.step, listed(chosen.taken), listed(chosen.fresh),
            listed(frozen), listed(chosen.unused));
}

}  // namespace

bool matches(const std::string& name, const std::string& pattern) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

void freeze_parameters(Graph& graph, const InitConfig& init) {
  check_patterns("init.freeze", init.freeze, names_of(graph));
  bool left = graph.params.empty();
  for (Param& param : graph.params) {
    param.frozen = matches_any(param.name, init.freeze);
    left = left || (!param.frozen && !param.running);
  }
  if (!left)
    fail(Exit::usage, "init.freeze: {}: nothing is left to train; name fewer parameters",
         join(init.freeze, ", "));
}

WarmStart choose_tensors(const Graph& graph, const InitConfig& init,
                         const std::vector<KnownTensor>& known) {
  const Names names = names_of(graph);
  check_patterns("init.load", init.load, names);
  check_patterns("init.fresh", init.fresh, names);
  WarmStart chosen;
  for (const Param& param : graph.params) {
    if (!matches_any(param.name, init.load) || matches_any(param.name, init.fresh)) {
      chosen.fresh.push_back(param.name);
      continue;
    }
    const auto found = std::find_if(known.begin(), known.end(), [&](const KnownTensor& tensor) {
      return tensor.name == param.name;
    });
    if (found == known.end())
      fail(Exit::usage, "init.from: {}: no tensor '{}' {} there; add it to init.fresh, to leave it "
           "to the seed", init.from, param.name, to_string(param.shape));
    if (found->shape != param.shape)
      fail(Exit::usage, "init.from: {}: tensor '{}': expected shape {}, got {}; add it to init.fresh, "
           "to leave it to the seed", init.from, param.name, to_string(param.shape),
           to_string(found->shape));
    chosen.taken.push_back(param.name);
  }
  for (const KnownTensor& tensor : known)
    if (!tensor.name.starts_with("optimizer/") &&
        !std::count(names.begin(), names.end(), tensor.name))
      chosen.unused.push_back(tensor.name);
  return chosen;
}

void warm_start(Files& files, const Session& session, ModelState& state) {
  const InitConfig& init = session.experiment.init;
  if (init.from.empty()) {
    if (!init.fresh.empty())
      fail(Exit::usage, "init.fresh without init.from: all parameters begin from the seed; set "
           "init.from or remove init.fresh");
    return;
  }
  Communicator& ranks = session.ranks();
  const Graph& graph = *session.graph;
  std::optional<LoadedCheckpoint> source;
  WarmStart chosen;
  const std::string taken = on_rank_0(ranks, [&] {
    source = open_source(files, init.from);
    std::vector<KnownTensor> known;
    for (const auto& [name, tensor] : source->tensors) known.push_back({name, tensor.first.shape});
    chosen = choose_tensors(graph, init, known);
    chosen.checkpoint = source->path;
    chosen.step = source->state().value("step", i64{0});
    return join(chosen.taken, "\n");
  });
  const Names list = split(taken, '\n');
  const std::set<std::string> wanted(list.begin(), list.end());
  for (std::size_t p = 0; p < graph.params.size(); ++p) {
    const std::string& name = graph.params[p].name;
    if (!wanted.count(name)) continue;
    const View to = state.weight(static_cast<i64>(p));
    std::vector<char> bytes(static_cast<std::size_t>(to.bytes()));
    if (source) {
      const auto average = source->tensors.find(average_name(name));   // what was evaluated
      const View& from = average != source->tensors.end() ? average->second.first
                                                          : source->tensors.at(name).first;
      bytes = from_doubles(to.dtype, to_doubles(from.dtype, from.data, from.count()));
    }
    ranks.broadcast(bytes.data(), to.bytes(), 0);
    session.device->copy_in(to.data, bytes.data(), to.bytes());
  }
  state.restart_average();
  if (ranks.rank() != 0) return;
  tell(session, chosen);
  if (has_averages(*source)) log::info("warm start: the weights are that run's averages of them");
  warn_of_vocabulary(session, chosen, source->state().value("data", ""));
}

}  // namespace cohort
