#include "app/export.h"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "app/trained.h"
#include "base/build.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "serve/bundle.h"
#include "serve/scorer.h"
#include "serve/towers.h"
#include "train/evaluate.h"

namespace cohort {
namespace {

LoadedCheckpoint open_path(Files& files, const ExportOptions& options) {
  if (files.exists(options.path + "/checkpoints"))
    return find_checkpoint(files, options.path, options.checkpoint);
  if (!files.exists(options.path + "/state.json"))
    fail(Exit::usage, "{}: expected a run folder (with checkpoints/) or a checkpoint (with "
         "state.json), got neither", options.path);
  return load_checkpoint(files, options.path);
}

// Weights of the reference device, rounded to what serves.
void to_float32(LoadedCheckpoint& checkpoint) {
  for (auto& [name, tensor] : checkpoint.tensors) {
    auto& [view, bytes] = tensor;
    if (view.dtype != DType::f64) continue;
    const std::vector<char> rounded =
        from_doubles(DType::f32, to_doubles(DType::f64, view.data, view.count()));
    bytes.assign(rounded.begin(), rounded.end());
    view.data = bytes.data();
    view.dtype = DType::f32;
  }
}

// As it was trained, but on this machine's CPU in float32, which is what serves.
Experiment experiment_of(const LoadedCheckpoint& checkpoint, const ExportOptions& options) {
  Document document = Document::parse(checkpoint.state().at("config").get<std::string>(),
                                      checkpoint.path + "/state.json config");
  for (const std::string& assignment : options.overrides) document.override_key(assignment);
  Experiment experiment = Experiment::parse(document);
  const DeviceConfig trained = experiment.device;
  experiment.device = DeviceConfig{};
  experiment.device.threads = trained.threads;
  if (trained.kind != "cpu")
    log::info("trained with device.kind {}, precision {}; metrics and golden answers of the bundle "
              "are the CPU's, in float32", trained.kind, trained.precision);
  experiment.data.stage_dir.clear();
  return experiment;
}

const Input& target_of(const Graph& graph) {
  for (const Input& input : graph.inputs)
    if (input.value == graph.target) return input;
  broken(__FILE__, __LINE__, "a graph whose target is no input");
}

// Of a binary model what 0 and 1 stand for in the raw data.
std::vector<std::string> two_labels(const Session& session) {
  const auto rule = target_rule(*session.shards, *session.graph);
  if (!rule) return {"0", "1"};
  const std::vector<double> raw = rule->raw_of({0, 1});
  return {fmt::format("{:.6g}", raw[0]), fmt::format("{:.6g}", raw[1])};
}

std::vector<std::string> labels_of(const Session& session) {
  const Graph& graph = *session.graph;
  const LossKind loss = std::get<Loss>(graph.nodes.back().op).kind;
  if (loss == LossKind::mse) return {};
  if (loss == LossKind::bce) return two_labels(session);
  const Vocabulary* names = vocabulary_of(target_of(graph).field, session.shards->fields(),
                                          session.shards->vocabularies());
  if (names) return names->entries;
  std::vector<std::string> labels;
  const Shape& shape = graph.values[static_cast<std::size_t>(graph.prediction)].shape;
  for (i64 k = 0; k < shape.back(); ++k) labels.push_back(std::to_string(k));
  return labels;
}

// The trainer's answers, from the rows as the shard set holds them, for the raw rows that it kept.
class GoldenRows {
 public:
  explicit GoldenRows(const std::vector<SampleRow>& samples) : samples_(samples) {
    for (const SampleRow& sample : samples) answers_[sample.row];
  }
  void add(const Graph& graph, const Evaluator::Scored& scored) {
    const i64 input = graph.values[static_cast<std::size_t>(graph.prediction)].lengths;
    const i64 width = scored.steps * scored.width;
    for (i64 r = 0; r < scored.batch->valid; ++r) {
      const auto row = static_cast<std::size_t>(r);
      const auto found = answers_.find(scored.batch->row_ids[row]);
      if (found == answers_.end()) continue;
      const i64 length =
          input < 0 ? 0 : scored.batch->columns[static_cast<std::size_t>(input)].lengths[row];
      found->second = answer_of(graph, scored.prediction.data() + r * width, length);
    }
  }
  std::vector<GoldenRow> rows(const Preprocess& preprocess, const std::string& shards) const {
    std::vector<GoldenRow> rows;
    for (const SampleRow& sample : samples_) {
      const Answer& answer = answers_.at(sample.row);
      if (answer.output.empty())
        fail(Exit::data, "{}/samples.jsonl: row {} is not in split {}; shard the data again", shards,
             sample.row, sample.split);
      for (const double x : answer.output)
        if (!std::isfinite(x))
          fail(Exit::nonfinite, "row {} of split {}: the model's output is not finite; export "
               "another checkpoint", sample.row, sample.split);
      rows.push_back({preprocess.raw_row(sample).dump(), sample.row, answer.output, answer.probabilities});
    }
    return rows;
  }

 private:
  const std::vector<SampleRow>& samples_;
  std::map<i64, Answer> answers_;
};

std::vector<GoldenRow> golden_rows(Trained& trained, const Preprocess& preprocess) {
  const std::vector<SampleRow> samples = trained.session.shards->samples();
  const std::string& path = trained.session.shards->path();
  if (samples.empty())
    fail(Exit::data, "{}: the shard set keeps no raw rows (samples.jsonl), so that the bundle could "
         "not be proved; make it again with `cohort shard` of this version", path);
  GoldenRows golden(samples);
  std::map<std::string, i64> splits;
  for (const SampleRow& sample : samples) ++splits[sample.split];
  for (const auto& [split, rows] : splits)
    Evaluator(trained.session, *trained.state, split)
        .each([&](const EvalBlock&, const Evaluator::Scored& scored) {
          golden.add(*trained.session.graph, scored);
        });
  return golden.rows(preprocess, path);
}

Lineage lineage_of(Trained& trained, const ExportOptions& options) {
  Lineage l;
  const Experiment& experiment = trained.session.experiment;
  l.run = experiment.name;
  l.config = experiment.text();
  l.build = build_id();
  l.data = trained.session.shards->fingerprint();
  l.step = trained.step;
  l.split = experiment.eval.split;
  if (trained.session.shards->rows(l.split) > 0)
    l.metrics = Evaluator(trained.session, *trained.state, l.split).run()->metrics;
  else
    log::warn("{}: no rows of split '{}' in {}: the bundle carries no metrics, so that `cohort "
              "publish` cannot compare it; give eval.split=NAME", options.to, l.split,
              trained.session.shards->path());
  return l;
}

}  // namespace

int run_export(World& world, const ExportOptions& options) {
  if (world.communicator().size() > 1)
    fail(Exit::usage, "export is for one process, got {} ranks; start it without mpirun",
         world.communicator().size());
  Files& files = real_files();
  if (files.exists(options.to))
    fail(Exit::usage, "--to {}: exists already; a bundle is never written over: name another folder, "
         "or remove this one", options.to);
  LoadedCheckpoint checkpoint = open_path(files, options);
  to_float32(checkpoint);
  Trained trained = load_trained(world, experiment_of(checkpoint, options), checkpoint);
  checkpoint = {};   // its tensors may be many bytes
  WatchConfig unwatched;
  unwatched.step_timeout = 0;   // nobody waits, and a large bundle takes its time
  world.watch(unwatched);
  const Preprocess preprocess = Preprocess::of(*trained.session.shards, *trained.session.graph);
  const HostTensors weights = trained.state->copy_to_host();
  BundleContent content;
  content.model = &trained.session.experiment.model;
  content.graph = trained.session.graph.get();
  content.weights = weights.views;
  content.preprocess = &preprocess;
  content.golden = golden_rows(trained, preprocess);
  content.labels = labels_of(trained.session);
  content.lineage = lineage_of(trained, options);
  content.opset = options.opset;
  if (options.external_data) content.inline_model = -1;
  content.shards = trained.session.shards;
  const std::string digest = write_bundle(files, options.to, content);
  log::info("{}: {} at step {}, {} golden rows answered alike", options.to, content.lineage.run,
            trained.step, content.golden.size());
  fmt::print("{}  {}/manifest.json\n", digest, options.to);
  return 0;
}

}  // namespace cohort
