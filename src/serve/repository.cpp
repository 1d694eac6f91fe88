#include "serve/repository.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "plan/metrics.h"
#include "serve/bundle_files.h"
#include "serve/repository_check.h"
#include "serve/scorer.h"
#include "store/folder.h"

namespace cohort {

using nlohmann::json;

namespace {

constexpr const char *kLink = "current", *kHistory = "history.jsonl", *kVersions = "versions";

std::string name_of_version(i64 version) { return fmt::format("{:06}", version); }

// 0 where it is no name of a version.
i64 version_of(const std::string& name) {
  const auto number = parse_i64(name);
  return number && *number > 0 && name_of_version(*number) == name ? *number : 0;
}

// NaN where there is none.
double metric_of(const json& lineage, const std::string& name) {
  const json& metrics = lineage.at("metrics");
  const auto found = metrics.find(name);
  return found == metrics.end() || !found->is_number() ? std::nan("") : found->get<double>();
}

Repository::Verdict compare(const json& mine, const json& theirs, const PublishOptions& o) {
  for (const char* key : {"data", "split"})
    if (mine.at(key) != theirs.at(key))
      return {false, fmt::format("not comparable: {} of {} {}, current's of {}", o.metric, key,
                                 mine.at(key).dump(), theirs.at(key).dump())};
  const double now = metric_of(mine, o.metric), before = metric_of(theirs, o.metric);
  if (!std::isfinite(now) || !std::isfinite(before))
    return {false, fmt::format("not comparable: {} is {}, current's {}", o.metric, now, before)};
  const double worse = larger_is_better(o.metric) ? before - now : now - before;
  if (worse > o.max_worse)
    return {false, fmt::format("{} {:.6g} is worse than current's {:.6g} by {:.3g}, more than {:.6g}",
                               o.metric, now, before, worse, o.max_worse)};
  return {true, fmt::format("{} {:.6g}, current's {:.6g}", o.metric, now, before)};
}

// A bundle whose answers are the golden ones, and that has the metric.
std::shared_ptr<const Bundle> prove(Files& files, const std::string& folder,
                                    const PublishOptions& o) {
  const auto bundle = Bundle::open(files, folder);
  Scorer scorer(bundle, {o.threads, 32});
  check_golden(scorer);
  const json& metrics = bundle->manifest().at("lineage").at("metrics");
  if (o.metric.empty() || metrics.contains(o.metric)) return bundle;
  std::vector<std::string> known;
  for (const auto& item : metrics.items()) known.push_back(item.key());
  fail(Exit::usage, "{}: no metric '{}' in its manifest; expected one of: {}", folder, o.metric,
       known.empty() ? "none: it was exported without an evaluation" : join(known, ", "));
}

// Without the config, which the bundle has.
json told_of(json lineage) {
  lineage.erase("config");
  return lineage;
}

// The name of what a killed process had begun; empty for all others.
std::string unfinished(const std::string& name) {
  const std::size_t at = name.find(".tmp");
  return at == std::string::npos ? "" : name.substr(0, at);
}

}  // namespace

// What the lines of history.jsonl say.
struct Repository::History {
  std::string text;
  std::map<i64, json> published;   // by version; removed ones too
  std::set<i64> removed;
  std::vector<i64> current;        // versions that were current, without those rolled back
  i64 replaced = 0;                // the one that the current one came after

  void add(const json& line) {
    const i64 version = line.at("version").get<i64>();
    const std::string action = line.at("action").get<std::string>();
    if (action == "published") published[version] = line;
    if (action == "removed") removed.insert(version);
    if ((action == "promoted" || action == "rolled back") && !current.empty() &&
        current.back() != version)
      replaced = current.back();
    if (action == "promoted" && (current.empty() || current.back() != version))
      current.push_back(version);
    if (action == "rolled back") {
      while (!current.empty() && current.back() != version) current.pop_back();
      if (current.empty()) current.push_back(version);
    }
  }
  i64 newest() const { return published.empty() ? 0 : published.rbegin()->first; }
  // The version before the current one that is still there, 0: none.
  i64 previous(const std::vector<i64>& there) const {
    for (std::size_t k = current.size(); k-- > 1;) {
      const i64 candidate = current[k - 1];
      if (candidate != current.back() && std::binary_search(there.begin(), there.end(), candidate))
        return candidate;
    }
    return 0;
  }
};

Repository::Repository(LinkedFiles& files, std::string path) : files_(files), path_(std::move(path)) {
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
}

std::string Repository::folder_of(i64 version) const {
  return at(kVersions) + "/" + name_of_version(version);
}

std::vector<i64> Repository::versions() const {
  std::vector<i64> found;
  if (!files_.exists(at(kVersions))) return found;
  for (const std::string& name : files_.list(at(kVersions)))
    if (const i64 version = version_of(name)) found.push_back(version);
  std::sort(found.begin(), found.end());
  return found;
}

i64 Repository::linked() const {
  const std::string target = files_.read_link(at(kLink));
  if (target.empty()) return 0;
  const std::string prefix = std::string(kVersions) + "/";
  const i64 version = target.starts_with(prefix) ? version_of(target.substr(prefix.size())) : 0;
  if (version == 0)
    fail(Exit::storage, "{}: expected a link to {}<number>, got one to {}; remove it "
         "and publish again", at(kLink), prefix, target);
  return version;
}

std::string Repository::current() const {
  const i64 version = linked();
  if (version == 0) return "";
  if (!files_.exists(folder_of(version)))
    fail(Exit::storage, "{}: names version {}, which is not there; `cohort publish --rollback`, or "
         "publish again", at(kLink), version);
  return folder_of(version);
}

Repository::History Repository::read_history() const {
  History history;
  if (!files_.exists(at(kHistory))) return history;
  history.text = files_.read(at(kHistory));
  i64 number = 0;
  for (const std::string& line : split(history.text, '\n')) {
    ++number;
    if (line.empty()) continue;
    try {
      history.add(json::parse(line));
    } catch (const json::exception& e) {
      fail(Exit::storage, "{}:{}: expected an object with action and version: {}; repair or remove "
           "the line", at(kHistory), number, e.what());
    }
  }
  return history;
}

// Written whole and renamed, so that no line is ever torn.
void Repository::tell(History& history, json line) {
  line["time"] = utc_now();
  history.add(line);
  history.text += line.dump() + "\n";
  write_atomically(files_, at(kHistory), history.text);
}

std::unique_ptr<FileLock> Repository::open() {
  if (!files_.exists(at(kVersions))) {
    files_.make_folder(at(kVersions));
    files_.sync_folder(path_);
    files_.sync_folder(parent_of(path_));
  }
  auto lock = files_.lock(at("lock"));
  clean();
  return lock;
}

// What killed processes have left; the lock is held.
void Repository::clean() {
  for (const std::string& name : files_.list(path_))
    if (const std::string of = unfinished(name); of == kLink || of == kHistory)
      files_.remove(at(name));
  for (const std::string& name : files_.list(at(kVersions)))
    if (version_of(unfinished(name)) > 0) files_.remove(at(kVersions) + "/" + name);
}

// Tells what was done and not told.
void Repository::repair(History& history) {
  const std::vector<i64> there = versions();
  for (const i64 version : there) {
    if (history.published.count(version)) continue;
    const CheckedFolder checked = check_bundle_files(files_, folder_of(version), {});
    tell(history, {{"action", "published"}, {"version", version}, {"digest", checked.digest},
                   {"lineage", told_of(json::parse(checked.manifest).at("lineage"))},
                   {"late", true}});
  }
  const i64 now = linked();
  if (now > 0 && (history.current.empty() || history.current.back() != now)) {
    const bool back =
        std::find(history.current.begin(), history.current.end(), now) != history.current.end();
    tell(history, {{"action", back ? "rolled back" : "promoted"}, {"version", now}, {"late", true}});
  }
  std::vector<i64> gone;
  for (const auto& [version, line] : history.published)
    if (!history.removed.count(version) && !std::binary_search(there.begin(), there.end(), version))
      gone.push_back(version);
  for (const i64 version : gone)
    tell(history, {{"action", "removed"}, {"version", version}, {"late", true}});
}

// The lock is held, so that the name is nobody else's.
void Repository::add(const std::string& bundle, i64 version, const std::string& digest) {
  const std::string folder = folder_of(version), aside = folder + ".tmp";
  try {
    files_.make_folder(aside);
    for (const std::string& name : files_.list(bundle)) {
      const std::string bytes = files_.read(bundle + "/" + name);
      write_file(files_, aside, name, [&](FileWriter& out) {
        out.write(bytes.data(), static_cast<i64>(bytes.size()));
      });
    }
    files_.sync_folder(aside);
    const std::string copied = check_bundle_files(files_, aside, {}).digest;
    if (copied != digest)
      fail(Exit::storage, "{}: expected root digest {}, copied {}: the bundle was changed meanwhile; "
           "publish it again", bundle, digest, copied);
    files_.rename(aside, folder);
  } catch (...) {
    try {
      files_.remove(aside);
    } catch (const Error&) {   // the next one cleans
    }
    throw;
  }
  files_.sync_folder(at(kVersions));
}

void Repository::link(i64 version) {
  const std::string aside = at(std::string(kLink) + ".tmp");
  files_.make_link(std::string(kVersions) + "/" + name_of_version(version), aside);
  files_.rename(aside, at(kLink));
  files_.sync_folder(path_);
}

// Against another version, which is current.
Repository::Verdict Repository::judge(const json& mine, i64 now, const PublishOptions& o) const {
  const std::string path = folder_of(now) + "/manifest.json";
  if (!files_.exists(path)) {
    if (o.metric.empty()) return {true, fmt::format("version {}, which was current, is gone", now)};
    return {false, fmt::format("not comparable: current names version {}, which is not there; make "
                               "another one current (--rollback), or publish without --metric", now)};
  }
  const json theirs = json::parse(files_.read(path));
  const std::string other = interface_difference(mine, theirs);
  if (!other.empty() && !o.force)
    return {false, fmt::format("{}; clients of the one are refused by the other: publish it to a "
                               "repository of its own, or with --force", other)};
  if (o.metric.empty())
    return {true, other.empty() ? "no metric was asked for" : other + "; forced"};
  return compare(mine.at("lineage"), theirs.at("lineage"), o);
}

Published Repository::publish(const std::string& bundle, const PublishOptions& options) {
  check_repository_place(files_, path_);
  const auto proved = prove(files_, bundle, options);
  const json& lineage = proved->manifest().at("lineage");
  const auto lock = open();
  History history = read_history();
  repair(history);
  Published p;
  p.digest = proved->digest();
  for (const i64 version : versions())
    if (history.published.at(version).at("digest") == p.digest) p.version = version;
  p.again = p.version > 0;
  if (p.again) {
    check_bundle_files(files_, folder_of(p.version), {});
  } else {
    p.version = std::max<i64>(history.newest(), 0) + 1;
    add(proved->folder(), p.version, p.digest);
    tell(history, {{"action", "published"}, {"version", p.version}, {"digest", p.digest},
                   {"lineage", told_of(lineage)}});
  }
  const i64 now = linked();
  Verdict verdict{true, "no metric was asked for"};
  if (now == 0) verdict.reason = "the first version";
  else if (now == p.version) verdict.reason = "current already";
  else verdict = judge(proved->manifest(), now, options);
  p.promoted = verdict.promoted;
  p.reason = verdict.reason;
  if (p.promoted && now != p.version) link(p.version);
  if (now != p.version)
    tell(history, {{"action", p.promoted ? "promoted" : "refused"}, {"version", p.version},
                   {"from", now}, {"reason", p.reason}});
  try {
    if (options.keep > 0) remove_old(history, options.keep);
  } catch (const Error& e) {
    log::warn("version {} is published, but older ones could not be removed: {}", p.version, e.what());
  }
  return p;
}

i64 Repository::rollback() {
  require_repository(files_, path_);
  const auto lock = open();
  History history = read_history();
  repair(history);
  const i64 now = linked(), back = history.previous(versions());
  if (back == 0)
    fail(Exit::usage, "{}: no version was current before {}; publish another bundle", path_,
         now == 0 ? "now" : std::to_string(now));
  check_bundle_files(files_, folder_of(back), {});
  link(back);
  tell(history, {{"action", "rolled back"}, {"version", back}, {"from", now}});
  return back;
}

std::vector<i64> Repository::remove_old(History& history, i64 keep) {
  const std::vector<i64> there = versions();
  std::set<i64> kept = {linked(), history.previous(there), history.replaced};
  for (std::size_t k = there.size(); k-- > 0 && static_cast<i64>(there.size() - k) <= keep;)
    kept.insert(there[k]);
  std::vector<i64> removed;
  for (const i64 version : there) {
    if (kept.count(version)) continue;
    const std::string aside = folder_of(version) + ".tmp-removed";
    files_.rename(folder_of(version), aside);
    files_.sync_folder(at(kVersions));
    tell(history, {{"action", "removed"}, {"version", version}});
    files_.remove(aside);
    removed.push_back(version);
  }
  return removed;
}

std::vector<i64> Repository::prune(i64 keep) {
  require_repository(files_, path_);
  const auto lock = open();
  History history = read_history();
  repair(history);
  return remove_old(history, std::max<i64>(keep, 1));
}

std::vector<ServedVersion> Repository::list() const {
  const History history = read_history();
  const std::vector<i64> there = versions();
  const i64 now = linked();
  History seen = history;
  if (now > 0 && (seen.current.empty() || seen.current.back() != now))
    seen.add({{"action", "promoted"}, {"version", now}});
  const i64 previous = seen.previous(there);
  std::vector<ServedVersion> all;
  for (const i64 version : there) {
    ServedVersion v;
    v.number = version;
    v.current = version == now;
    v.previous = version == previous;
    const auto found = history.published.find(version);
    if (found != history.published.end()) {
      const json& lineage = found->second.at("lineage");
      v.time = found->second.at("time").get<std::string>();
      v.digest = found->second.at("digest").get<std::string>();
      v.run = lineage.at("run").get<std::string>();
      v.step = lineage.at("step").get<i64>();
      for (const auto& item : lineage.at("metrics").items())
        v.metrics.emplace_back(item.key(), metric_of(lineage, item.key()));
    }
    all.push_back(std::move(v));
  }
  return all;
}

}  // namespace cohort
