#include "app/publish.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "app/export.h"
#include "app/score_bundle.h"
#include "app/table.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "serve/json_text.h"
#include "serve/repository.h"
#include "serve/repository_check.h"
#include "serve/triton.h"

namespace cohort {
namespace {

using nlohmann::json;

json to_json(const ServedVersion& v) {
  json metrics = json::object();
  for (const auto& [name, value] : v.metrics) metrics[name] = number_or_null(value);
  return {{"version", v.number}, {"digest", v.digest},   {"run", v.run},
          {"step", v.step},      {"published", v.time},  {"metrics", metrics},
          {"current", v.current}, {"previous", v.previous}};
}

int tell_list(const Repository& repository, bool as_json) {
  require_repository(real_files(), repository.path());
  const std::vector<ServedVersion> all = repository.list();
  if (as_json) {
    json report = {{"repository", repository.path()}, {"versions", json::array()}};
    for (const ServedVersion& v : all) report["versions"].push_back(to_json(v));
    fmt::print("{}\n", report.dump(1));
    return 0;
  }
  if (all.empty()) {
    fmt::print("{}: no versions yet\n", repository.path());
    return 0;
  }
  std::vector<std::vector<std::string>> rows = {
      {"version", "state", "digest", "published", "run", "step", "metrics"}};
  for (const ServedVersion& v : all) {
    std::vector<std::string> metrics;
    for (const auto& [name, value] : v.metrics) metrics.push_back(fmt::format("{}={:.6g}", name, value));
    rows.push_back({std::to_string(v.number), v.current ? "current" : v.previous ? "previous" : "-",
                    v.digest.substr(0, 12), v.time.substr(0, 19), v.run, std::to_string(v.step),
                    join(metrics, " ")});
  }
  fmt::print("{}", format_table(rows));
  return 0;
}

void tell(const Published& p, const PublishVerbs& o, const std::string& triton) {
  const std::string folder = fmt::format("{}/versions/{:06}", o.repo, p.version);
  log::info("{}: version {}{} {}: {}", o.repo, p.version, p.again ? ", which was there already," : "",
            p.promoted ? "is current" : "is NOT promoted", p.reason);
  if (!o.json) {
    fmt::print("{}  {}/manifest.json\n", p.digest, folder);
    return;
  }
  json report = {{"version", p.version},   {"digest", p.digest}, {"folder", folder},
                 {"promoted", p.promoted}, {"again", p.again},   {"reason", p.reason}};
  if (!triton.empty()) report["triton"] = triton;
  fmt::print("{}\n", report.dump(1));
}

std::string name_in_triton(const PublishVerbs& o, const std::string& bundle) {
  if (!o.name.empty()) return o.name;
  const std::string path = bundle + "/manifest.json";
  try {
    return json::parse(real_files().read(path)).at("lineage").at("run").get<std::string>();
  } catch (const json::exception&) {
    fail(Exit::storage, "{}: expected a bundle's manifest with the run's name; see `cohort verify`",
         path);
  }
}

std::string to_triton(const PublishVerbs& o, const std::string& bundle, const std::string& name) {
  const std::string folder =
      publish_to_triton(real_linked_files(), bundle, o.triton, name, o.keep);
  log::info("{}: for Triton", folder);
  return folder;
}

int publish_in_repository(const PublishVerbs& o) {
  const std::string name = o.triton.empty() ? "" : name_in_triton(o, o.bundle);
  if (!o.triton.empty()) check_triton_place(real_files(), o.triton, name);
  Repository repository(real_linked_files(), o.repo);
  const Published p =
      repository.publish(o.bundle, {o.metric, o.max_worse, o.keep, o.threads, o.force});
  const std::string triton =
      p.promoted && !o.triton.empty() ? to_triton(o, o.bundle, name) : "";
  tell(p, o, triton);
  return p.promoted ? 0 : not_promoted;
}

// For Triton the version before becomes the newest again, under the name of the one that goes.
int roll_back(const PublishVerbs& o) {
  Repository repository(real_linked_files(), o.repo);
  const std::string name = o.triton.empty() ? "" : name_in_triton(o, repository.current());
  if (!o.triton.empty()) check_triton_place(real_files(), o.triton, name);
  const i64 version = repository.rollback();
  json report = {{"current", version}};
  if (!o.triton.empty()) report["triton"] = to_triton(o, repository.current(), name);
  if (o.json)
    fmt::print("{}\n", report.dump(1));
  else
    fmt::print("{}: version {} is current again\n", o.repo, version);
  return 0;
}

int prune(const PublishVerbs& o) {
  const std::vector<i64> removed = Repository(real_linked_files(), o.repo).prune(o.keep);
  if (o.json) fmt::print("{}\n", json{{"removed", removed}}.dump(1));
  for (std::size_t k = 0; !o.json && k < removed.size(); ++k)
    fmt::print("{}: version {} removed\n", o.repo, removed[k]);
  return 0;
}

bool same_folder(const std::string& one, const std::string& other) {
  std::error_code error;   // what cannot be resolved is not the same
  const auto path = std::filesystem::weakly_canonical(one + "/.", error);
  return !error && path == std::filesystem::weakly_canonical(other + "/.", error);
}

void check_usage(const PublishVerbs& o) {
  const bool other = o.rollback || o.list;
  if (o.rollback && o.list) fail(Exit::usage, "--rollback and --list exclude each other");
  if (o.repo.empty() && (other || o.triton.empty()))
    fail(Exit::usage, "expected --repo DIR{}", other ? "" : ", or --triton DIR");
  if (other && !o.bundle.empty())
    fail(Exit::usage, "{} takes no bundle, got {}", o.list ? "--list" : "--rollback", o.bundle);
  if (o.bundle.empty() && !o.rollback && !o.triton.empty())
    fail(Exit::usage, "--triton goes with a bundle or --rollback");
  if (!other && o.bundle.empty() && (o.repo.empty() || o.keep == 0))
    fail(Exit::usage, "expected a bundle, or --rollback, --list, or --keep N alone");
  if (!o.repo.empty() && !o.triton.empty() && same_folder(o.repo, o.triton))
    fail(Exit::usage, "--repo and --triton: expected two folders, got {} twice", o.repo);
  if (std::isnan(o.max_worse)) fail(Exit::usage, "--max-worse: expected a number, got nan");
}

}  // namespace

int run_publish(const PublishVerbs& o) {
  check_usage(o);
  if (o.list) return tell_list(Repository(real_linked_files(), o.repo), o.json);
  if (o.rollback) return roll_back(o);
  if (o.bundle.empty()) return prune(o);
  if (!o.repo.empty()) return publish_in_repository(o);
  const std::string name = name_in_triton(o, o.bundle);
  check_triton_place(real_files(), o.triton, name);
  verify_bundle(o.bundle);
  const std::string folder = to_triton(o, o.bundle, name);
  const std::string digest = real_files().read(o.bundle + "/MANIFEST.sha256").substr(0, 64);
  if (o.json)
    fmt::print("{}\n", json{{"digest", digest}, {"triton", folder}}.dump(1));
  else
    fmt::print("{}  {}/manifest.json\n", digest, folder);
  return 0;
}

namespace {

// Beside a training: a world of this process alone, whatever launcher the variables around name.
class Alone final : public World {
 public:
  Communicator& communicator() override { return *solo_; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }
  std::string kind() const override { return "solo"; }
  int give_up(int exit_code, const std::string&) override { return exit_code; }

 private:
  std::unique_ptr<Communicator> solo_ = make_solo();
};

// Removed when it goes out of scope.
struct Scratch {
  const std::string& folder;
  ~Scratch() {
    try {
      real_files().remove(folder);
    } catch (const Error& e) {
      log::warn("left behind: {}", e.what());
    }
  }
};

}  // namespace

void check_handoff_folder(const std::string& folder) {
  if (folder.empty()) return;
  try {
    check_repository_place(real_files(), folder);
  } catch (const Error& e) {
    if (e.exit_code() == Exit::usage) fail(Exit::usage, "handoff.repo: {}", e.what());
    log::warn("handoff.repo: {}", e.what());
  }
}

int run_handoff(const PublishVerbs& o) {
  if (setpriority(PRIO_PROCESS, 0, 10) != 0) log::warn("this hand-off runs at normal priority");
  real_files().remove(o.scratch);
  const Scratch scratch{o.scratch};
  Alone world;
  run_export(world, {o.checkpoint, o.scratch, "best", 13, {"device.threads=1"}, false});
  PublishVerbs publish = o;
  publish.bundle = o.scratch;
  publish.threads = 1;
  return run_publish(publish);
}

void add_publish_verbs(CLI::App& app, PublishVerbs& o, std::function<int()>& job) {
  CLI::App* verb = app.add_subcommand("publish", "a bundle into a serving repository; exit 7: kept, "
                                                 "but not promoted");
  verb->footer("Example: cohort publish bundles/image-cnn --repo serving --metric accuracy "
               "--max-worse 0.001 --keep 5");
  verb->add_option("bundle", o.bundle, "bundle");
  verb->add_option("--repo", o.repo, "serving repository: versions/, current, history.jsonl");
  verb->add_option("--metric", o.metric, "promote only where this one is not worse than current's");
  verb->add_option("--max-worse", o.max_worse, "than current's, still promoted")
      ->check([](const std::string& text) {
        const auto number = parse_double(text);
        return number && *number >= 0 ? std::string() : "expected 0 or more, got " + text;
      })
      ->capture_default_str();
  verb->add_option("--keep", o.keep, "versions kept; current, the one before and what it replaced always are; 0: all")
      ->check(CLI::Range(i64{0}, i64{1} << 30))
      ->capture_default_str();
  verb->add_flag("--force", o.force,
                 "promote also what takes other columns or has other outputs than current");
  verb->add_flag("--rollback", o.rollback, "make the version before current again");
  verb->add_flag("--list", o.list, "the versions there are");
  verb->add_option("--triton", o.triton,
                   "a Triton model repository to add the model to (with --repo: if promoted, and "
                   "after --rollback)");
  verb->add_option("--name", o.name, "of the model there; default: the run's name");
  verb->add_flag("--json", o.json, "machine-readable report on stdout");
  verb->callback([&] { job = [&o] { return run_publish(o); }; });
  // Not for people: what a training starts, see app/handoff.h.
  CLI::App* handoff = app.add_subcommand("handoff", "")->group("");
  handoff->add_option("checkpoint", o.checkpoint)->required();
  handoff->add_option("scratch", o.scratch)->required();
  handoff->add_option("--repo", o.repo)->required();
  handoff->add_option("--metric", o.metric);
  handoff->add_option("--max-worse", o.max_worse);
  handoff->add_option("--keep", o.keep);
  handoff->callback([&] { job = [&o] { return run_handoff(o); }; });
}

}  // namespace cohort
