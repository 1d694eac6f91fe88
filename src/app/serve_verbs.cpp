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
  verb->add_flag("--external-data", o.external_data,
                 "weights beside the ONNX models, as is done above 1.5 GiB anyhow");
  verb->add_option("overrides", o.overrides, "key=value: replaces a key of the config");
  verb->callback([&] {
    if (o.to.empty()) throw CLI::ValidationError("--to", "expected a folder, got an empty name");
    job = [&o](World& w) { return run_export(w, o); };
  });
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
  verb->add_option("--bench", o.bench, "seconds to measure for, on golden rows; reads nothing")
      ->check(CLI::PositiveNumber);
  verb->callback([&] { job = [&o] { return run_score_bundle(o); }; });
}

void add_serve(CLI::App& app, ServeOptions& o, Job& job) {
  CLI::App* verb = app.add_subcommand("serve", "a bundle behind HTTP, with a page for people");
  verb->footer("Example: cohort serve bundles/sentiment-cnn --port 8000");
  verb->add_option("bundle", o.bundle, "bundle");
  verb->add_option("--repo", o.repo, "instead: a repository, whose current bundle is followed");
  CLI::Option* name =
      verb->add_option("--name", o.name, "of the model in URLs; default: the folder's name");
  verb->add_option("--host", o.host, "address to listen on")->capture_default_str();
  verb->add_option("--port", o.port, "0: any free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  verb->add_option("--threads", o.threads, "that answer, each a batch at a time; 0: all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  const auto add = [&](const char* option, long long& value, const char* what, CLI::Range range) {
    verb->add_option(option, value, what)->check(range)->capture_default_str();
  };
  add("--max-batch", o.max_batch, "rows answered together", {1LL, 65536LL});
  add("--max-wait-us", o.max_wait_us, "that a row waits for others", {0LL, 10000000LL});
  add("--queue", o.queue, "rows that may wait; more are refused", {1LL, 1LL << 30});
  add("--max-body-mib", o.max_body_mib, "of a request", {1LL, 1024LL});
  add("--timeout-ms", o.timeout_ms, "until a request gets 504", {1LL, 3600000LL});
  add("--drain-ms", o.drain_ms, "from a signal until no connection is taken", {0LL, 600000LL});
  verb->add_option("--connections", o.connections, "served at a time")
      ->check(CLI::Range(1, 512))
      ->capture_default_str();
  verb->callback([&o, &job, name] {
    if (name->count() > 0 && !is_model_name(o.name))
      throw CLI::ValidationError("--name", "expected a name without '/', not . or .., got '" +
                                               o.name + "'");
    if (o.bundle.empty() == o.repo.empty())
      throw CLI::ValidationError("serve", "expected a bundle or --repo FOLDER");
    job = [&o] { return run_serve(o); };
  });
}

}  // namespace

void add_serve_verbs(CLI::App& app, ServeVerbs& options, Job& job, RankJob& rank_job) {
  add_export(app, options.exporting, rank_job);
  add_score(app, options.scoring, job);
  add_serve(app, options.serving, job);
}

}  // namespace cohort
