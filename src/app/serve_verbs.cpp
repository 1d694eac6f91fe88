#include "app/serve_verbs.h"

namespace cohort {
namespace {

using Job = std::function<int()>;
using RankJob = std::function<int(World&)>;

void add_export(CLI::App& app, ExportOptions& o, RankJob& job) {
  CLI::App* verb = app.add_subcommand("export", "a run's model as a bundle to serve, proved");
  verb->footer("Example: cohort export runs/image-cnn --to bundles/image-cnn");
  verb->add_option("path", o.path, "run folder or checkpoint")->required();
  verb->add_option("--to", o.to, "the bundle's folder, which must not exist")->required();
  verb->add_option("--checkpoint", o.checkpoint, "of a run: best, last or a step")
      ->capture_default_str();
  verb->add_option("--opset", o.opset, "of the ONNX models; 17 for newer runtimes alone")
      ->check(CLI::IsMember({13, 17}))
      ->capture_default_str();
  verb->add_option("overrides", o.overrides, "key=value: replaces a key of the config");
  verb->callback([&] { job = [&o](World& w) { return run_export(w, o); }; });
}

void add_score(CLI::App& app, ScoreBundleOptions& o, Job& job) {
  CLI::App* verb = app.add_subcommand("score", "answers of a bundle to raw rows: JSON lines on stdin");
  verb->footer("Example: echo '{\"text\":\"a fine film\"}' | cohort score bundles/sentiment-cnn");
  verb->add_option("bundle", o.bundle, "bundle")->required();
  verb->add_option("--top", o.top, "two-tower: for rows with a user, that many items, best first")
      ->check(CLI::Range(1LL, 1000000LL));
  verb->add_option("--threads", o.threads, "compute threads; 0: all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  verb->add_option("--rows", o.rows, "most rows answered at a time")
      ->check(CLI::Range(1LL, 65536LL))
      ->capture_default_str();
  verb->callback([&] { job = [&o] { return run_score_bundle(o); }; });
}

}  // namespace

void add_serve_verbs(CLI::App& app, ServeVerbs& options, Job& job, RankJob& rank_job) {
  add_export(app, options.exporting, rank_job);
  add_score(app, options.scoring, job);
}

}  // namespace cohort
