// A shard set in memory. Row g (over the whole set) has id 1000 + 7 g; its fields follow from g:
//   x      f32 [3]          g, g + 0.25, -g
//   words  i32 ragged       (g * 5) % 11 ids, the k-th is (g + k) % 50
//   steps  f32 [2] ragged   1 + g % 4 elements {g, k}
//   label  u8               g % 10
#pragma once
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "data/loader.h"

namespace cohort {

class FakeShardSet : public ShardSet {
 public:
  // One shard per entry; its rows cut into blocks of uneven size: 1, 2, ... `largest`, 1, ...
  FakeShardSet(const std::vector<i64>& shard_rows, i64 largest) {
    i64 size = 0;
    for (std::size_t s = 0; s < shard_rows.size(); ++s) {
      shards_.push_back({"train-" + std::to_string(s) + ".h5", "train", shard_rows[s]});
      for (i64 at = 0; at < shard_rows[s];) {
        size = size % largest + 1;
        const i64 rows = std::min(size, shard_rows[s] - at);
        blocks_.push_back({static_cast<i64>(s), at, rows});
        at += rows;
      }
      first_.push_back(total_);
      total_ += shard_rows[s];
    }
    fields_ = {{"x", DType::f32, {3}, false, 0, "", {}},
               {"words", DType::i32, {}, true, 50, "", {}},
               {"steps", DType::f32, {2}, true, 0, "", {}},
               {"label", DType::u8, {}, false, 10, "", {}}};
  }

  static i64 id_of(i64 g) { return 1000 + 7 * g; }
  static i64 row_of(i64 id) { return (id - 1000) / 7; }
  static i64 words_of(i64 g) { return g * 5 % 11; }
  static i64 steps_of(i64 g) { return 1 + g % 4; }
  i64 total() const { return total_; }
  i64 shard_of(i64 g) const {
    i64 s = 0;
    while (s + 1 < static_cast<i64>(first_.size()) && first_[static_cast<std::size_t>(s + 1)] <= g) ++s;
    return s;
  }
  // Row g holds this id in words[0].
  void spoil(i64 g, i32 id) {
    spoiled_ = g;
    spoiled_id_ = id;
  }

  const std::string& path() const override { return path_; }
  const std::vector<Field>& fields() const override { return fields_; }
  const std::vector<Vocabulary>& vocabularies() const override { return vocabularies_; }
  const std::vector<ShardInfo>& shards() const override { return shards_; }
  std::vector<Block> blocks(const std::string& split) const override {
    return split == "train" ? blocks_ : std::vector<Block>();
  }
  bool shuffled() const override { return false; }
  std::string fingerprint() const override { return "0123456789abcdef"; }
  Column read(const Block& block, i64 field) const override {
    Column column;
    if (fields_[static_cast<std::size_t>(field)].ragged) column.starts.push_back(0);
    i64 elements = 0;
    for (i64 r = 0; r < block.rows; ++r) {
      const i64 g = first_[static_cast<std::size_t>(block.shard)] + block.first_row + r;
      elements += add(column.values, g, field);
      if (!column.starts.empty()) column.starts.push_back(elements);
    }
    return column;
  }
  std::vector<i64> row_ids(const Block& block) const override {
    std::vector<i64> ids;
    for (i64 r = 0; r < block.rows; ++r) {
      ids.push_back(id_of(first_[static_cast<std::size_t>(block.shard)] + block.first_row + r));
    }
    return ids;
  }
  std::vector<std::string> verify() const override { return {}; }

 private:
  template <class T>
  static void put(std::vector<u8>& bytes, T value) {
    bytes.resize(bytes.size() + sizeof(T));
    std::memcpy(bytes.data() + bytes.size() - sizeof(T), &value, sizeof(T));
  }
  // -> elements of the row
  i64 add(std::vector<u8>& bytes, i64 g, i64 field) const {
    const float x = static_cast<float>(g);
    if (field == 0) {
      for (float value : {x, x + 0.25f, -x}) put(bytes, value);
    } else if (field == 1) {
      for (i64 k = 0; k < words_of(g); ++k) {
        put(bytes, g == spoiled_ && k == 0 ? spoiled_id_ : static_cast<i32>((g + k) % 50));
      }
      return words_of(g);
    } else if (field == 2) {
      for (i64 k = 0; k < steps_of(g); ++k) {
        put(bytes, x);
        put(bytes, static_cast<float>(k));
      }
      return steps_of(g);
    } else {
      put(bytes, static_cast<u8>(g % 10));
    }
    return 1;
  }

  std::string path_ = "fake";
  std::vector<Field> fields_;
  std::vector<Vocabulary> vocabularies_;
  std::vector<ShardInfo> shards_;
  std::vector<Block> blocks_;
  std::vector<i64> first_;  // first row of each shard
  i64 total_ = 0, spoiled_ = -1;
  i32 spoiled_id_ = 0;
};

// All four fields, words cut to 6 and steps to 3.
inline std::vector<Input> fake_inputs() {
  return {{"x", DType::f32, {3}, false, 0, 0},
          {"words", DType::i32, {6}, true, 6, 1},
          {"steps", DType::f32, {3, 2}, true, 3, 2},
          {"label", DType::u8, {}, false, 0, 3}};
}

inline LoaderConfig fake_loader(std::shared_ptr<ShardSet> shards, i64 global_batch, int rank,
                                int world) {
  LoaderConfig config;
  config.shards = std::move(shards);
  config.split = "train";
  config.inputs = fake_inputs();
  config.lanes = {global_batch, 0, 4, 17, true};
  config.positions = owned_positions(global_batch, rank, world);
  config.capacity = config.positions.end - config.positions.begin;
  return config;
}

}  // namespace cohort
