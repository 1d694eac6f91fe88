#include "train/run_folder.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <random>

#include "base/config.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"

namespace cohort {
namespace {

using nlohmann::json;

const std::string kAttempt = "attempt-";

void check_name(const std::string& name) {
  if (name.empty() || name.find('/') != std::string::npos || name[0] == '.') {
    fail(Exit::usage, "name: \"{}\" cannot be a folder name", name);
  }
}

}  // namespace

std::string take_free_name(Files& files, const std::string& base) {
  for (i64 n = 1; n < 1000000; ++n) {
    const std::string path = n == 1 ? base : fmt::format("{}-{}", base, n);
    if (files.make_folder_exclusive(path)) return path;
  }
  fail(Exit::storage, "{}: no free run name up to {}-999999", base, base);
}

i64 newest_attempt(Files& files, const std::string& path) {
  i64 newest = 0;
  for (const std::string& name : files.list(path)) {
    if (name.rfind(kAttempt, 0) != 0) continue;
    newest = std::max(newest, parse_i64(name.substr(kAttempt.size())).value_or(0));
  }
  return newest;
}

RunFolder RunFolder::open(Files& files, const std::string& runs, const std::string& name,
                          RunMode mode) {
  check_name(name);
  files.make_folder(runs);
  const std::string base = runs + "/" + name;
  RunFolder run(files, base);
  if (mode == RunMode::another) {
    run.path_ = take_free_name(files, base);
  } else if (!files.make_folder_exclusive(base)) {
    if (mode == RunMode::fresh) {
      fail(Exit::usage, "{} exists: go on with --resume, start beside it with --new, or remove it",
           base);
    }
  } else if (mode == RunMode::resume) {
    log::info("{}: nothing to resume, starting from the beginning", base);
  }
  files.make_folder(run.path_ + "/logs");
  files.make_folder(run.checkpoints());
  run.take_attempt();
  run.take_id();
  files.sync_folder(run.path_);
  files.sync_folder(runs);
  return run;
}

RunFolder RunFolder::join(Files& files, const std::string& path, i64 attempt) {
  RunFolder run(files, path);
  run.attempt_ = attempt;
  return run;
}

void RunFolder::take_attempt() {
  attempt_ = newest_attempt(*files_, path_) + 1;
  while (!files_->make_folder_exclusive(fmt::format("{}/{}{}", path_, kAttempt, attempt_))) {
    ++attempt_;
  }
}

void RunFolder::take_id() {
  const std::string path = path_ + "/id";
  if (files_->exists(path)) return;
  std::random_device random;
  const u64 number = (u64{random()} << 32) ^ random();
  const std::string name = path_.substr(path_.find_last_of('/') + 1);
  write_atomically(*files_, path, fmt::format("{}-{}\n", name, to_hex(number)));
}

std::vector<std::string> RunFolder::checkpoint_folders(const std::string& second) const {
  return cohort::checkpoint_folders(*files_, path_, second);
}

std::vector<std::string> checkpoint_folders(Files& files, const std::string& run,
                                            const std::string& second) {
  std::vector<std::string> folders = {run + "/checkpoints"};
  const std::string id = run + "/id";
  if (second.empty() || !files.exists(id)) return folders;
  const std::string text = files.read(id);
  if (text.size() < 2 || text.find_first_of("/\n") != text.size() - 1 || text[0] == '.')
    fail(Exit::storage, "{}: expected the name of a folder of {}, got \"{}\"", id, second, text);
  folders.push_back(fmt::format("{}/{}/checkpoints", second, text.substr(0, text.size() - 1)));
  return folders;
}

std::vector<std::string> checkpoint_folders(Files& files, const std::string& run) {
  const std::string config = run + "/config.yaml";
  if (!files.exists(config)) return {run + "/checkpoints"};
  const json keys = json::parse(Document::load(config).json());
  const json::json_pointer second("/checkpoint/second");
  const bool known = keys.contains(second) && keys.at(second).is_string();
  return checkpoint_folders(files, run, known ? keys.at(second).get<std::string>() : "");
}

bool RunFolder::still_newest() const { return newest_attempt(*files_, path_) == attempt_; }

std::string RunFolder::log_path(i64 rank) const {
  return fmt::format("{}/logs/rank-{:04d}.log", path_, rank);
}

void RunFolder::write_config(const std::string& resolved) const {
  const std::string path = path_ + "/config.yaml";
  if (files_->exists(path) && files_->read(path) != resolved) {
    log::warn("{}: the config is not the one of the attempt before; `cohort compare` tells where",
              path);
  }
  write_atomically(*files_, path, resolved);
}

json RunFolder::read_info() const {
  const std::string path = path_ + "/run.json";
  if (!files_->exists(path)) return json::object();
  json info = json::parse(files_->read(path), nullptr, false);
  if (info.is_object()) return info;
  log::warn("{}: not readable, written anew", path);
  return json::object();
}

void RunFolder::begin(const RunFacts& facts) const {
  json info = read_info();
  info["build"] = facts.build;
  info["hosts"] = facts.hosts;
  info["ranks"] = facts.ranks;
  info["device"] = facts.device;
  info["seed"] = facts.seed;
  info["data_hash"] = facts.data_hash;
  info["outcome"] = "running";
  if (!info.contains("began")) info["began"] = unix_time();
  info["attempts"].push_back({{"attempt", attempt_},
                              {"ranks", facts.ranks},
                              {"hosts", facts.hosts},
                              {"build", facts.build},
                              {"started", utc_now()},
                              {"outcome", "running"}});
  write_atomically(*files_, path_ + "/run.json", info.dump(1) + "\n");
}

void RunFolder::note(const json& facts) const {
  if (!still_newest()) return;
  json info = read_info();
  info.update(facts);
  write_atomically(*files_, path_ + "/run.json", info.dump(1) + "\n");
}

double RunFolder::began() const {
  const json info = read_info();
  const auto found = info.find("began");
  return found != info.end() && found->is_number() ? found->get<double>() : 0.0;
}

void RunFolder::finish(const std::string& outcome, int exit_code) const {
  if (!still_newest()) return;
  json info = read_info();
  info["outcome"] = outcome;
  info["exit_code"] = exit_code;
  for (json& attempt : info["attempts"]) {
    if (attempt.value("attempt", i64{0}) != attempt_) continue;
    attempt["outcome"] = outcome;
    attempt["exit_code"] = exit_code;
    attempt["ended"] = utc_now();
  }
  write_atomically(*files_, path_ + "/run.json", info.dump(1) + "\n");
}

}  // namespace cohort
