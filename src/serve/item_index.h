// The items whose vectors have the largest inner product with a user's.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace cohort {

struct Hit {
  i64 item = -1;
  double score = 0;          // the inner product
};

class ItemIndex {
 public:
  virtual ~ItemIndex() = default;
  virtual std::string describe() const = 0;   // "exact", "FAISS Flat", "FAISS IVF 256, 8 probed"
  // For each of the queries [n, dim] at most k items, best first.
  virtual std::vector<std::vector<Hit>> search(const std::vector<float>& queries, i64 k) const = 0;
};

// Items to search: rows of vectors [items, dim] whose `known` is not 0.
struct Items {
  const float* vectors = nullptr;
  const u8* known = nullptr;
  i64 items = 0, dim = 0;
};

// Compares with every item. The vectors must outlive it.
std::unique_ptr<ItemIndex> make_exact_index(const Items& items);
// The share of the exact best k that the index finds too, over all queries; 1 where there is none.
double recall(const ItemIndex& index, const ItemIndex& exact, const std::vector<float>& queries,
              i64 k);

// With the FAISS library, where the build found it: Flat below 50 000 items, above IVF, with as many
// lists probed as find 99 of 100 of `queries`' best ten. The bytes of a file index.faiss.
bool have_faiss();
std::string build_faiss(const Items& items, const std::vector<float>& queries);
// Exit::storage naming `path`.
std::unique_ptr<ItemIndex> open_faiss(const std::string& bytes, const std::string& path);

}  // namespace cohort
