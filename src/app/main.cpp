// cohort: the verbs and their options. Exit codes: docs/operations.md.
#include <CLI/CLI.hpp>
#include <csignal>
#include <functional>
#include <optional>

#include "app/bench.h"
#include "app/checkpoint.h"
#include "app/child.h"
#include "app/commands.h"
#include "app/compare.h"
#include "app/doctor.h"
#include "app/handoff.h"
#include "app/inspect.h"
#include "app/publish.h"
#include "app/serve_verbs.h"
#include "app/slurm_job.h"
#include "app/stop_signals.h"
#include "app/sweep.h"
#include "app/verify.h"
#include "base/build.h"
#include "base/error.h"
#include "base/log.h"
#include "train/parity.h"
#include "train/trainer.h"

namespace {

using namespace cohort;

using Job = std::function<int()>;
using RankJob = std::function<int(World&)>;

struct TrainVerb {
  std::optional<StopSignals> signals;
  std::string config;
  std::vector<std::string> overrides;
  bool resume = false, another = false;
  i64 parity = 0;
  std::string chaos;
};

int run_train(World& world, const TrainVerb& o) {
  if (o.resume && o.another) fail(Exit::usage, "--resume and --new exclude each other");
  check_world_size(world, slurm_job_tasks);
  std::signal(SIGPIPE, SIG_IGN);
  const RunMode mode =
      o.resume ? RunMode::resume : o.another ? RunMode::another : RunMode::fresh;
  if (o.parity > 0)
    return static_cast<int>(run_parity(world, Experiment::load(o.config, o.overrides), o.parity));
  TrainOptions options(mode, o.chaos);
  options.handoff = make_handoff;
  const Experiment experiment = Experiment::load(o.config, o.overrides);
  check_handoff_folder(experiment.handoff.repo);
  return static_cast<int>(train(world, experiment, options));
}

// Runs a job on the ranks of this launch.
int on_ranks(int argc, char** argv, const RankJob& job) {
  const std::unique_ptr<World> world = join_world(&argc, &argv);
  try {
    return job(*world);
  } catch (const Error& e) {
    return world->give_up(static_cast<int>(e.exit_code()), e.what());
  } catch (const std::exception& e) {
    return world->give_up(1, e.what());
  }
}

struct Options {
  ShardOptions shard;
  TrainVerb train;
  ScoreOptions score;
  InspectOptions inspect;
  VerifyOptions verify;
  CheckpointOptions checkpoint;
  CompareOptions compare;
  BenchOptions bench;
  DoctorOptions doctor;
  SweepOptions sweep;
  ServeVerbs serving;
  PublishVerbs publishing;
  i64 parent = 0;                       // of become
  std::string cores;                    // of become
};

void add_overrides(CLI::App* verb, std::vector<std::string>& overrides) {
  verb->add_option("overrides", overrides, "key=value: replaces a key of the file");
}

void add_score(CLI::App* verb, Options& o) {
  verb->add_option("run", o.score.run, "run folder")->required();
  verb->add_option("--split", o.score.split, "split to score")->capture_default_str();
  verb->add_option("--checkpoint", o.score.checkpoint, "best, last or a step")
      ->capture_default_str();
  verb->add_flag("--json", o.score.json, "machine-readable report on stdout");
  add_overrides(verb, o.score.overrides);
}

void add_data_verbs(CLI::App& app, Options& o, Job& job) {
  CLI::App* shard = app.add_subcommand("shard", "raw files -> HDF5 shard set");
  shard->footer("Example: cohort shard shards/demo-images.yaml");
  shard->add_option("recipe", o.shard.recipe, "recipe (YAML)");
  add_overrides(shard, o.shard.overrides);
  shard->add_option("--demo", o.shard.demo, "write synthetic demo data into this folder instead");
  shard->add_option("--seed", o.shard.seed, "of the demo data");
  shard->add_option("--memory-mib", o.shard.memory_mib, "rows held; more are sorted on disk")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  shard->callback([&] {
    if (o.shard.recipe.empty() == o.shard.demo.empty())
      throw CLI::ValidationError("shard", "expected a recipe or --demo FOLDER");
    job = [&o] { return run_shard(o.shard); };
  });
  CLI::App* inspect = app.add_subcommand("inspect", "what a shard set, config, checkpoint or run is");
  inspect->footer("Example: cohort inspect runs/image-cnn --json");
  inspect->add_option("path", o.inspect.path, "what to inspect")->required();
  add_overrides(inspect, o.inspect.overrides);
  inspect->add_flag("--json", o.inspect.json, "machine-readable");
  inspect->callback([&] { job = [&o] { return run_inspect(o.inspect); }; });
  CLI::App* verify = app.add_subcommand("verify", "check every checksum of a shard set or checkpoint");
  verify->footer("Example: cohort verify shards/out/demo-images");
  verify->add_option("path", o.verify.path, "what to verify")->required();
  verify->add_flag("--json", o.verify.json, "machine-readable");
  verify->callback([&] { job = [&o] { return run_verify(o.verify); }; });
  CLI::App* compare = app.add_subcommand("compare", "configs and metrics of runs side by side");
  compare->footer("Example: cohort compare runs/image-cnn runs/image-cnn-2");
  compare->add_option("runs", o.compare.runs, "run folders")->required();
  compare->add_flag("--json", o.compare.json, "machine-readable");
  compare->add_option("--svg", o.compare.svg, "also draw their learning curves into this file");
  compare->add_option("--metric", o.compare.metric, "of evaluations, for --svg; default: the first");
  compare->callback([&] { job = [&o] { return run_compare(o.compare); }; });
}

void add_checkpoint(CLI::App& app, Options& o, Job& job) {
  CLI::App* verb = app.add_subcommand("checkpoint", "list, verify, compare or remove checkpoints");
  verb->footer("Example: cohort checkpoint list runs/image-cnn");
  verb->require_subcommand(1);
  const auto add = [&](const char* name, const char* what, int (*run)(const CheckpointOptions&)) {
    CLI::App* sub = verb->add_subcommand(name, what);
    sub->add_option("path", o.checkpoint.path, "run folder, its checkpoints/, or a checkpoint")
        ->required();
    sub->callback([&o, &job, run] { job = [&o, run] { return run(o.checkpoint); }; });
    return sub;
  };
  CLI::App* list = add("list", "a run's checkpoints", run_checkpoint_list);
  list->add_flag("--json", o.checkpoint.json, "machine-readable");
  CLI::App* verify = add("verify", "read all, check every checksum", [](const CheckpointOptions& c) {
    return run_verify({c.path, c.json});
  });
  verify->add_flag("--json", o.checkpoint.json, "machine-readable");
  CLI::App* diff = add("diff", "which tensors of two differ, and how much; 1 if any does",
                       run_checkpoint_diff);
  diff->add_option("other", o.checkpoint.other, "the other one")->required();
  diff->add_flag("--json", o.checkpoint.json, "machine-readable");
  CLI::App* prune = add("prune", "remove all but the newest and the best", run_checkpoint_prune);
  prune->add_option("--keep-last", o.checkpoint.keep_last, "newest kept")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
  prune->add_option("--keep-best", o.checkpoint.keep_best, "best kept")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  prune->add_option("--keep-every-hours", o.checkpoint.keep_every_hours, "of the rest, one for each")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  prune->add_flag("--dry-run", o.checkpoint.dry_run, "only say what would go");
}

void add_bench(CLI::App& app, Options& o, Job& job) {
  CLI::App* bench = app.add_subcommand("bench", "training-step throughput on this machine");
  bench->footer("Example: cohort bench behavior-seed image-seed --threads 2");
  bench->add_option("workloads", o.bench.workloads, "which; all by default");
  bench->add_option("--threads", o.bench.threads, "compute threads")->capture_default_str();
  bench->add_option("--isa", o.bench.isa, "auto, baseline, avx2, avx512")->capture_default_str();
  bench->add_option("--device", o.bench.device, "cpu or cuda, with shapes to suit it")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  bench->add_option("--precision", o.bench.precision, "f32, tf32, bf16 or f16, of a GPU")
      ->check(CLI::IsMember({"f32", "tf32", "bf16", "f16"}))
      ->capture_default_str();
  bench->add_flag("--no-graph", o.bench.no_graph, "a GPU's steps launch by launch");
  bench->add_option("--batch", o.bench.batch, "rows of a step; default: the workload's")
      ->check(CLI::Range(1, 1 << 20));
  bench->add_option("--seconds", o.bench.seconds, "per workload")->capture_default_str();
  bench->add_flag("--floor", o.bench.floor, "no device, no timing: what a step costs at least");
  bench->add_flag("--plan", o.bench.plan, "no timing: the steps of the plan, counted");
  bench->add_flag("--json", o.bench.json, "machine-readable");
  bench->callback([&] { job = [&o] { return run_bench(o.bench); }; });
}

void add_doctor(CLI::App& app, Options& o, RankJob& job) {
  CLI::App* doctor = app.add_subcommand("doctor", "whether hosts, network, shared folder and GPUs are fit");
  doctor->footer("Example: mpirun -n 2 cohort doctor --folder runs");
  doctor->add_option("--folder", o.doctor.folder, "the shared folder")->capture_default_str();
  doctor->add_option("--mib", o.doctor.mib, "written and read there on each host")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  doctor->add_option("--gpu-seconds", o.doctor.gpu_seconds, "within which a self-test of a GPU has to end")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  doctor->add_flag("--json", o.doctor.json, "machine-readable report on stdout");
  doctor->callback([&] {
    job = [&o](World& w) {
      check_world_size(w, slurm_job_tasks);
      return run_doctor(w, o.doctor);
    };
  });
}

void add_sweep(CLI::App& app, Options& o, Job& job) {
  CLI::App* sweep = app.add_subcommand("sweep", "many trainings: a grid or a random search over keys");
  sweep->footer("Example: cohort sweep configs/sweeps/behavior-rnn.yaml --parallel 2");
  sweep->add_option("file", o.sweep.file, "sweep (YAML)")->required();
  add_overrides(sweep, o.sweep.overrides);
  sweep->add_option("--parallel", o.sweep.parallel, "trials at a time; default: the file's")
      ->check(CLI::Range(1, 10000));
  sweep->add_flag("--slurm", o.sweep.slurm, "submit the open trials as a Slurm job array");
  sweep->add_option("--task", o.sweep.task, "one trial alone, by number: a task of that array")
      ->check(CLI::Range(i64{0}, most_trials - 1));
  sweep->add_flag("--report", o.sweep.report, "run nothing; tell what there is");
  sweep->add_flag("--new", o.sweep.another, "a new folder beside an existing one");
  sweep->add_flag("--retry", o.sweep.retry, "run failed trials again");
  sweep->add_flag("--json", o.sweep.json, "machine-readable report on stdout");
  sweep->callback([&] { job = [&o] { return run_sweep(o.sweep); }; });
  // Not for people: what a sweep starts a trial with, see app/child.h.
  CLI::App* become = app.add_subcommand("become", "")->group("")->prefix_command();
  become->add_option("parent", o.parent)->required();
  become->add_option("cores", o.cores)->required();
  become->callback([&o, &job, become] {
    job = [&o, become] {
      return become_child(static_cast<pid_t>(o.parent), o.cores, become->remaining());
    };
  });
}

void add_rank_verbs(CLI::App& app, Options& o, RankJob& job) {
  CLI::App* train = app.add_subcommand("train", "train, alone or under mpirun");
  train->footer("Example: mpirun -n 2 cohort train configs/image-cnn.yaml train.epochs=2");
  train->add_option("config", o.train.config, "experiment (YAML)")->required();
  add_overrides(train, o.train.overrides);
  train->add_flag("--resume", o.train.resume, "go on from the newest valid checkpoint");
  train->add_flag("--new", o.train.another, "a new folder beside an existing one");
  train->add_option("--parity", o.train.parity,
                    "no run: this many steps on the config's device and on the CPU, compared")
      ->check(CLI::Range(1, 1000000));
  train->add_option("--chaos", o.train.chaos,
                    "rehearse failures, each once in a run folder: kill-rank=R@step=N, "
                    "hang-rank=R@step=N, slow-rank=R:Fx, slow-reads=R:Nms, nan@step=N, "
                    "disk-full@checkpoint=K, corrupt-latest; several with commas");
  train->callback([&] {
    o.train.signals.emplace();
    job = [&o](World& w) { return run_train(w, o.train); };
  });
  CLI::App* eval = app.add_subcommand("eval", "exact metrics of a split, on all ranks");
  eval->footer("Example: cohort eval runs/image-cnn --split test --json");
  add_score(eval, o);
  eval->callback([&] { job = [&o](World& w) { return run_eval(w, o.score); }; });
  CLI::App* predict = app.add_subcommand("predict", "write predictions of a split to the run folder");
  predict->footer("Example: cohort predict runs/image-cnn --split test");
  add_score(predict, o);
  predict->callback([&] { job = [&o](World& w) { return run_predict(w, o.score); }; });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Cohort: distributed training of social-media models"};
  app.set_version_flag("--version", build_id());
  app.require_subcommand(1);
  Options options;
  Job job;
  RankJob rank_job;
  add_data_verbs(app, options, job);
  add_checkpoint(app, options, job);
  add_bench(app, options, job);
  add_sweep(app, options, job);
  add_rank_verbs(app, options, rank_job);
  add_doctor(app, options, rank_job);
  add_serve_verbs(app, options.serving, job, rank_job);
  add_publish_verbs(app, options.publishing, job);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const bool good = e.get_exit_code() == 0;  // --help, --version
    if (launched_rank() == 0) app.exit(e);
    return static_cast<int>(good ? Exit::done : Exit::usage);
  }
  try {
    if (rank_job) return on_ranks(argc, argv, rank_job);
    return job();
  } catch (const Error& e) {
    log::error("{}", e.what());
    return static_cast<int>(e.exit_code());
  } catch (const std::exception& e) {
    log::error("{}", e.what());
    return 1;
  }
}
