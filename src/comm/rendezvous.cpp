// Finds out whether a launcher started this process, from its variables alone.
#include <csignal>

#include "base/env.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "comm/communicator.h"
#include "comm/mpi.h"
#include "comm/watchdog.h"

namespace cohort {
namespace {

class SoloWorld final : public World {
 public:
  Communicator& communicator() override { return *solo_; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }
  std::string kind() const override { return "solo"; }
  int give_up(int exit_code, const std::string& message) override {
    log::error("{}", message);
    return exit_code;
  }
  void watch(const WatchConfig& config) override { watchdog_.watch(config); }

 private:
  std::unique_ptr<Communicator> solo_ = make_solo();
  Watchdog watchdog_{*solo_, status()};
};

// A launcher's world size, 0 where it does not state one, -1 without a launcher. A Slurm batch
// script outside of srun has SLURM_NTASKS but no step: it is no launcher.
i64 launched_size() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"}) {
    if (const auto text = env(name)) {
      const auto value = parse_i64(*text);
      if (!value || *value < 1) fail(Exit::usage, "{} is '{}', expected a count", name, *text);
      return *value;
    }
  }
  if (env("SLURM_STEP_ID") && env("SLURM_PROCID")) {
    if (const auto text = env("SLURM_STEP_NUM_TASKS")) return parse_i64(*text).value_or(0);
    return 0;
  }
  if (env("PMIX_RANK") || env("PMI_RANK")) return 0;
  return -1;
}

std::optional<i64> count_of(const char* name) {
  const auto text = env(name);
  if (!text) return std::nullopt;
  const auto value = parse_i64(*text);
  if (!value || *value < 1) fail(Exit::usage, "{} is '{}', expected a count", name, *text);
  return value;
}

std::string cure_of(i64 size) {
  return fmt::format("start as many as the job asked for, or say with COHORT_WORLD_SIZE={} that so "
                     "many are meant", size);
}

std::string not_the_tasks(i64 size, i64 tasks) {
  return fmt::format("{} ranks were started, but the Slurm job has {} tasks: {}", size, tasks,
                     cure_of(size));
}

}  // namespace

// Slurm's variables are the job's in a batch script and in what mpirun starts from there, although
// SLURM_PROCID is there, too; in the tasks of a step SLURM_NTASKS and others are the step's.
std::string wrong_world_size(i64 size) {
  if (const auto meant = count_of("COHORT_WORLD_SIZE")) {
    if (*meant == size) return "";
    return fmt::format("{} ranks were started, but COHORT_WORLD_SIZE is {}: start that many, or "
                       "unset it", size, *meant);
  }
  if (!env("SLURM_JOB_ID")) return "";
  const i64 nodes = count_of("SLURM_JOB_NUM_NODES").value_or(1);
  std::optional<i64> tasks;
  if (!env("SLURM_STEP_ID")) {
    tasks = count_of("SLURM_NTASKS");
  } else if (!env("OMPI_COMM_WORLD_SIZE") && count_of("SLURM_STEP_NUM_TASKS") == size) {
    // srun started the ranks.
    const i64 used = count_of("SLURM_STEP_NUM_NODES").value_or(nodes);
    if (used < nodes)
      return fmt::format("the ranks are on {} of the job's {} nodes: {}", used, nodes,
                         cure_of(size));
    if (const auto each = count_of("SLURM_NTASKS_PER_NODE")) tasks = nodes * *each;
  }
  if (tasks && *tasks != size)
    return not_the_tasks(size, *tasks);
  if (size < nodes)
    return fmt::format("{} ranks were started, but the Slurm job has {} nodes: {}", size, nodes,
                       cure_of(size));
  return "";
}

void check_world_size(World& world, const std::function<i64()>& job_tasks) {
  Communicator& ranks = world.communicator();
  const i64 size = ranks.size();
  std::string mine = wrong_world_size(size);
  if (world.kind() == "solo") {
    if (!mine.empty()) log::warn("without srun or mpirun there is one rank: {}", mine);
    return;
  }
  if (const i64 tasks = mine.empty() && ranks.rank() == 0 ? job_tasks() : 0; tasks > size)
    mine = not_the_tasks(size, tasks);
  // What one rank finds wrong all refuse: other variables may be set on other nodes.
  for (const std::string& wrong : ranks.all_gather(mine))
    if (!wrong.empty()) fail(Exit::usage, "{}", wrong);
}

i64 launched_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK"}) {
    if (const auto text = env(name)) return parse_i64(*text).value_or(0);
  }
  if (launched_size() < 0) return 0;
  return parse_i64(env("SLURM_PROCID").value_or("0")).value_or(0);
}

std::unique_ptr<World> join_world(int* argc, char*** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  const i64 expected = launched_size();
  if (expected < 0) return std::make_unique<SoloWorld>();
  auto world = join_mpi(argc, argv);
  const int size = world->communicator().size();
  if (expected > 0 && size != expected) {
    fail(Exit::usage,
         "the launcher started {} ranks, but {} sees {}: start with the mpirun of the MPI that "
         "this program was built with", expected, world->kind(), size);
  }
  log::set_identity(world->communicator().rank(), size, host_name());
  return world;
}

}  // namespace cohort
