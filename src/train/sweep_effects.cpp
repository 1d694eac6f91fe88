// Which keys of a sweep mattered; the method is stated at KeyEffect.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include "base/rng.h"
#include "base/text.h"
#include "train/sweep_result.h"

namespace cohort {
namespace {

constexpr i64 kShuffles = 9999;

// Ranks from 1; equal values share their mean rank.
std::vector<double> ranks_of(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (std::size_t from = 0, to = 0; from < order.size(); from = to) {
    while (to < order.size() && values[order[to]] == values[order[from]]) ++to;
    for (std::size_t i = from; i < to; ++i)
      ranks[order[i]] = (static_cast<double>(from + to) + 1) / 2;
  }
  return ranks;
}

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Pearson's correlation; 0 where one of the two does not vary.
double correlation(const std::vector<double>& x, const std::vector<double>& y) {
  const double mx = mean_of(x), my = mean_of(y);
  double xx = 0, yy = 0, xy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mx) * (x[i] - mx);
    yy += (y[i] - my) * (y[i] - my);
    xy += (x[i] - mx) * (y[i] - my);
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0;
}

struct Groups {
  std::vector<std::size_t> of;          // of each trial
  std::vector<std::string> names;
};

Groups group(const std::vector<std::string>& values) {
  Groups groups;
  std::map<std::string, std::size_t> known;
  for (const std::string& value : values) {
    const auto [at, fresh] = known.emplace(value, groups.names.size());
    if (fresh) groups.names.push_back(value);
    groups.of.push_back(at->second);
  }
  return groups;
}

std::vector<double> group_means(const Groups& groups, const std::vector<double>& y) {
  std::vector<double> sums(groups.names.size(), 0), counts(groups.names.size(), 0);
  for (std::size_t i = 0; i < y.size(); ++i) {
    sums[groups.of[i]] += y[i];
    counts[groups.of[i]] += 1;
  }
  for (std::size_t g = 0; g < sums.size(); ++g) sums[g] /= counts[g];
  return sums;
}

// eta^2: the share of y's variance that lies between the groups.
double between_share(const Groups& groups, const std::vector<double>& y) {
  const double mean = mean_of(y);
  const std::vector<double> means = group_means(groups, y);
  double between = 0, total = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    between += (means[groups.of[i]] - mean) * (means[groups.of[i]] - mean);
    total += (y[i] - mean) * (y[i] - mean);
  }
  return total > 0 ? between / total : 0;
}

// How often chance alone does as well: y shuffled against what stands still.
double permutation_p(std::vector<double> y, u64 key,
                     const std::function<double(const std::vector<double>&)>& statistic) {
  const double seen = statistic(y) - 1e-12;   // equal up to rounding is as extreme
  Stream random(key);
  i64 extreme = 0;
  for (i64 shuffle = 0; shuffle < kShuffles; ++shuffle) {
    for (std::size_t i = y.size(); i > 1; --i)
      std::swap(y[i - 1], y[static_cast<std::size_t>(random.below(static_cast<i64>(i)))]);
    extreme += statistic(y) >= seen;
  }
  return static_cast<double>(1 + extreme) / static_cast<double>(kShuffles + 1);
}

void explain_groups(KeyEffect& effect, const std::vector<std::string>& values,
                    const std::vector<double>& ranks) {
  const Groups groups = group(values);
  const double n = static_cast<double>(ranks.size()), k = static_cast<double>(groups.names.size());
  if (k < 2) {
    effect.why_not = "one value only";
    return;
  }
  if (n < 2 * k) {
    effect.why_not = fmt::format("too few trials: {} values in {} trials", k, n);
    return;
  }
  effect.measure = "epsilon^2";
  const double eta = between_share(groups, ranks);
  effect.value = 1 - (1 - eta) * (n - 1) / (n - k);
  effect.share = std::clamp(effect.value, 0.0, 1.0);
  effect.p = permutation_p(ranks, name_key(effect.key), [&](const std::vector<double>& y) {
    return between_share(groups, y);
  });
  const std::vector<double> means = group_means(groups, ranks);
  effect.best_value = groups.names[static_cast<std::size_t>(
      std::min_element(means.begin(), means.end()) - means.begin())];
}

void explain_range(KeyEffect& effect, const std::vector<std::string>& values,
                   const std::vector<double>& ranks) {
  std::vector<double> numbers;
  for (const std::string& value : values) numbers.push_back(parse_double(value).value_or(0));
  const std::vector<double> x = ranks_of(numbers);
  if (*std::max_element(x.begin(), x.end()) == *std::min_element(x.begin(), x.end())) {
    effect.why_not = "one value only";
    return;
  }
  effect.measure = "spearman";
  effect.value = correlation(x, ranks);
  effect.share = effect.value * effect.value;
  effect.p = permutation_p(ranks, name_key(effect.key), [&](const std::vector<double>& y) {
    return std::fabs(correlation(x, y));
  });
}

}  // namespace

std::vector<KeyEffect> key_effects(const SweepSpec& spec, const std::vector<TrialResult>& trials) {
  std::vector<double> scores;           // smaller is better
  std::vector<const TrialResult*> used;
  for (const TrialResult& trial : trials) {
    const auto score = score_of(spec, trial);
    if (trial.state != TrialState::done || !score) continue;
    used.push_back(&trial);
    scores.push_back(spec.larger_is_better() ? -*score : *score);
  }
  const std::vector<double> ranks = ranks_of(scores);
  std::vector<KeyEffect> effects;
  for (std::size_t k = 0; k < spec.keys.size(); ++k) {
    const auto& [name, key] = spec.keys[k];
    KeyEffect effect;
    effect.key = name;
    std::vector<std::string> values;
    for (const TrialResult* trial : used) values.push_back(trial->point.values[k]);
    if (static_cast<i64>(used.size()) < least_trials_for_effects) {
      effect.why_not = fmt::format("too few trials: {} of at least {} are done", used.size(),
                                   least_trials_for_effects);
    } else if (key.is_range() && spec.method == "random") {
      explain_range(effect, values, ranks);
    } else {
      explain_groups(effect, values, ranks);
    }
    effect.p = std::min(1.0, effect.p * static_cast<double>(spec.keys.size()));
    effects.push_back(std::move(effect));
  }
  return effects;
}

}  // namespace cohort
