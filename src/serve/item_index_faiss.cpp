#include <faiss/IndexFlat.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/IndexIDMap.h>
#include <faiss/impl/FaissException.h>
#include <faiss/impl/io.h>
#include <faiss/index_io.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "serve/item_index.h"

namespace cohort {
namespace {

using Id = faiss::Index::idx_t;

constexpr i64 most_flat = 50000;

class FaissIndex final : public ItemIndex {
 public:
  explicit FaissIndex(std::unique_ptr<faiss::Index> index) : index_(std::move(index)) {
    const auto* map = dynamic_cast<const faiss::IndexIDMap*>(index_.get());
    ivf_ = dynamic_cast<const faiss::IndexIVF*>(map ? map->index : index_.get());
  }
  std::string describe() const override {
    if (!ivf_) return "FAISS Flat";
    return fmt::format("FAISS IVF {}, {} probed", ivf_->nlist, ivf_->nprobe);
  }
  std::vector<std::vector<Hit>> search(const std::vector<float>& queries, i64 k) const override {
    const i64 n = static_cast<i64>(queries.size()) / std::max<i64>(index_->d, 1);
    const i64 most = std::clamp<i64>(k, 0, index_->ntotal);
    std::vector<std::vector<Hit>> found(static_cast<std::size_t>(n));
    if (most == 0 || n == 0) return found;
    std::vector<float> scores(static_cast<std::size_t>(n * most));
    std::vector<Id> ids(scores.size());
    index_->search(n, queries.data(), most, scores.data(), ids.data());
    for (std::size_t e = 0; e < ids.size(); ++e)
      if (ids[e] >= 0)
        found[e / static_cast<std::size_t>(most)].push_back({ids[e], static_cast<double>(scores[e])});
    return found;
  }

 private:
  std::unique_ptr<faiss::Index> index_;
  const faiss::IndexIVF* ivf_ = nullptr;
};

struct Known {
  std::vector<float> vectors;
  std::vector<Id> ids;
};

Known known_items(const Items& items) {
  Known known;
  for (i64 i = 0; i < items.items; ++i) {
    if (!items.known[i]) continue;
    known.ids.push_back(i);
    known.vectors.insert(known.vectors.end(), items.vectors + i * items.dim,
                         items.vectors + (i + 1) * items.dim);
  }
  return known;
}

std::string bytes_of(const faiss::Index& index) {
  faiss::VectorIOWriter writer;
  faiss::write_index(&index, &writer);
  return {writer.data.begin(), writer.data.end()};
}

std::string build_flat(const Items& items, const Known& known) {
  faiss::IndexFlatIP flat(items.dim);
  faiss::IndexIDMap map(&flat);
  map.add_with_ids(static_cast<Id>(known.ids.size()), known.vectors.data(), known.ids.data());
  return bytes_of(map);
}

// Probes twice as many lists until recall@10 is 0.99 or every list is probed.
std::string build_ivf(const Items& items, const Known& known, const std::vector<float>& queries) {
  const i64 n = static_cast<i64>(known.ids.size());
  const auto lists = static_cast<std::size_t>(std::sqrt(static_cast<double>(n)));
  faiss::IndexFlatIP quantizer(items.dim);
  faiss::IndexIVFFlat ivf(&quantizer, static_cast<std::size_t>(items.dim), lists,
                          faiss::METRIC_INNER_PRODUCT);
  ivf.train(n, known.vectors.data());
  ivf.add_with_ids(n, known.vectors.data(), known.ids.data());
  const auto exact = make_exact_index(items);
  for (ivf.nprobe = 8;; ivf.nprobe *= 2) {
    ivf.nprobe = std::min(ivf.nprobe, ivf.nlist);
    std::string bytes = bytes_of(ivf);
    if (ivf.nprobe == ivf.nlist || recall(*open_faiss(bytes, ""), *exact, queries, 10) >= 0.99)
      return bytes;
  }
}

}  // namespace

bool have_faiss() { return true; }

std::string build_faiss(const Items& items, const std::vector<float>& queries) {
  const Known known = known_items(items);
  if (static_cast<i64>(known.ids.size()) < most_flat) return build_flat(items, known);
  return build_ivf(items, known, queries);
}

std::unique_ptr<ItemIndex> open_faiss(const std::string& bytes, const std::string& path) {
  try {
    faiss::VectorIOReader reader;
    reader.data.assign(bytes.begin(), bytes.end());
    return std::make_unique<FaissIndex>(std::unique_ptr<faiss::Index>(faiss::read_index(&reader)));
  } catch (const faiss::FaissException& e) {
    fail(Exit::storage, "{}: FAISS does not read it: {}; export again", path, e.what());
  }
}

}  // namespace cohort
