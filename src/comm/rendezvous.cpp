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

// mpirun inside of an allocation may start fewer ranks, or more, than were asked of Slurm: half of
// the nodes would idle, or ranks share cores, and nothing else would tell.
void check_allocation(i64 size) {
  const auto meant = env("COHORT_RANKS");
  const bool allocation = env("SLURM_JOB_ID") && env("SLURM_NTASKS") && !env("SLURM_PROCID");
  if (!meant && !(allocation && env("OMPI_COMM_WORLD_SIZE"))) return;
  const std::string name = meant ? "COHORT_RANKS" : "SLURM_NTASKS";
  const std::string text = meant ? *meant : *env("SLURM_NTASKS");
  const auto expected = parse_i64(text);
  if (!expected || *expected < 1) fail(Exit::usage, "{} is '{}', expected a count", name, text);
  if (*expected == size) return;
  fail(Exit::usage,
       "{} ranks were started, but {} is {}: start that many, or say with COHORT_RANKS={} that "
       "so many are meant", size, name, text, size);
}

}  // namespace

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
  check_allocation(size);
  log::set_identity(world->communicator().rank(), size, host_name());
  return world;
}

}  // namespace cohort
