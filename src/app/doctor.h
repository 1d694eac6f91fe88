// `cohort doctor`: whether hosts, network, shared folder and GPUs are fit to train, without a config.
// Alone or under a launcher; needs no root.
#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "comm/communicator.h"

namespace cohort {

struct DoctorOptions {
  std::string folder = "runs";   // the shared folder: of runs, or of shard sets
  i64 mib = 64;                  // written and read on each host to measure rates
  bool json = false;
  double gpu_seconds = 60;       // within which each self-test of a GPU has to end
};
// Collective; rank 0 writes the report. Exit::done: fit, maybe with warnings. Else the gravest cause
// found: Exit::lost (ranks, network), Exit::storage (folder), Exit::usage (launch, limits, GPUs).
int run_doctor(World& world, const DoctorOptions& options);

enum class Fitness : u8 { ok, warn, unfit };

// What one rank found, or rank 0 for all.
struct Finding {
  std::string check;             // "affinity"
  Fitness fitness = Fitness::ok;
  std::string value{};           // measured, with its unit
  std::string remedy{};          // what to do; empty where ok
  Exit cause = Exit::usage;      // where unfit
  bool of_job = false;           // said by rank 0 for all ranks
  bool of_host = false;          // said by the first rank of a host for all of it
};

// Where the ranks are.
struct Hosts {
  std::vector<std::string> of;               // host of each rank
  std::vector<std::string> names;            // each once, by first rank
  std::vector<std::vector<int>> ranks;       // of each of names
  std::string place(int rank) const;         // "rank 2 (host b)"
  bool first_on_host(int rank) const;
};

struct Doctor {
  World& world;
  DoctorOptions options;
  Hosts hosts;
  std::vector<Finding> findings;   // of this rank
  std::shared_ptr<nlohmann::json> details;   // rank 0: tables of the report, in JSON

  Communicator& ranks() const { return world.communicator(); }
  void add(Finding finding) { findings.push_back(std::move(finding)); }
  // Runs this rank's own part of a check. False where it threw, which is then a finding.
  bool attempt(const std::string& check, Exit cause, const std::function<void()>& work);
  // As attempt(), and true only where it went well on every rank. Collective.
  bool attempt_all(const std::string& check, Exit cause, const std::function<void()>& work);
};

// Each is collective and adds findings.
void examine_hosts(Doctor& doctor);      // MPI, PMIx, affinity, clocks, /dev/shm, limits
void examine_network(Doctor& doctor);    // interfaces, latency and bandwidth between ranks
void examine_storage(Doctor& doctor);    // the shared folder
void examine_gpus(Doctor& doctor);       // GPUs, versions, self-tests, sums by NCCL

// The findings of all ranks as one list: those that say the same are one, with "where".
nlohmann::json merge_findings(const std::vector<std::vector<Finding>>& by_rank,
                              const Hosts& hosts);
// The gravest cause among merged findings.
Exit verdict(const nlohmann::json& findings);

}  // namespace cohort
