#include "plan/metrics.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "base/error.h"
#include "base/text.h"

namespace cohort {
namespace {

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

i64 classes_of(const MetricSpec& spec) {
  if (spec.loss == LossKind::cross_entropy) return spec.width;
  return spec.loss == LossKind::bce ? 2 : 0;
}

// log(1 + exp(x)) without overflow.
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }

double log_sum_exp(const double* logits, i64 width) {
  const double top = *std::max_element(logits, logits + width);
  double sum = 0;
  for (i64 c = 0; c < width; ++c) sum += std::exp(logits[c] - top);
  return top + std::log(sum);
}

// Plain serialisation; both ends are the same build on the same kind of machine.
class Packer {
 public:
  template <class T>
  void put(const T& value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void put(const std::vector<i64>& values) {
    put(static_cast<i64>(values.size()));
    for (i64 value : values) put(value);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

class Unpacker {
 public:
  explicit Unpacker(const std::string& text) : text_(text) {}
  bool done() const { return at_ == text_.size(); }
  template <class T>
  T get() {
    COHORT_CHECK(text_.size() - at_ >= sizeof(T), "metric state cut short");
    T value;
    std::memcpy(&value, text_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  std::vector<i64> get_counts() {
    std::vector<i64> values(static_cast<std::size_t>(get<i64>()));
    for (i64& value : values) value = get<i64>();
    return values;
  }

 private:
  const std::string& text_;
  std::size_t at_ = 0;
};

MetricState unpack(Unpacker& in) {
  MetricState state;
  state.count = in.get<i64>();
  state.correct = in.get<i64>();
  state.squared = in.get<double>();
  state.absolute = in.get<double>();
  state.log_loss = in.get<double>();
  state.hits = in.get_counts();
  state.predicted = in.get_counts();
  state.actual = in.get_counts();
  state.scores.resize(static_cast<std::size_t>(in.get<i64>()));
  for (auto& [score, label] : state.scores) {
    score = in.get<double>();
    label = in.get<u8>();
  }
  return state;
}

void add_counts(std::vector<i64>& to, const std::vector<i64>& from) {
  to.resize(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) to[i] += from[i];
}

void add_state(MetricState& to, const MetricState& from) {
  to.count += from.count;
  to.correct += from.correct;
  to.squared += from.squared;
  to.absolute += from.absolute;
  to.log_loss += from.log_loss;
  add_counts(to.hits, from.hits);
  add_counts(to.predicted, from.predicted);
  add_counts(to.actual, from.actual);
  to.scores.insert(to.scores.end(), from.scores.begin(), from.scores.end());
}

double macro_f1(const MetricState& state) {
  double sum = 0;
  i64 present = 0;
  for (std::size_t c = 0; c < state.hits.size(); ++c) {
    const i64 total = state.predicted[c] + state.actual[c];
    if (total == 0) continue;
    ++present;
    sum += 2.0 * static_cast<double>(state.hits[c]) / static_cast<double>(total);
  }
  return present == 0 ? std::nan("") : sum / static_cast<double>(present);
}

// Mann-Whitney U in integers: pairs won count 2, ties 1.
double roc_auc(std::vector<std::pair<double, u8>> scores) {
  const double undefined = std::numeric_limits<double>::quiet_NaN();
  for (const auto& [score, label] : scores) {
    if (std::isnan(score)) return undefined;
  }
  std::sort(scores.begin(), scores.end());
  i64 below = 0, positives = 0, doubled = 0;
  for (std::size_t at = 0; at < scores.size();) {
    i64 tied[2] = {0, 0};
    const double score = scores[at].first;
    for (; at < scores.size() && scores[at].first == score; ++at) ++tied[scores[at].second];
    doubled += tied[1] * (2 * below + tied[0]);
    below += tied[0];
    positives += tied[1];
  }
  if (below == 0 || positives == 0) return undefined;
  return static_cast<double>(doubled) /
         (2.0 * static_cast<double>(below) * static_cast<double>(positives));
}

double finish(const std::string& name, const MetricState& state) {
  if (name == "macro_f1") return macro_f1(state);
  if (name == "auc") return roc_auc(state.scores);
  const double count = static_cast<double>(state.count);   // 0 rows: 0/0 is NaN
  if (name == "mse") return state.squared / count;
  if (name == "rmse") return std::sqrt(state.squared / count);
  if (name == "mae") return state.absolute / count;
  if (name == "log_loss") return state.log_loss / count;
  COHORT_CHECK(name == "accuracy", "unknown metric " + name);
  return static_cast<double>(state.correct) / count;
}

}  // namespace

std::vector<std::string> known_metrics(LossKind loss) {
  if (loss == LossKind::mse) return {"mse", "rmse", "mae"};
  if (loss == LossKind::bce) {
    return {"accuracy", "macro_f1", "log_loss", "auc"};
  }
  return {"accuracy", "macro_f1", "log_loss"};
}

void check_metrics(const MetricSpec& spec) {
  const std::vector<std::string> known = known_metrics(spec.loss);
  for (const std::string& name : spec.names) {
    if (contains(known, name)) continue;
    const std::string near = nearest(name, known);
    fail(Exit::usage, "metrics: \"{}\" does not fit this loss; expected one of: {}{}", name,
         join(known, ", "), near.empty() ? "" : " (did you mean \"" + near + "\"?)");
  }
}

bool larger_is_better(const std::string& metric) {
  return metric == "accuracy" || metric == "macro_f1" || metric == "auc";
}

MetricBlock::MetricBlock(const MetricSpec& spec)
    : spec_(spec), wants_scores_(contains(spec.names, "auc")) {
  const std::size_t classes = static_cast<std::size_t>(classes_of(spec));
  state_.hits.resize(classes);
  state_.predicted.resize(classes);
  state_.actual.resize(classes);
}

void MetricBlock::add(const MetricRows& rows) {
  const i64 target_width = spec_.loss == LossKind::mse ? spec_.width : 1;
  for (i64 row = 0; row < rows.rows; ++row) {
    const i64 valid =
        rows.valid_steps ? std::min<i64>(rows.valid_steps[row], rows.steps) : rows.steps;
    for (i64 step = 0; step < valid; ++step) {
      const i64 at = row * rows.steps + step;
      add_target(rows.prediction + at * spec_.width, rows.target + at * target_width);
    }
  }
}

void MetricBlock::add_target(const double* prediction, const double* target) {
  if (spec_.loss == LossKind::cross_entropy) return add_class(prediction, *target);
  if (spec_.loss == LossKind::bce) {
    const bool label = *target >= 0.5, guess = *prediction > 0;
    ++state_.count;
    state_.correct += label == guess;
    state_.hits[label] += label == guess;
    ++state_.predicted[guess];
    ++state_.actual[label];
    // Soft targets: cross-entropy against the target probability.
    state_.log_loss += softplus(*prediction) - *target * *prediction;
    if (wants_scores_) state_.scores.emplace_back(*prediction, label ? u8{1} : u8{0});
    return;
  }
  for (i64 i = 0; i < spec_.width; ++i) {
    const double error = prediction[i] - target[i];
    ++state_.count;
    state_.squared += error * error;
    state_.absolute += std::fabs(error);
  }
}

void MetricBlock::add_class(const double* logits, double target) {
  if (!(target >= 0)) return;
  const i64 label = static_cast<i64>(target);
  COHORT_CHECK(label < spec_.width, "a label outside the classes reached a metric");
  const i64 guess = std::max_element(logits, logits + spec_.width) - logits;
  ++state_.count;
  state_.correct += label == guess;
  state_.hits[static_cast<std::size_t>(label)] += label == guess;
  ++state_.predicted[static_cast<std::size_t>(guess)];
  ++state_.actual[static_cast<std::size_t>(label)];
  state_.log_loss += log_sum_exp(logits, spec_.width) - logits[label];
}

std::string MetricBlock::bytes(i64 block) const {
  Packer out;
  out.put(block);
  out.put(state_.count);
  out.put(state_.correct);
  out.put(state_.squared);
  out.put(state_.absolute);
  out.put(state_.log_loss);
  out.put(state_.hits);
  out.put(state_.predicted);
  out.put(state_.actual);
  out.put(static_cast<i64>(state_.scores.size()));
  for (const auto& [score, label] : state_.scores) {
    out.put(score);
    out.put(label);
  }
  return out.text();
}

MetricValues merge_metrics(const MetricSpec& spec, const std::vector<std::string>& gathered) {
  std::map<i64, MetricState> blocks;
  for (const std::string& text : gathered) {
    Unpacker in(text);
    while (!in.done()) {
      const i64 block = in.get<i64>();
      COHORT_CHECK(blocks.emplace(block, unpack(in)).second, "a metric block came twice");
    }
  }
  MetricState total;
  i64 expected = 0;
  for (const auto& [block, state] : blocks) {
    COHORT_CHECK(block == expected++, "a metric block is missing");
    add_state(total, state);
  }
  MetricValues values;
  for (const std::string& name : spec.names) values.emplace_back(name, finish(name, total));
  return values;
}

}  // namespace cohort
