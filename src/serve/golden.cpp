// Is what a bundle answers what the trainer answered?
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "serve/scorer.h"

namespace cohort {
namespace {

constexpr double of_probability = 1e-5, of_largest = 1e-4;

struct Difference {
  double size = 0;
  std::size_t at = 0;
};

// The largest; not a number counts as one beyond all bounds, unless both are none.
Difference largest(const std::vector<double>& a, const std::vector<double>& b) {
  Difference d;
  for (std::size_t k = 0; k < a.size(); ++k) {
    double size = std::abs(a[k] - b[k]);
    if (std::isnan(size)) size = a[k] == b[k] || (std::isnan(a[k]) && std::isnan(b[k])) ? 0 : INFINITY;
    if (size > d.size) d = {size, k};
  }
  return d;
}

void compare(const Bundle& bundle, const GoldenRow& row, const char* what,
             const std::vector<double>& expected, const std::vector<double>& got, double most) {
  const auto stop = [&](const std::string& difference) {
    fail(Exit::storage, "{}/golden.jsonl: row {}: {}; this build or machine does not answer as the "
         "trainer did: do not serve it", bundle.folder(), row.row_id, difference);
  };
  if (expected.size() != got.size())
    stop(fmt::format("expected {} numbers of {}, got {}", expected.size(), what, got.size()));
  const Difference d = largest(expected, got);
  if (d.size > most)
    stop(fmt::format("{} {}: expected {:.9g}, got {:.9g}, allowed difference {:.3g}", what, d.at,
                     expected[d.at], got[d.at], most));
}

}  // namespace

void check_golden(Scorer& scorer) {
  const Bundle& bundle = scorer.bundle();
  std::vector<nlohmann::json> rows;
  double scale = 0;
  for (const GoldenRow& row : bundle.golden()) {
    rows.push_back(nlohmann::json::parse(row.raw));
    for (const double x : row.output)
      if (std::isfinite(x)) scale = std::max(scale, std::abs(x));
  }
  const std::vector<Answer> answers = scorer.score(rows);
  for (std::size_t k = 0; k < answers.size(); ++k) {
    const GoldenRow& row = bundle.golden()[k];
    if (!answers[k].error.empty())
      fail(Exit::storage, "{}/golden.jsonl: row {}: {}; export the bundle again", bundle.folder(),
           row.row_id, answers[k].error);
    compare(bundle, row, "output", row.output, answers[k].output, of_largest * scale);
    compare(bundle, row, "probability", row.probabilities, answers[k].probabilities, of_probability);
  }
}

}  // namespace cohort
