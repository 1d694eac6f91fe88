#include "train/experiment.h"

#include "base/error.h"

namespace cohort {
namespace {

void bind_run_control(Binder& b, TrainConfig& c) {
  b.key("eval_every_epochs", c.eval_every_epochs, at_least(0),
        "Epochs between evaluations; 0: never.");
  b.key("early_stop_patience", c.early_stop_patience, at_least(0),
        "Stop after this many evaluations without a better value; 0: never.");
  b.key("early_stop_metric", c.early_stop_metric, any(),
        "What best and early stopping watch: one of metrics; empty: the first.");
  b.key("log_every_steps", c.log_every_steps, at_least(1), "Steps between lines of metrics.jsonl.");
}

void bind_failures(Binder& b, TrainConfig& c) {
  b.key("nonfinite_limit", c.nonfinite_limit, at_least(1),
        "Steps in a row that are not finite before nonfinite_action.");
  b.key("nonfinite_action", c.nonfinite_action, one_of({"stop", "rollback"}),
        "stop: exit 6; rollback: go on from the newest good checkpoint at a lower learning rate.");
  b.key("rollback_rate", c.rollback_rate, between(0.001, 1.0),
        "Factor on the learning rate of each rollback; 1 leaves it as it is.");
  b.key("most_rollbacks", c.most_rollbacks, at_least(0),
        "Rollbacks of a run, over all its attempts; then exit 6.");
  b.key("step_timeout_s", c.step_timeout_s, at_least(0),
        "Seconds until a step that is not done ends the job, naming the rank; 0: never.");
  b.key("blame_every_s", c.blame_every_s, at_least(0),
        "Seconds between looks for a slow rank or link; 0: never.");
  b.key("compare_every_steps", c.compare_every_steps, at_least(0),
        "Steps between comparisons of the ranks' weights by checksum; 0: never.");
}

}  // namespace

void bind(Binder& b, DataConfig& c) {
  b.required("shards", c.shards, any(), "Folder of the shard set.");
  b.key("split", c.split, any(), "Split that is trained on.");
  b.key("lanes", c.lanes, at_least(0), "Fixed streams that an epoch is cut into; 0: at most 64.");
  b.key("window", c.window, at_least(1), "Blocks shuffled together inside a lane.");
  b.key("threads", c.threads, between(1, 256), "Reader threads of a rank.");
  b.key("ahead", c.ahead, between(1, 1024), "Batches read ahead.");
  b.key("stage_dir", c.stage_dir, any(),
        "Folder on a local disk that shards are copied to, once a host; empty: read in place.");
  b.key("stage_gib", c.stage_gib, at_least(0), "Most GiB that stage_dir may hold; 0: what is free.");
}

void bind(Binder& b, TrainConfig& c) {
  b.key("global_batch", c.global_batch, at_least(0), "Rows of a step over all ranks.");
  b.key("batch_per_rank", c.batch_per_rank, at_least(0),
        "Instead of global_batch: rows of a rank. The run then depends on the number of ranks.");
  b.key("epochs", c.epochs, at_least(1), "Passes over the training split.");
  b.key("max_steps", c.max_steps, at_least(0), "Stop after this many steps; 0: no limit.");
  b.key("accumulate", c.accumulate, at_least(1),
        "Passes that a step's rows are split into: less memory, the same result.");
  b.key("seed", c.seed, any(), "Of initial weights, the order of rows and dropout.");
  bind_run_control(b, c);
  bind_failures(b, c);
  b.key("bucket_mib", c.bucket_mib, between(1, 1024), "MiB of a gradient bucket.");
}

void bind(Binder& b, InitConfig& c) {
  b.key("from", c.from, any(),
        "Run folder or checkpoint whose weights training begins with; empty: weights from the seed.");
  b.key("load", c.load, any(), "Patterns (*, ?) of the parameters taken from there.");
  b.key("fresh", c.fresh, any(), "Patterns of parameters left to the seed: a new head.");
  b.key("freeze", c.freeze, any(), "Patterns of parameters that training does not change.");
}

void bind(Binder& b, CheckpointConfig& c) {
  b.key("every_steps", c.every_steps, at_least(0),
        "Steps between checkpoints; 0: at the end of every epoch.");
  b.key("every_minutes", c.every_minutes, at_least(0.0),
        "Minutes between checkpoints, besides; 0: by steps alone.");
  b.key("keep_last", c.keep_last, at_least(1), "Newest checkpoints kept.");
  b.key("keep_best", c.keep_best, at_least(0), "Best checkpoints kept, by early_stop_metric.");
  b.key("keep_every_hours", c.keep_every_hours, at_least(0.0),
        "Of the others, one is kept for every so many hours; 0: none.");
  b.key("retries", c.retries, at_least(0), "Times that a failed write is tried again.");
  b.key("second", c.second, any(), "Folder for checkpoints that the run's folder does not take.");
}

void bind(Binder& b, DeviceConfig& c) {
  b.key("kind", c.kind, one_of({"cpu", "cuda", "reference"}),
        "cpu: float32; cuda: one NVIDIA GPU for each rank; reference: float64, slow, plain loops.");
  b.key("threads", c.threads, between(0, 1024),
        "cpu: compute threads of a rank; 0: an equal share of the cores.");
  b.key("isa", c.isa, one_of({"auto", "baseline", "avx2", "avx512"}),
        "cpu: the highest instruction set to use; auto: the best that every rank has.");
  b.key("precision", c.precision, one_of({"f32", "tf32", "bf16", "f16"}),
        "cuda: of matrix products; bf16 and f16 also of activations. Weights stay float32.");
  b.key("graph", c.graph, any(), "cuda: record each kind of step once and replay it.");
  b.key("share_gpu", c.share_gpu, any(), "cuda: let ranks share a GPU, to test with few; slow.");
  b.key("reduce", c.reduce, one_of({"f32", "bf16"}), "cuda: type of gradients between ranks.");
}

void bind(Binder& b, EvalConfig& c) {
  b.key("batch", c.batch, at_least(1), "Rows of a block; a score never depends on the ranks.");
  b.key("split", c.split, any(), "Split that is evaluated during training.");
}

void bind(Binder& b, HandoffConfig& c) {
  b.key("repo", c.repo, any(), "Serving repository that checkpoints are published into; empty: none.");
  b.key("on_best", c.on_best, any(), "After an evaluation that is the best so far.");
  b.key("every_epochs", c.every_epochs, at_least(0), "After every so many epochs, besides; 0: never.");
  b.key("metric", c.metric, any(),
        "Promoted only where it is not worse than current's; empty: what early stopping watches.");
  b.key("max_worse", c.max_worse, at_least(0.0), "By how much it may be worse, still promoted.");
  b.key("keep", c.keep, at_least(0),
        "Versions kept; the current one and the one before always are. 0: all.");
}

void bind(Binder& b, Experiment& c) {
  b.required("name", c.name, any(), "Name of the run's folder.");
  b.key("runs", c.runs, any(), "Folder that holds the run folders.");
  b.group("data", c.data, "The shard set and how it is read.");
  b.group("model", c.model, "Inputs, layers and loss.");
  b.group("optimizer", c.optimizer, "The update rule and its schedule.");
  b.group("train", c.train, "The loop.");
  b.group("init", c.init, "Weights to begin with.");
  b.group("checkpoint", c.checkpoint, "When checkpoints are written, and which are kept.");
  b.group("device", c.device, "What a rank computes on.");
  b.group("eval", c.eval, "Evaluation.");
  b.group("handoff", c.handoff, "Publishing to serving while training goes on.");
  b.key("metrics", c.metrics, any(), "Metrics of evaluations; empty: all that the loss allows.");
  if (b.mode() != Binder::Mode::read) return;
  if ((c.train.global_batch > 0) == (c.train.batch_per_rank > 0)) {
    b.error("exactly one of train.global_batch and train.batch_per_rank must be at least 1",
            b.has("train") ? "train" : "");
  }
}

Experiment Experiment::parse(const Document& document) {
  Experiment experiment;
  Binder::read(document, experiment);
  return experiment;
}

Experiment Experiment::load(const std::string& path, const std::vector<std::string>& overrides) {
  Document document = Document::load(path);
  for (const std::string& assignment : overrides) document.override_key(assignment);
  return parse(document);
}

std::string Experiment::text() const { return Binder::write(*this); }

i64 Experiment::global_batch(i64 world) const {
  const i64 batch =
      train.global_batch > 0 ? train.global_batch : train.batch_per_rank * world;
  if (world > batch) {
    fail(Exit::usage,
         "train.global_batch is {}, but the job has {} ranks: every rank needs a row of the batch. "
         "Start at most {} ranks or raise train.global_batch",
         batch, world, batch);
  }
  return batch;
}

}  // namespace cohort
