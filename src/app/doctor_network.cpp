// The network: interfaces of each host; latency and bandwidth between hosts, pair by pair, and
// between neighbours on a host.
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "app/doctor.h"
#include "base/median.h"
#include "base/text.h"

namespace cohort {
namespace {

constexpr int kWarmups = 10, kPings = 200;
constexpr i64 kPiece = i64{1} << 20;         // bytes of one exchange when bandwidth is measured
constexpr double kSeconds = 0.2;             // of it, for each pair
constexpr double kSlower = 3;                // than the median pair: told
constexpr double kSlowLatency = 1e-3;        // seconds between hosts: told
constexpr double kSlowBandwidth = 100e6;     // bytes/s between hosts: told (1 Gbit/s gives 117e6)

struct Pair {
  int a = 0, b = 0;
  double latency = 0, bandwidth = 0;         // seconds one way; bytes/s each way at once
};

// Mbit/s by the driver, or nothing: virtual interfaces state none.
std::string speed_of(const std::string& name) {
  std::ifstream file("/sys/class/net/" + name + "/speed");
  long speed = 0;
  return file >> speed && speed > 0 ? fmt::format(" {} Mbit/s", speed) : "";
}

void examine_interfaces(Doctor& d) {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) {
    fail(Exit::lost, "getifaddrs: {}", std::generic_category().message(errno));
  }
  std::vector<std::string> found;
  for (const ifaddrs* a = all; a != nullptr; a = a->ifa_next) {
    const bool other = !a->ifa_addr || a->ifa_addr->sa_family != AF_INET;
    if (other || !(a->ifa_flags & IFF_UP) || (a->ifa_flags & IFF_LOOPBACK)) continue;
    char text[INET_ADDRSTRLEN] = "";
    const auto* in = reinterpret_cast<const sockaddr_in*>(a->ifa_addr);
    if (!::inet_ntop(AF_INET, &in->sin_addr, text, sizeof text)) continue;
    found.push_back(fmt::format("{} {}{}", a->ifa_name, text, speed_of(a->ifa_name)));
  }
  ::freeifaddrs(all);
  Finding f{"interfaces", Fitness::ok, found.empty() ? "none but loopback" : join(found, ", ")};
  f.of_host = true;
  if (found.empty() && d.hosts.names.size() > 1) {
    f.fitness = Fitness::unfit;
    f.cause = Exit::lost;
    f.remedy = "bring up an interface with an IPv4 address that the other hosts reach";
  }
  d.add(std::move(f));
}

// The rounds of a tournament: in each, every one of n meets at most one other; together every pair.
std::vector<std::vector<std::pair<int, int>>> tournament(int n) {
  const int even = n + n % 2;
  std::vector<std::vector<std::pair<int, int>>> rounds;
  for (int round = 0; round + 1 < even; ++round) {
    rounds.emplace_back();
    for (int k = 0; k < even / 2; ++k) {
      const int a = k == 0 ? even - 1 : (round + k) % (even - 1);
      const int b = (round + even - 1 - k) % (even - 1);
      if (a < n && b < n) rounds.back().emplace_back(std::min(a, b), std::max(a, b));
    }
  }
  return rounds;
}

// Both ranks call it; the first decides when it has taken long enough.
Pair measure(Communicator& ranks, int a, int b) {
  const int peer = ranks.rank() == a ? b : a;
  Pair pair{a, b, 1e9, 0};
  char mine = 0, theirs = 0;
  for (int k = 0; k < kWarmups + kPings; ++k) {
    const double begin = seconds_now();
    ranks.exchange(&mine, &theirs, 1, peer);
    if (k >= kWarmups) pair.latency = std::min(pair.latency, seconds_now() - begin);
  }
  std::vector<char> out(static_cast<std::size_t>(kPiece), 1), in(out);
  ranks.exchange(out.data(), in.data(), kPiece, peer);
  const double begin = seconds_now();
  i64 pieces = 0;
  for (bool more = true; more; ++pieces) {
    out[0] = seconds_now() - begin < kSeconds;
    ranks.exchange(out.data(), in.data(), kPiece, peer);
    more = ranks.rank() == a ? out[0] != 0 : in[0] != 0;
  }
  pair.bandwidth = static_cast<double>(pieces * kPiece) / (seconds_now() - begin);
  return pair;
}

using Rounds = std::vector<std::vector<std::pair<int, int>>>;

// Collective. All pairs measured, on rank 0; a rank's pairs of a round are apart from the others'.
std::vector<Pair> measure_all(Doctor& d, const Rounds& rounds) {
  Communicator& ranks = d.ranks();
  nlohmann::json mine = nlohmann::json::array();
  for (const auto& round : rounds) {
    for (const auto& [a, b] : round) {
      if (ranks.rank() != a && ranks.rank() != b) continue;
      const Pair p = measure(ranks, a, b);
      if (ranks.rank() == a) mine.push_back({p.a, p.b, p.latency, p.bandwidth});
    }
    ranks.barrier();
  }
  std::vector<Pair> pairs;
  for (const std::string& text : ranks.all_gather(mine.dump())) {
    for (const auto& p : nlohmann::json::parse(text)) {
      pairs.push_back({p[0].get<int>(), p[1].get<int>(), p[2].get<double>(), p[3].get<double>()});
    }
  }
  return pairs;
}

std::string rates(double latency, double bandwidth) {
  return fmt::format("{:.1f} us, {:.0f} MB/s", latency * 1e6, bandwidth / 1e6);
}

// Rank 0: the median of all pairs, and each that is far from it or slow in itself.
void judge(Doctor& d, const std::string& check, const std::vector<Pair>& pairs, bool between) {
  if (pairs.empty()) return;
  std::vector<double> latencies, bandwidths;
  for (const Pair& p : pairs) {
    latencies.push_back(p.latency);
    bandwidths.push_back(p.bandwidth);
  }
  const double latency = upper_median(latencies), bandwidth = upper_median(bandwidths);
  Finding all{check, Fitness::ok,
              fmt::format("{} pairs: median {}, slowest {}", pairs.size(), rates(latency, bandwidth),
                          rates(*std::max_element(latencies.begin(), latencies.end()),
                                *std::min_element(bandwidths.begin(), bandwidths.end())))};
  all.of_job = true;
  if (between && (latency > kSlowLatency || bandwidth < kSlowBandwidth)) {
    all.fitness = Fitness::warn;
    all.remedy = "name the fast interface: mpirun --mca btl_tcp_if_include <name>, "
                 "UCX_NET_DEVICES, NCCL_SOCKET_IFNAME; on a slow network fewer hosts, larger batches";
  }
  d.add(std::move(all));
  for (const Pair& p : pairs) {
    if (!between || (p.latency < kSlower * latency && p.bandwidth * kSlower > bandwidth)) continue;
    Finding f{check, Fitness::warn,
              fmt::format("{} and {}: {}; the median pair: {}", d.hosts.place(p.a),
                          d.hosts.place(p.b), rates(p.latency, p.bandwidth),
                          rates(latency, bandwidth)),
              "check cable, port and route of the host that most slow pairs name, or leave it out"};
    f.of_job = true;
    d.add(std::move(f));
  }
}

nlohmann::json table(const std::vector<Pair>& pairs) {
  nlohmann::json list = nlohmann::json::array();
  for (const Pair& p : pairs) {
    list.push_back({{"ranks", {p.a, p.b}},
                    {"latency_us", p.latency * 1e6},
                    {"bandwidth_mb_s", p.bandwidth / 1e6}});
  }
  return list;
}

}  // namespace

void examine_network(Doctor& d) {
  const int rank = d.ranks().rank();
  if (d.hosts.first_on_host(rank)) {
    d.attempt("interfaces", Exit::lost, [&] { examine_interfaces(d); });
  }
  Rounds between = tournament(static_cast<int>(d.hosts.names.size()));
  for (auto& round : between) {   // hosts -> their first ranks
    for (auto& [a, b] : round) {
      a = d.hosts.ranks[static_cast<std::size_t>(a)][0];
      b = d.hosts.ranks[static_cast<std::size_t>(b)][0];
    }
  }
  Rounds within(2);               // neighbours: even and odd ones in turn
  for (const auto& list : d.hosts.ranks) {
    for (std::size_t k = 0; k + 1 < list.size(); ++k)
      within[k % 2].emplace_back(list[k], list[k + 1]);
  }
  const std::vector<Pair> far = measure_all(d, between), near = measure_all(d, within);
  if (rank != 0) return;
  judge(d, "between hosts", far, true);
  judge(d, "within hosts", near, false);
  (*d.details)["between_hosts"] = table(far);
  (*d.details)["within_hosts"] = table(near);
  if (d.ranks().size() == 1) {
    d.add({"between hosts", Fitness::ok, "one rank: not examined; start it under mpirun or srun", "",
           Exit::lost, true});
  }
}

}  // namespace cohort
