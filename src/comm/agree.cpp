#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/env.h"
#include "base/error.h"
#include "base/text.h"
#include "comm/communicator.h"

namespace cohort {
namespace {

// Cuts texts of many lines down to the first line that differs.
void keep_difference(std::string& a, std::string& b) {
  const std::vector<std::string> left = split(a, '\n'), right = split(b, '\n');
  for (std::size_t k = 0; k < std::max(left.size(), right.size()); ++k) {
    a = k < left.size() ? trim(left[k]) : "";
    b = k < right.size() ? trim(right[k]) : "";
    if (a != b) return;
  }
}

}  // namespace

void agree(Communicator& world, const std::vector<Fact>& facts) {
  nlohmann::json mine;
  mine["host"] = host_name();
  mine["facts"] = nlohmann::json::array();
  for (const Fact& fact : facts) mine["facts"].push_back({fact.name, fact.value});
  const auto handler = nlohmann::json::error_handler_t::replace;
  const auto all = world.all_gather(mine.dump(-1, ' ', false, handler));
  const auto base = nlohmann::json::parse(all[0]);
  const std::string base_host = base["host"].get<std::string>();
  for (std::size_t r = 1; r < all.size(); ++r) {
    const auto other = nlohmann::json::parse(all[r]);
    const auto& a = base["facts"];
    const auto& b = other["facts"];
    const std::string host = other["host"].get<std::string>();
    if (a.size() != b.size()) {
      fail(Exit::usage,
           "rank {} (host {}) states {} facts, rank 0 (host {}) states {}: start the same build "
           "everywhere", r, host, b.size(), base_host, a.size());
    }
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (a[i] == b[i]) continue;
      std::string here = a[i][1].get<std::string>(), there = b[i][1].get<std::string>();
      keep_difference(here, there);
      fail(Exit::usage,
           "rank {} (host {}) differs in {}: it has '{}', rank 0 (host {}) has '{}': start every "
           "rank with the same config, data and build",
           r, host, b[i][0].get<std::string>(), there, base_host, here);
    }
  }
}

std::string on_rank_0(Communicator& ranks, const std::function<std::string()>& work) {
  std::string word;   // one byte of exit code, then the answer or the message
  if (ranks.rank() == 0) {
    try {
      word = '\0' + work();
    } catch (const Error& e) {
      word = static_cast<char>(e.exit_code()) + std::string(e.what());
    }
  }
  word = ranks.all_gather(word)[0];
  if (word[0] != 0) throw Error(static_cast<Exit>(word[0]), word.substr(1));
  return word.substr(1);
}

}  // namespace cohort
