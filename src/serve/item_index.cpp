#include "serve/item_index.h"

#include <algorithm>

namespace cohort {
namespace {

bool better(const Hit& a, const Hit& b) {
  return a.score != b.score ? a.score > b.score : a.item < b.item;
}

class ExactIndex final : public ItemIndex {
 public:
  explicit ExactIndex(const Items& items) : items_(items) {}
  std::string describe() const override { return "exact"; }
  std::vector<std::vector<Hit>> search(const std::vector<float>& queries, i64 k) const override {
    std::vector<std::vector<Hit>> found;
    const i64 dim = items_.dim;
    for (i64 q = 0; dim > 0 && q < static_cast<i64>(queries.size()) / dim; ++q)
      found.push_back(best_of(queries.data() + q * dim, k));
    return found;
  }

 private:
  std::vector<Hit> best_of(const float* query, i64 k) const {
    std::vector<Hit> hits;
    for (i64 i = 0; i < items_.items; ++i) {
      if (!items_.known[i]) continue;
      const float* vector = items_.vectors + i * items_.dim;
      double score = 0;
      for (i64 d = 0; d < items_.dim; ++d)
        score += static_cast<double>(query[d]) * static_cast<double>(vector[d]);
      hits.push_back({i, score});
    }
    const i64 wanted = std::clamp<i64>(k, 0, static_cast<i64>(hits.size()));
    std::partial_sort(hits.begin(), hits.begin() + wanted, hits.end(), better);
    hits.resize(static_cast<std::size_t>(wanted));
    return hits;
  }
  Items items_;
};

}  // namespace

std::unique_ptr<ItemIndex> make_exact_index(const Items& items) {
  return std::make_unique<ExactIndex>(items);
}

double recall(const ItemIndex& index, const ItemIndex& exact, const std::vector<float>& queries,
              i64 k) {
  const auto found = index.search(queries, k), wanted = exact.search(queries, k);
  i64 all = 0, common = 0;
  for (std::size_t q = 0; q < wanted.size(); ++q) {
    all += static_cast<i64>(wanted[q].size());
    for (const Hit& hit : wanted[q])
      common += std::any_of(found[q].begin(), found[q].end(),
                            [&](const Hit& other) { return other.item == hit.item; });
  }
  return all == 0 ? 1 : static_cast<double>(common) / static_cast<double>(all);
}

}  // namespace cohort
