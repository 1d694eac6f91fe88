// From a prediction to what is answered.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <variant>

#include "base/error.h"
#include "serve/json_text.h"
#include "serve/scorer.h"

namespace cohort {
namespace {

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

namespace {

std::string error_text(const std::string& error) {
  std::string text = "{\"error\":";
  add_json(text, error);
  return text + "}";
}

}  // namespace

// Keys in the order of the alphabet.
std::string json_text(const Bundle& bundle, const Answer& answer) {
  if (!answer.error.empty()) return error_text(answer.error);
  std::string text = "{";
  const auto key = [&](const char* name) { (text += text.size() > 1 ? "," : "") += name; };
  const LossKind loss = loss_of(bundle.graph());
  if (loss == LossKind::mse) {
    key("\"prediction\":");
    add_json_list(text, answer.output);
    if (!answer.value.empty()) {
      key("\"value\":");
      add_json_list(text, answer.value);
    }
  } else if (loss == LossKind::bce) {
    key("\"logit\":");
    add_json(text, answer.output.at(0));
    key("\"probability\":");
    add_json(text, answer.probabilities.at(0));
  } else {
    const std::vector<Label> best = best_labels(bundle, answer, labels_told);
    key("\"best\":[");
    for (const Label& label : best) {
      text += &label == &best[0] ? "{\"label\":" : ",{\"label\":";
      add_json(text, label.name);
      text += ",\"probability\":";
      add_json(text, label.probability);
      text += '}';
    }
    text += ']';
    key("\"label\":");
    add_json(text, best.at(0).name);
    key("\"logits\":");
    add_json_list(text, answer.output);
    key("\"probabilities\":");
    add_json_list(text, answer.probabilities);
    key("\"probability\":");
    add_json(text, best.at(0).probability);
  }
  return text + "}";
}

std::string json_text(const Bundle& bundle, const TopAnswer& answer) {
  if (!answer.error.empty()) return error_text(answer.error);
  const bool logits = loss_of(bundle.graph()) == LossKind::bce;
  std::string text = "{\"items\":[";
  for (const TopItem& item : answer.items) {
    text += &item == &answer.items[0] ? "{\"item\":" : ",{\"item\":";
    add_json(text, item.item);
    if (logits) {
      text += ",\"probability\":";
      add_json(text, sigmoid(item.score));
    }
    text += ",\"score\":";
    add_json(text, item.score);
    if (item.value) {
      text += ",\"value\":";
      add_json(text, *item.value);
    }
    text += '}';
  }
  return text + "]}";
}

}  // namespace cohort
