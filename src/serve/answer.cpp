// From a prediction to what is answered.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <variant>

#include "base/error.h"
#include "serve/scorer.h"

namespace cohort {
namespace {

using nlohmann::json;

constexpr i64 labels_told = 5;

LossKind loss_of(const Graph& graph) { return std::get<Loss>(graph.nodes.back().op).kind; }

double sigmoid(double x) {
  return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}

std::vector<double> softmax(const std::vector<double>& logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p;
  for (const double x : logits) p.push_back(std::exp(x - largest));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

}  // namespace

Answer answer_of(const Graph& graph, const double* prediction, i64 length) {
  const Value& value = graph.values[static_cast<std::size_t>(graph.prediction)];
  const LossKind loss = loss_of(graph);
  const i64 all = count(value.shape);
  i64 width = all, step = 0;
  if (value.lengths >= 0 && value.shape.size() > 1) {
    width = all / value.shape[0];
    step = std::min(valid_steps(value, length), value.shape[0]) - 1;
  } else if (loss == LossKind::cross_entropy) {
    width = value.shape.back();
    step = all / width - 1;
  }
  Answer answer;
  answer.output.assign(static_cast<std::size_t>(width), 0.0);   // of a row without steps: zeros
  if (step >= 0) std::copy_n(prediction + step * width, width, answer.output.begin());
  if (loss == LossKind::bce) answer.probabilities = {sigmoid(answer.output.at(0))};
  if (loss == LossKind::cross_entropy) answer.probabilities = softmax(answer.output);
  return answer;
}

std::vector<Label> best_labels(const Bundle& bundle, const Answer& answer, i64 most) {
  std::vector<i64> order(answer.probabilities.size());
  std::iota(order.begin(), order.end(), i64{0});
  const auto p = [&](i64 k) { return answer.probabilities[static_cast<std::size_t>(k)]; };
  const i64 wanted = std::clamp<i64>(most, 0, static_cast<i64>(order.size()));
  std::partial_sort(order.begin(), order.begin() + wanted, order.end(),
                    [&](i64 a, i64 b) { return p(a) != p(b) ? p(a) > p(b) : a < b; });
  std::vector<Label> best;
  for (i64 k = 0; k < wanted; ++k) {
    const i64 index = order[static_cast<std::size_t>(k)];
    const bool named = index < static_cast<i64>(bundle.labels().size());
    best.push_back({index, named ? bundle.labels()[static_cast<std::size_t>(index)]
                                 : std::to_string(index), p(index)});
  }
  return best;
}

json to_json(const Bundle& bundle, const Answer& answer) {
  if (!answer.error.empty()) return {{"error", answer.error}};
  switch (loss_of(bundle.graph())) {
    case LossKind::mse:
      return {{"prediction", answer.output}};
    case LossKind::bce:
      return {{"probability", answer.probabilities.at(0)}, {"logit", answer.output.at(0)}};
    case LossKind::cross_entropy:
      break;
  }
  json best = json::array();
  for (const Label& label : best_labels(bundle, answer, labels_told))
    best.push_back({{"label", label.name}, {"probability", label.probability}});
  return {{"label", best.at(0).at("label")},
          {"probability", best.at(0).at("probability")},
          {"best", best},
          {"logits", answer.output},
          {"probabilities", answer.probabilities}};
}

json to_json(const Bundle& bundle, const TopAnswer& answer) {
  if (!answer.error.empty()) return {{"error", answer.error}};
  const bool logits = loss_of(bundle.graph()) == LossKind::bce;
  json items = json::array();
  for (const TopItem& item : answer.items) {
    items.push_back({{"item", item.item}, {"score", item.score}});
    if (logits) items.back()["probability"] = sigmoid(item.score);
  }
  return {{"items", items}};
}

}  // namespace cohort
