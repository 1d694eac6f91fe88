#include "comm/blame.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"

namespace cohort {
namespace {

constexpr double kRatio = 1.5, kMaterial = 0.1;          // of a slow rank
constexpr double kLinkRatio = 4, kLinkSeconds = 0.05, kAllSeconds = 0.25;

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// Ranks that can be what the others wait for come first: silent ones, then those that do not wait
// for others themselves, last those that only wait for their device, which may wait for others.
int suspicion(const RankView& rank, double silence) {
  if (rank.age > silence) return 3;
  if (rank.beat.waiting) return 0;
  return rank.beat.phase == Phase::device ? 1 : 2;
}

const RankView& pick_late(const std::vector<RankView>& ranks, double silence) {
  const RankView* worst = nullptr;
  for (const RankView& rank : ranks) {
    if (rank.gone) continue;
    if (worst == nullptr) {
      worst = &rank;
      continue;
    }
    const int a = suspicion(rank, silence), b = suspicion(*worst, silence);
    const bool further = rank.beat.step != worst->beat.step ? rank.beat.step < worst->beat.step
                                                            : rank.age > worst->age + silence;
    if (a > b || (a == b && further)) worst = &rank;
  }
  return *worst;
}

std::string with_device(const RankView& rank) {
  if (rank.beat.device.empty() || rank.name.empty() || rank.name.back() != ')') return rank.name;
  return fmt::format("{}, {})", rank.name.substr(0, rank.name.size() - 1), rank.beat.device);
}

// A GPU works beside its host: the longer of the two holds the others up.
double busy_seconds(const RankWindow& rank) {
  return std::max(rank.compute + rank.reading + rank.records, rank.device_work);
}

// "81 % of it in reading train-012.h5"
std::string spent(const RankWindow& rank) {
  const double most = busy_seconds(rank);
  if (rank.device_work >= most) return "computing on its GPU";
  const double longest = std::max({rank.reading, rank.compute, rank.records});
  std::string what = "computing";
  if (rank.reading == longest) what = rank.file.empty() ? "reading" : "reading " + rank.file;
  if (rank.records == longest) what = "writing metrics";
  return fmt::format("{:.0f} % of it in {}", 100 * longest / most, what);
}

// Of a rank that does not wait for others.
Exit cause_of(const Beat& beat) {
  const bool reads = beat.open_read > beat.idle / 2;
  const bool writes = beat.phase == Phase::records || beat.phase == Phase::checkpoint;
  return reads || writes ? Exit::storage : Exit::lost;
}

}  // namespace

double time_allowed(Phase phase, double step_timeout) {
  return is_long(phase) ? kLongPhase * step_timeout : step_timeout;
}

std::optional<Late> find_late(const std::vector<RankView>& ranks, double step_timeout,
                              double silence) {
  if (step_timeout <= 0) return {};
  double latest = 0;
  for (const RankView& rank : ranks) {
    if (rank.gone) continue;
    const double idle = rank.beat.idle + rank.age;
    const double allowed = time_allowed(rank.beat.phase, step_timeout);
    if (idle > allowed) latest = std::max(latest, idle);
    // The others wait for a rank that is still at what may take long.
    else if (is_long(rank.beat.phase) && !rank.beat.waiting && rank.age <= silence) return {};
  }
  if (latest <= 0) return {};
  const RankView& late = pick_late(ranks, silence);
  i64 waiting = 0, all = 0;
  for (const RankView& rank : ranks) {
    waiting += !rank.gone && rank.beat.waiting && &rank != &late ? 1 : 0;
    all += rank.gone ? 0 : 1;
  }
  std::string text = fmt::format("step {} was not done in {}: ", late.beat.step + 1,
                                 human_seconds(latest));
  const int why = suspicion(late, silence);
  if (why == 0) text += "all ranks wait for each other: a message was lost on its way; ";
  text += with_device(late);
  if (why == 3)
    text += fmt::format(" has said nothing for {}: its process is stopped or its host hangs; it was",
                        human_seconds(late.age));
  else
    text += " is";
  text += " at " + describe(late.beat);
  if (why != 0 && waiting > 0) text += fmt::format("; {} of {} ranks wait for others", waiting, all);
  return Late{text, why == 1 || why == 2 ? cause_of(late.beat) : Exit::lost};
}

std::optional<Blame> find_slow(const std::vector<RankWindow>& ranks) {
  if (ranks.size() < 2) return {};
  std::size_t worst = 0;
  std::vector<double> busy;
  for (const RankWindow& rank : ranks) busy.push_back(busy_seconds(rank));
  worst = static_cast<std::size_t>(std::max_element(busy.begin(), busy.end()) - busy.begin());
  const double most = busy[worst];
  std::vector<double> others = busy;
  others.erase(others.begin() + static_cast<std::ptrdiff_t>(worst));
  const double usual = median(others);
  const RankWindow& slow = ranks[worst];
  const double host = slow.compute + slow.reading + slow.records + slow.device_wait;
  const double window = std::max(most, host) + slow.waited;
  if (most < kRatio * usual || most - usual < kMaterial * window) return {};
  const std::string ratio =
      usual > 0 && most < 100 * usual ? fmt::format("{:.1f}x", most / usual) : "over 100x";
  return Blame{worst, fmt::format("{} is {} slower than the median of the other ranks, {}",
                                  slow.name, ratio, spent(slow))};
}

double exposed_share(const std::vector<RankWindow>& ranks) {
  double least = 1;
  for (const RankWindow& rank : ranks) {
    const double total = rank.compute + rank.reading + rank.records + rank.waited;
    if (total > 0) least = std::min(least, rank.waited / total);
  }
  return ranks.empty() ? 0 : least;
}

std::string find_slow_link(const std::string& own_host, const std::vector<Echo>& echoes) {
  if (echoes.empty()) return "";
  const auto worst = std::max_element(
      echoes.begin(), echoes.end(),
      [](const Echo& a, const Echo& b) { return a.seconds < b.seconds; });
  const auto best = std::min_element(
      echoes.begin(), echoes.end(),
      [](const Echo& a, const Echo& b) { return a.seconds < b.seconds; });
  if (best->seconds > kAllSeconds) {
    if (echoes.size() > 1) return own_host;
    return fmt::format("{} or {}", worst->host, own_host);   // a link has two ends
  }
  std::vector<double> others;
  for (const Echo& echo : echoes)
    if (&echo != &*worst) others.push_back(echo.seconds);
  const bool slow = worst->seconds > kLinkSeconds &&
                    (others.empty() ? worst->seconds > kAllSeconds
                                    : worst->seconds > kLinkRatio * median(others));
  return slow ? worst->host : "";
}

}  // namespace cohort
