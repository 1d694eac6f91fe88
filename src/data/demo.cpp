#include "data/demo.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/rng.h"
#include "store/files.h"

namespace cohort {
namespace {

using nlohmann::json;

struct Scores {
  double sum = 0;
  i64 rows = 0;
  void add(double value) {
    sum += value;
    ++rows;
  }
  double mean() const { return rows > 0 ? sum / static_cast<double>(rows) : 0; }
};

struct Output {
  std::string folder;
  u64 seed;
  json truth;

  // Writes both files; `line` makes one row from its own random stream.
  void write(const std::string& name, const std::string& header, i64 train, i64 test,
             const std::function<std::string(Stream&, bool)>& line) {
    real_files().make_folder(folder + "/" + name);
    for (const bool is_test : {false, true}) {
      std::string text = header + "\n";
      const i64 rows = is_test ? test : train;
      for (i64 row = 0; row < rows; ++row) {
        Stream stream(mix_key(seed, name_key(name), is_test ? 1 : 0, row));
        text += line(stream, is_test) + "\n";
      }
      write_atomically(real_files(),
                       folder + "/" + name + (is_test ? "/test.csv" : "/train.csv"), text);
    }
  }
};

// h_t = 0.8 h_(t-1) + w.x_t with x ~ N(0, 1)^4; the target is h_T plus noise of deviation 0.3.
void behavior(Output& out) {
  const std::array<double, 4> weights{0.6, -0.4, 0.3, 0.2};
  Scores noise;
  out.write("behavior", "events,target", 8000, 2000, [&](Stream& s, bool test) {
    const i64 length = 5 + s.below(26);
    std::string events;
    double state = 0;
    for (i64 t = 0; t < length; ++t) {
      state *= 0.8;
      for (double w : weights) {
        const double x = std::round(s.normal() * 1e4) / 1e4;
        state += w * x;
        events += fmt::format("{}{:.4f}", events.empty() ? "" : " ", x);
      }
    }
    const double error = 0.3 * s.normal();
    if (test) noise.add(error * error);
    return fmt::format("{},{:.5f}", events, state + error);
  });
  out.truth["behavior"] = {{"metric", "mse"}, {"best", noise.mean()}, {"noise_variance", 0.09}};
}

constexpr i64 hidden = 6, kinds = 12;
// Hidden states mostly step round a ring; each prefers two of the twelve events.
double move(i64 from, i64 to) {
  return (to == (from + 1) % hidden ? 0.7 : 0.0) + (to == from ? 0.1 : 0.0) + 0.2 / hidden;
}
double emit(i64 state, i64 event) {
  return (event == 2 * state ? 0.6 : 0.0) + (event == 2 * state + 1 ? 0.2 : 0.0) + 0.2 / kinds;
}
i64 draw(Stream& s, i64 n, const std::function<double(i64)>& probability) {
  double left = s.uniform();
  for (i64 i = 0; i + 1 < n; ++i) {
    left -= probability(i);
    if (left < 0) return i;
  }
  return n - 1;
}

void next_event(Output& out) {
  Scores right;
  out.write("next-event", "events", 4000, 1000, [&](Stream& s, bool test) {
    const i64 length = 8 + s.below(25);
    std::vector<double> belief(hidden, 1.0 / hidden);  // of the state that emits next
    i64 state = s.below(hidden);
    std::string events;
    for (i64 t = 0; t < length; ++t) {
      const i64 event = draw(s, kinds, [&](i64 e) { return emit(state, e); });
      std::vector<double> chance(kinds, 0), next(hidden, 0);
      double total = 0;
      for (i64 h = 0; h < hidden; ++h) {
        const double prior = belief[static_cast<std::size_t>(h)];
        for (i64 e = 0; e < kinds; ++e) chance[static_cast<std::size_t>(e)] += prior * emit(h, e);
        const double posterior = prior * emit(h, event);
        total += posterior;
        for (i64 to = 0; to < hidden; ++to) {
          next[static_cast<std::size_t>(to)] += posterior * move(h, to);
        }
      }
      const i64 best = std::max_element(chance.begin(), chance.end()) - chance.begin();
      if (test && t > 0) right.add(best == event ? 1 : 0);
      for (double& b : next) b /= total;
      belief = next;
      events += fmt::format("{}{}", t == 0 ? "" : " ", event);
      state = draw(s, hidden, [&](i64 to) { return move(state, to); });
    }
    return events;
  });
  out.truth["next-event"] = {{"metric", "accuracy"}, {"best", right.mean()}};
}

// Area under the ROC curve of (score, label), ties counted half.
double auc(std::vector<std::pair<double, int>> scored) {
  std::sort(scored.begin(), scored.end());
  double positives = 0, negatives = 0, wins = 0;
  for (std::size_t i = 0; i < scored.size();) {
    double p = 0, n = 0;
    for (const double value = scored[i].first; i < scored.size() && scored[i].first == value; ++i) {
      (scored[i].second == 1 ? p : n) += 1;
    }
    wins += p * (negatives + n / 2);
    positives += p;
    negatives += n;
  }
  return positives * negatives > 0 ? wins / (positives * negatives) : 0.5;
}

// Latent vectors of four numbers, seen in part by the features; label ~ sigmoid(user . item).
void recommend(Output& out) {
  const auto latent = [&](const char* kind, i64 id) {
    Stream s(mix_key(out.seed, name_key(kind), id));
    std::array<double, 4> v{};
    for (double& x : v) x = std::round(1.2 * s.normal() * 1e4) / 1e4;
    return v;
  };
  std::vector<std::pair<double, int>> scored;
  Scores loss;
  out.write("recommend", "user,item,u0,u1,u2,i0,i1,i2,label", 16000, 4000,
            [&](Stream& s, bool test) {
    const i64 user = s.below(300), item = s.below(200);
    const auto u = latent("user", user), v = latent("item", item);
    double dot = 0;
    for (std::size_t k = 0; k < 4; ++k) dot += u[k] * v[k];
    const double p = 1 / (1 + std::exp(-dot));
    const int label = s.uniform() < p ? 1 : 0;
    if (test) {
      scored.emplace_back(p, label);
      loss.add(-std::log(label == 1 ? p : 1 - p));
    }
    return fmt::format("{},{},{:.4f},{:.4f},{:.4f},{:.4f},{:.4f},{:.4f},{}", user, item, u[0],
                       u[1], u[2], v[0], v[1], v[2], label);
  });
  out.truth["recommend"] = {{"metric", "auc"}, {"best", auc(scored)}, {"log_loss", loss.mean()}};
}

// One item of twenty, with chances softmax(W f) for eight user features f.
void recommend_mlp(Output& out) {
  constexpr i64 items = 20, features = 8;
  Stream fixed(mix_key(out.seed, name_key("item weights")));
  std::vector<double> weights(items * features);
  for (double& w : weights) w = 1.5 * fixed.normal();
  Scores right;
  std::string header;
  for (i64 f = 0; f < features; ++f) header += fmt::format("f{},", f);
  out.write("recommend-mlp", header + "item", 10000, 2000, [&](Stream& s, bool test) {
    std::string line;
    std::vector<double> chance(items, 0);
    for (i64 f = 0; f < features; ++f) {
      const double x = std::round(s.normal() * 1e4) / 1e4;
      line += fmt::format("{:.4f},", x);
      for (i64 i = 0; i < items; ++i) {
        chance[static_cast<std::size_t>(i)] +=
            x * weights[static_cast<std::size_t>(i * features + f)];
      }
    }
    double total = 0;
    for (double& c : chance) total += c = std::exp(c);
    const i64 item =
        draw(s, items, [&](i64 i) { return chance[static_cast<std::size_t>(i)] / total; });
    const i64 best = std::max_element(chance.begin(), chance.end()) - chance.begin();
    if (test) right.add(best == item ? 1 : 0);
    return line + std::to_string(item);
  });
  out.truth["recommend-mlp"] = {{"metric", "accuracy"}, {"best", right.mean()}};
}

// Opinions among neutral words; each agrees with the label with chance 0.75 and is said plainly or
// as "not" and a word of the other side. The best predictor counts opinions.
void sentiment(Output& out) {
  Scores right;
  out.write("sentiment", "text,label", 8000, 2000, [&](Stream& s, bool test) {
    const i64 label = s.below(2), opinions = 3 + 2 * s.below(3);
    std::string text;
    i64 votes = 0;
    for (i64 k = 0; k < opinions; ++k) {
      for (i64 n = s.below(4); n > 0; --n) text += fmt::format("word{} ", s.below(200));
      const i64 said = s.uniform() < 0.75 ? label : 1 - label;
      votes += said == 1 ? 1 : -1;
      const bool negated = s.uniform() < 0.3;
      text += fmt::format("{}{}{} ", negated ? "not " : "",
                          (negated ? 1 - said : said) == 1 ? "good" : "bad", s.below(30));
    }
    if (test) right.add((votes > 0 ? 1 : 0) == label ? 1 : 0);
    text.pop_back();
    return fmt::format("{},{}", text, label);
  });
  out.truth["sentiment"] = {{"metric", "accuracy"}, {"best", right.mean()}};
}

}  // namespace

void make_demo(const std::string& folder, u64 seed) {
  Output out{folder, seed, json::object()};
  behavior(out);
  next_event(out);
  recommend(out);
  recommend_mlp(out);
  sentiment(out);
  out.truth["note"] = "Synthetic rows; 'best' is the score of the generating process itself.";
  write_atomically(real_files(), folder + "/truth.json", out.truth.dump(1) + "\n");
}

}  // namespace cohort
