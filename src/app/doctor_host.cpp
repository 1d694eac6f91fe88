// The hosts: MPI and how it was started, cores of each rank, clocks, limits of processes.
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "app/doctor.h"
#include "base/build.h"
#include "base/env.h"
#include "base/text.h"

namespace cohort {
namespace {

constexpr i64 kMiB = i64{1} << 20;
constexpr double kSkewWarned = 0.5;        // seconds between the clocks of two hosts
constexpr i64 kShmOfRank = 32 * kMiB;      // Open MPI's and NCCL's segments of one rank
constexpr i64 kFilesOfRank = 4;            // sockets that a peer may take
constexpr i64 kFilesAtLeast = 512;         // for shards, logs, libraries
constexpr int kClockRounds = 20;

std::string launcher() {
  const bool step = env("SLURM_STEP_ID").has_value() && !env("OMPI_COMM_WORLD_SIZE");
  std::string text = step ? "srun" : env("OMPI_COMM_WORLD_SIZE") || env("PMI_SIZE") ? "mpirun"
                                   : env("MV2_COMM_WORLD_SIZE")                     ? "mpirun"
                                                                                    : "a launcher";
  if (const auto space = env("PMIX_NAMESPACE")) {
    text += env("PMIX_VERSION") ? ", PMIx " + *env("PMIX_VERSION") : ", PMIx";
  } else if (env("PMI_RANK")) {
    text += ", PMI";
  }
  return text;
}

void examine_mpi(Doctor& d) {
  const int size = d.ranks().size();
  if (d.world.kind() == "solo") {
    const bool slurm = env("SLURM_JOB_ID").has_value();
    d.add({"mpi", slurm ? Fitness::warn : Fitness::ok, "one process, no launcher: no MPI examined",
           slurm ? "inside an allocation, start it as the job will be: srun --mpi=pmix cohort doctor"
                 : "", Exit::usage, true});
    return;
  }
  const std::string mine = d.world.kind() + "\n" + build_id();
  const auto all = d.ranks().all_gather(mine);
  if (mine == all[0]) {
    d.add({"mpi", Fitness::ok, fmt::format("{}, {} ranks by {}", d.world.kind(), size, launcher())});
    return;
  }
  const auto first = split(all[0], '\n');
  d.add({"mpi", Fitness::unfit,
         fmt::format("{}, build {}; rank 0 (host {}) has {}, build {}", d.world.kind(), build_id(),
                     d.hosts.of[0], first[0], first[1]),
         "install the same build and the same MPI on every host"});
}

std::string binding_flags() {
  return "let ranks have their cores: mpirun --bind-to none (or --map-by slot:PE=<cores of a rank>), "
         "srun --cpus-per-task=<cores of a rank> --cpu-bind=cores";
}

// One finding for each host, by its first rank: what its ranks may run on, and what there is.
void examine_affinity(Doctor& d) {
  const auto all = d.ranks().all_gather(nlohmann::json(usable_core_numbers()).dump());
  const int rank = d.ranks().rank();
  if (!d.hosts.first_on_host(rank)) return;
  std::set<int> together;
  std::size_t ranks = 0, least = ~std::size_t{0}, sum = 0;
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (d.hosts.of[r] != d.hosts.of[static_cast<std::size_t>(rank)]) continue;
    const auto cores = nlohmann::json::parse(all[r]).get<std::vector<int>>();
    together.insert(cores.begin(), cores.end());
    least = std::min(least, cores.size());
    sum += cores.size();
    ++ranks;
  }
  const auto there = static_cast<std::size_t>(online_cores());
  Finding f{"affinity", Fitness::ok,
            fmt::format("{} ranks, {} of {} cores, {}", ranks, together.size(), there,
                        sum > together.size() ? "shared" : fmt::format("{} for a rank", least))};
  f.of_host = true;
  if (together.size() == 1 && there > 1) {
    f.fitness = Fitness::warn;
    f.value += ranks > 1 ? ": all ranks are bound to one core" : ": one core for all threads";
    f.remedy = binding_flags();
  } else if (ranks > together.size()) {
    f.fitness = Fitness::warn;
    f.value += ": more ranks than cores";
    f.remedy = "start fewer ranks on this host; else set OMPI_MCA_mpi_yield_when_idle=1, without "
               "which ranks that wait keep the others from computing";
  } else if (least == 1 && there >= 2 * ranks) {
    f.fitness = Fitness::warn;
    f.value += ": a rank has one core though there are more";
    f.remedy = binding_flags();
  }
  d.add(std::move(f));
}

// Rank 0's side: seconds that the peer's clock is ahead, and half the shortest round trip. The
// peer reads its clock between the two exchanges, so the answer lies within that.
std::pair<double, double> clock_of(Communicator& ranks, int peer) {
  double ahead = 0, best = 1e9;
  for (int k = 0; k < kClockRounds; ++k) {
    double there = 0, mine = 0;
    const double begin = unix_time();
    ranks.exchange(&mine, &there, sizeof mine, peer);
    ranks.exchange(&mine, &there, sizeof mine, peer);
    const double end = unix_time();
    if (end - begin >= best) continue;
    best = end - begin;
    ahead = there - (begin + end) / 2;
  }
  return {ahead, best / 2};
}

void tell_clock(Communicator& ranks) {
  for (int k = 0; k < kClockRounds; ++k) {
    double mine = 0, there = 0;
    ranks.exchange(&mine, &there, sizeof mine, 0);
    mine = unix_time();
    ranks.exchange(&mine, &there, sizeof mine, 0);
  }
}

void examine_clocks(Doctor& d) {
  if (d.hosts.names.size() < 2) return;
  Communicator& ranks = d.ranks();
  nlohmann::json skews = nlohmann::json::object();
  double worst = 0, within = 0;
  std::string host;
  for (std::size_t h = 1; h < d.hosts.names.size(); ++h) {
    const int peer = d.hosts.ranks[h][0];
    if (ranks.rank() == peer) tell_clock(ranks);
    if (ranks.rank() != 0) continue;
    const auto [ahead, error] = clock_of(ranks, peer);
    skews[d.hosts.names[h]] = ahead;
    if (host.empty() || std::fabs(ahead) > std::fabs(worst)) {
      worst = ahead;
      within = error;
      host = d.hosts.names[h];
    }
  }
  if (ranks.rank() != 0) return;
  (*d.details)["clock_ahead_s"] = skews;
  Finding f{"clocks", Fitness::ok,
            fmt::format("{} is {:+.6f} s from {}, the most of all hosts (within {:.6f} s)", host,
                        worst, d.hosts.names[0], within)};
  f.of_job = true;
  if (std::fabs(worst) > kSkewWarned) {
    f.fitness = Fitness::warn;
    f.remedy = "keep the hosts' clocks by chrony or systemd-timesyncd: times in logs and of files on "
               "the shared folder do not compare, and Slurm refuses hosts minutes apart";
  }
  d.add(std::move(f));
}

void examine_shm(Doctor& d) {
  struct statvfs info {};
  if (::statvfs("/dev/shm", &info) != 0) {
    fail(Exit::usage, "/dev/shm: {}", std::generic_category().message(errno));
  }
  const i64 block = static_cast<i64>(info.f_frsize);
  const i64 free = static_cast<i64>(info.f_bavail) * block;
  const i64 wanted = kShmOfRank * d.world.local_size();
  const bool writable = ::access("/dev/shm", W_OK | X_OK) == 0;
  Finding f{"shm", Fitness::ok,
            fmt::format("/dev/shm: {} free of {}", human_bytes(free),
                        human_bytes(static_cast<i64>(info.f_blocks) * block))};
  f.of_host = true;
  if (!writable || free < wanted) {
    f.fitness = Fitness::warn;
    f.value += writable ? fmt::format(", {} wanted for {} ranks", human_bytes(wanted),
                                      d.world.local_size())
                        : ", not writable";
    f.remedy = "containers: --shm-size=1g or --ipc=host; else mount -o remount,size=50% /dev/shm, and "
               "remove what other jobs left there";
  }
  d.add(std::move(f));
}

std::string limit_text(rlim_t limit, bool bytes) {
  if (limit == RLIM_INFINITY) return "unlimited";
  return bytes ? human_bytes(static_cast<i64>(limit)) : std::to_string(limit);
}

bool any_in(const char* folder) {
  std::error_code code;
  const std::filesystem::directory_iterator found(folder, code);
  return !code && found != std::filesystem::directory_iterator();
}

void examine_memlock(Doctor& d) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
    fail(Exit::usage, "RLIMIT_MEMLOCK: {}", std::generic_category().message(errno));
  }
  const bool pinned = any_in("/sys/class/infiniband");
  Finding f{"memlock", Fitness::ok, limit_text(limit.rlim_cur, true)};
  if (!pinned) f.value += ", no RDMA device that needs more";
  if (pinned && limit.rlim_cur != RLIM_INFINITY) {
    f.fitness = Fitness::warn;
    f.value += ", and an RDMA device, which needs locked memory";
    f.remedy = "ulimit -l unlimited (memlock in /etc/security/limits.conf; LimitMEMLOCK=infinity for "
               "slurmd, and PropagateResourceLimitsExcept=MEMLOCK)";
  }
  d.add(std::move(f));
}

void examine_nofile(Doctor& d) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    fail(Exit::usage, "RLIMIT_NOFILE: {}", std::generic_category().message(errno));
  }
  const i64 least = d.ranks().size() + 64, wanted = kFilesAtLeast + kFilesOfRank * d.ranks().size();
  Finding f{"nofile", Fitness::ok, limit_text(limit.rlim_cur, false) + " open files"};
  if (limit.rlim_cur < static_cast<rlim_t>(wanted)) {
    f.fitness = limit.rlim_cur < static_cast<rlim_t>(least) ? Fitness::unfit : Fitness::warn;
    f.value += fmt::format(", {} wanted with {} ranks", wanted, d.ranks().size());
    f.remedy = fmt::format("ulimit -n {} (hard limit {}; LimitNOFILE of slurmd or sshd)",
                           std::max<i64>(wanted, 4096), limit_text(limit.rlim_max, false));
  }
  d.add(std::move(f));
}

}  // namespace

void examine_hosts(Doctor& d) {
  examine_mpi(d);
  examine_affinity(d);
  examine_clocks(d);
  if (d.hosts.first_on_host(d.ranks().rank())) {
    d.attempt("shm", Exit::usage, [&] { examine_shm(d); });
  }
  d.attempt("memlock", Exit::usage, [&] { examine_memlock(d); });
  d.attempt("nofile", Exit::usage, [&] { examine_nofile(d); });
}

}  // namespace cohort
