#include "app/verify.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "app/inspect.h"
#include "app/score_bundle.h"
#include "base/error.h"
#include "data/shard_set.h"
#include "train/checkpoint.h"
#include "train/run_folder.h"

namespace cohort {
namespace {

struct Report {
  std::string kind;
  std::vector<std::string> checked, problems;
  Exit code = Exit::done;
};

Report verify_shards(const std::string& path) {
  Report report{"shard set", {path}, {}, Exit::done};
  try {
    report.problems = ShardSet::open(path)->verify();
  } catch (const Error& e) {
    report.problems.push_back(e.what());
  }
  if (!report.problems.empty()) report.code = Exit::data;
  return report;
}

void verify_one(Report& report, const std::string& path) {
  report.checked.push_back(path);
  try {
    load_checkpoint(real_files(), path);
  } catch (const Error& e) {
    report.problems.push_back(e.what());
    report.code = Exit::storage;
  }
}

Report verify_run(const std::string& path) {
  Report report{"run", {}, {}, Exit::done};
  for (const std::string& folder : checkpoint_folders(real_files(), path))
    for (const i64 step : checkpoint_steps(real_files(), folder))
      verify_one(report, folder + "/" + checkpoint_name(step));
  return report;
}

Report verify_served(const std::string& path) {
  Report report{"bundle", {path}, {}, Exit::done};
  try {
    verify_bundle(path);
  } catch (const Error& e) {
    report.problems.push_back(e.what());
    report.code = Exit::storage;
  }
  return report;
}

Report verify_path(const std::string& path) {
  switch (kind_of_path(real_files(), path)) {
    case PathKind::shard_set:
      return verify_shards(path);
    case PathKind::run:
      return verify_run(path);
    case PathKind::checkpoint: {
      Report report{"checkpoint", {}, {}, Exit::done};
      verify_one(report, path);
      return report;
    }
    case PathKind::bundle:
      return verify_served(path);
    case PathKind::config:
      break;
  }
  fail(Exit::usage, "{}: a config has no checksums; `cohort inspect` checks it", path);
}

}  // namespace

int run_verify(const VerifyOptions& options) {
  const Report report = verify_path(options.path);
  if (options.json) {
    const nlohmann::json json = {{"kind", report.kind},
                                 {"checked", report.checked},
                                 {"problems", report.problems},
                                 {"whole", report.problems.empty()}};
    std::printf("%s\n", json.dump(1).c_str());
  } else {
    for (const std::string& problem : report.problems) std::printf("%s\n", problem.c_str());
    std::printf("%s %s: %zu checked, %zu problems\n", report.kind.c_str(), options.path.c_str(),
                report.checked.size(), report.problems.size());
  }
  return static_cast<int>(report.code);
}

}  // namespace cohort
