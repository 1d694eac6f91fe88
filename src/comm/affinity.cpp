#include "comm/affinity.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/env.h"
#include "base/text.h"

namespace cohort {

int fair_threads(const std::vector<RankCores>& ranks) {
  struct Host {
    std::set<int> cores;
    std::size_t sum = 0, ranks = 0, least = 1u << 30;
  };
  std::map<std::string, Host> hosts;
  for (const RankCores& rank : ranks) {
    Host& host = hosts[rank.host];
    host.cores.insert(rank.cores.begin(), rank.cores.end());
    host.sum += rank.cores.size();
    host.least = std::min(host.least, rank.cores.size());
    ++host.ranks;
  }
  std::size_t threads = 1u << 30;
  for (const auto& [name, host] : hosts) {
    const bool own = host.sum == host.cores.size();
    threads = std::min(threads, own ? host.least : host.cores.size() / host.ranks);
  }
  return std::max(1, static_cast<int>(threads));
}

int fair_threads(Communicator& ranks) {
  const nlohmann::json mine = {{"host", host_name()}, {"cores", usable_core_numbers()}};
  std::vector<RankCores> all;
  for (const std::string& text : ranks.all_gather(mine.dump())) {
    const auto rank = nlohmann::json::parse(text);
    all.push_back({rank["host"].get<std::string>(), rank["cores"].get<std::vector<int>>()});
  }
  return fair_threads(all);
}

std::string crowded(int threads, int local_size) {
  const int usable = usable_cores(), online = online_cores();
  const bool spare = usable == 1 && online / std::max(1, local_size) > 1;
  if (threads <= usable && !spare) return "";
  return fmt::format("host {}: {} threads on {} of {} cores: the launcher bound the rank to them; "
                     "start with mpirun --bind-to none, or srun --cpus-per-task={} --cpu-bind=cores",
                     host_name(), threads, usable, online,
                     std::max(threads, online / std::max(1, local_size)));
}

}  // namespace cohort
