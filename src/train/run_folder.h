// A run: runs/<name>/ with config.yaml, run.json, metrics.jsonl, ledger.jsonl, event files, logs/
// and checkpoints/. Rank 0 opens it and writes; the other ranks join with its path and attempt.
//
// An attempt takes the folder attempt-<n> exclusively. A writer asks still_newest() before it makes
// a checkpoint exist, so two jobs on one folder cannot mix. The file `id` holds the run's name and 16
// random hex digits, which tell it from others of its name.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "store/files.h"

namespace cohort {

enum class RunMode {
  fresh,    // an existing folder is Exit::usage
  resume,   // goes on in the folder; a missing one is begun (a supervisor repeats one command)
  another,  // --new: <name>, <name>-2, <name>-3, ...: the first that is free
};

struct RunFacts {
  std::string build, device, data_hash;
  std::vector<std::string> hosts;   // one per rank
  i64 ranks = 1;
  u64 seed = 0;
};

class RunFolder {
 public:
  static RunFolder open(Files& files, const std::string& runs, const std::string& name,
                        RunMode mode);
  static RunFolder join(Files& files, const std::string& path, i64 attempt);

  const std::string& path() const { return path_; }
  i64 attempt() const { return attempt_; }
  bool still_newest() const;
  std::string checkpoints() const { return path_ + "/checkpoints"; }
  // Where its checkpoints may lie, in the order of preference: see the function below.
  std::vector<std::string> checkpoint_folders(const std::string& second) const;
  std::string metrics() const { return path_ + "/metrics.jsonl"; }
  std::string rollbacks() const { return path_ + "/rollbacks.jsonl"; }
  std::string ledger() const { return path_ + "/ledger.jsonl"; }
  std::string log_path(i64 rank) const;             // logs/rank-0000.log

  // config.yaml; a resumed run with another config is warned about.
  void write_config(const std::string& resolved) const;
  // run.json: the facts, and this attempt added to "attempts".
  void begin(const RunFacts& facts) const;
  // Sets the outcome of the run and of this attempt: "done", "stopped", or an error's text.
  void finish(const std::string& outcome, int exit_code) const;
  // Adds keys to run.json, or replaces them.
  void note(const nlohmann::json& facts) const;
  // When the first attempt began, seconds since 1970; 0 where run.json does not tell.
  double began() const;

 private:
  RunFolder(Files& files, std::string path) : files_(&files), path_(std::move(path)) {}
  void take_attempt();
  void take_id();
  nlohmann::json read_info() const;
  Files* files_;
  std::string path_;
  i64 attempt_ = 0;
};

// Where checkpoints of the run in this folder may lie: in it and, where `second` is not empty
// (checkpoint.second), in <second>/<id>/checkpoints, which no other run has.
std::vector<std::string> checkpoint_folders(Files& files, const std::string& run,
                                            const std::string& second);
// The same by the run's config.yaml, where there is one.
std::vector<std::string> checkpoint_folders(Files& files, const std::string& run);

// Makes the first of base, base-2, base-3, ... that is free; two jobs that start at once get two.
std::string take_free_name(Files& files, const std::string& base);

// The newest attempt of a run folder, 0 where there is none.
i64 newest_attempt(Files& files, const std::string& path);

}  // namespace cohort
