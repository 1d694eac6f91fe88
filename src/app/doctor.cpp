#include "app/doctor.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "app/table.h"
#include "base/build.h"
#include "base/env.h"
#include "base/log.h"
#include "base/text.h"

namespace cohort {
namespace {

using nlohmann::json;

constexpr const char* fitness_names[] = {"ok", "warn", "unfit"};

Hosts hosts_of(Communicator& ranks) {
  Hosts hosts;
  hosts.of = ranks.all_gather(host_name());
  for (std::size_t r = 0; r < hosts.of.size(); ++r) {
    const auto known = std::find(hosts.names.begin(), hosts.names.end(), hosts.of[r]);
    const std::size_t at = static_cast<std::size_t>(known - hosts.names.begin());
    if (known == hosts.names.end()) {
      hosts.names.push_back(hosts.of[r]);
      hosts.ranks.emplace_back();
    }
    hosts.ranks[at].push_back(static_cast<int>(r));
  }
  return hosts;
}

// "0-3,6"
std::string ranges(const std::vector<int>& ranks) {
  std::string text;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t end = i;
    while (end + 1 < ranks.size() && ranks[end + 1] == ranks[end] + 1) ++end;
    text += (text.empty() ? "" : ",") + std::to_string(ranks[i]);
    if (end > i) text += "-" + std::to_string(ranks[end]);
    i = end + 1;
  }
  return text;
}

// Which ranks say so, in words.
std::string where(const std::vector<int>& ranks, const Hosts& hosts) {
  if (ranks.size() == hosts.of.size()) return hosts.of.size() == 1 ? hosts.of[0] : "all ranks";
  if (ranks.size() == 1) return hosts.place(ranks[0]);
  std::vector<std::string> names;
  for (int rank : ranks) {
    const std::string& name = hosts.of[static_cast<std::size_t>(rank)];
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return fmt::format("ranks {} (host{} {})", ranges(ranks), names.size() > 1 ? "s" : "",
                     join(names, ", "));
}

std::string place_of(const Finding& f, const std::vector<int>& ranks, const Hosts& hosts) {
  if (f.of_job) return "job";
  if (f.of_host) return "host " + hosts.of.at(static_cast<std::size_t>(ranks.front()));
  return where(ranks, hosts);
}

json to_json(const Finding& f) {
  return {f.check, static_cast<int>(f.fitness), f.value, f.remedy, static_cast<int>(f.cause),
          f.of_job, f.of_host};
}

Finding from_json(const json& j) {
  return {j[0].get<std::string>(), static_cast<Fitness>(j[1].get<int>()),
          j[2].get<std::string>(), j[3].get<std::string>(),
          static_cast<Exit>(j[4].get<int>()), j[5].get<bool>(), j[6].get<bool>()};
}

std::vector<std::vector<Finding>> gather(const Doctor& doctor) {
  json mine = json::array();
  for (const Finding& f : doctor.findings) mine.push_back(to_json(f));
  const std::string text = mine.dump(-1, ' ', false, json::error_handler_t::replace);
  std::vector<std::vector<Finding>> all;
  for (const std::string& one : doctor.ranks().all_gather(text)) {
    all.emplace_back();
    for (const json& finding : json::parse(one)) all.back().push_back(from_json(finding));
  }
  return all;
}

void print_report(const json& report) {
  std::vector<std::vector<std::string>> rows{{"check", "", "where", "measured"}};
  for (const json& f : report["findings"]) {
    rows.push_back({f["check"].get<std::string>(), f["fitness"].get<std::string>(),
                    f["where"].get<std::string>(), f["value"].get<std::string>()});
  }
  std::printf("%s\n", format_table(rows).c_str());
  for (const json& f : report["findings"]) {
    const std::string remedy = f["remedy"].get<std::string>();
    if (remedy.empty()) continue;
    std::printf("%s: %s: %s: %s\n  what to do: %s\n", f["fitness"].get<std::string>().c_str(),
                f["check"].get<std::string>().c_str(), f["where"].get<std::string>().c_str(),
                f["value"].get<std::string>().c_str(), remedy.c_str());
  }
  std::printf("%s: %lld ranks on %zu hosts, %lld warnings\n",
              report["fit"].get<bool>() ? "fit" : "unfit",
              static_cast<long long>(report["ranks"].get<i64>()), report["hosts"].size(),
              static_cast<long long>(report["warnings"].get<i64>()));
}

json make_report(const Doctor& doctor, json findings, Exit exit) {
  i64 warnings = 0;
  for (const json& f : findings) warnings += f["fitness"] == "warn";
  json hosts = json::array();
  for (std::size_t h = 0; h < doctor.hosts.names.size(); ++h)
    hosts.push_back({{"host", doctor.hosts.names[h]}, {"ranks", doctor.hosts.ranks[h]}});
  return {{"fit", exit == Exit::done},
          {"exit_code", static_cast<int>(exit)},
          {"build", build_id()},
          {"ranks", doctor.hosts.of.size()},
          {"hosts", std::move(hosts)},
          {"warnings", warnings},
          {"findings", std::move(findings)},
          {"details", *doctor.details}};
}

}  // namespace

std::string Hosts::place(int rank) const {
  return fmt::format("rank {} (host {})", rank, of.at(static_cast<std::size_t>(rank)));
}

bool Hosts::first_on_host(int rank) const {
  return std::any_of(ranks.begin(), ranks.end(), [&](const auto& list) { return list[0] == rank; });
}

bool Doctor::attempt(const std::string& check, Exit cause, const std::function<void()>& work) {
  try {
    work();
    return true;
  } catch (const std::exception& e) {
    add({check, Fitness::unfit, e.what(), "mend what the message names", cause});
    return false;
  }
}

bool Doctor::attempt_all(const std::string& check, Exit cause, const std::function<void()>& work) {
  i64 good = attempt(check, cause, work);
  ranks().all_reduce({&good, DType::i64, {1}}, Reduce::min);
  return good == 1;
}

json merge_findings(const std::vector<std::vector<Finding>>& by_rank, const Hosts& hosts) {
  struct Merged {
    Finding finding;
    std::vector<int> ranks;
  };
  std::vector<Merged> merged;
  std::vector<std::string> checks;   // in the order examined
  for (std::size_t r = 0; r < by_rank.size(); ++r) {
    for (const Finding& f : by_rank[r]) {
      if (std::find(checks.begin(), checks.end(), f.check) == checks.end())
        checks.push_back(f.check);
      const auto same = std::find_if(merged.begin(), merged.end(), [&](const Merged& m) {
        return !f.of_host && to_json(m.finding) == to_json(f);
      });
      if (same == merged.end()) merged.push_back({f, {static_cast<int>(r)}});
      else if (same->ranks.back() != static_cast<int>(r)) same->ranks.push_back(static_cast<int>(r));
    }
  }
  json list = json::array();
  for (const std::string& check : checks) {
    for (const Merged& m : merged) {
      if (m.finding.check != check) continue;
      list.push_back({{"check", check},
                      {"fitness", fitness_names[static_cast<int>(m.finding.fitness)]},
                      {"where", place_of(m.finding, m.ranks, hosts)},
                      {"value", m.finding.value},
                      {"remedy", m.finding.remedy},
                      {"exit_code", m.finding.fitness == Fitness::unfit
                                        ? static_cast<int>(m.finding.cause) : 0}});
    }
  }
  return list;
}

Exit verdict(const json& findings) {
  int code = 0;   // in the order of exit codes: lost 5, storage 4, usage 2
  for (const json& f : findings) code = std::max(code, f["exit_code"].get<int>());
  return static_cast<Exit>(code);
}

int run_doctor(World& world, const DoctorOptions& options) {
  Doctor doctor{world, options, hosts_of(world.communicator()), {}, std::make_shared<json>(json::object())};
  const bool speaks = world.communicator().rank() == 0;
  const std::pair<const char*, void (*)(Doctor&)> parts[] = {{"hosts", examine_hosts},
                                                             {"network", examine_network},
                                                             {"shared folder", examine_storage},
                                                             {"GPUs", examine_gpus}};
  for (const auto& [name, examine] : parts) {
    if (speaks) log::info("doctor: {}", name);   // where it hangs, if it does
    examine(doctor);
    world.communicator().barrier();
  }
  json findings = merge_findings(gather(doctor), doctor.hosts);
  const Exit exit = verdict(findings);
  if (speaks) {
    const json report = make_report(doctor, std::move(findings), exit);
    if (options.json) std::printf("%s\n", report.dump(1).c_str());
    else print_report(report);
  }
  return static_cast<int>(exit);
}

}  // namespace cohort
