#include "kernel_shapes.h"

namespace cohort::test {
namespace {

OpCase of(OpCase c, i64 rows, i64 valid, bool accumulate = false) {
  c.rows = rows;
  c.valid = valid;
  c.accumulate = accumulate;
  return c;
}

// Steps of `rows` rows, from none to all.
std::vector<i64> ragged(i64 rows, i64 steps) {
  std::vector<i64> lengths;
  for (i64 r = 0; r < rows; ++r) lengths.push_back(r * 7 % (steps + 1));
  return lengths;
}

OpCase norm(const std::string& name, const BatchNorm& op, const Shape& in) {
  const i64 channels = in.back();
  return {name, op, {in}, in, {{channels}, {channels}, {channels}, {channels}}};
}

// Packs of channels, several tiles of them, several blocks that share a group.
void add_batch_norm(std::vector<OpCase>& all) {
  const BatchNorm relu{1e-5, 0.1, 3, Activation::relu};
  all.push_back(of(norm("norm_packs", relu, {4, 5, 64}), 22, 19));
  all.push_back(of(norm("norm_one_group", BatchNorm{1e-5, 0.1, 1}, {7, 9, 8}), 25, 25, true));
  all.push_back(of(norm("norm_tiles", BatchNorm{1e-5, 0.1, 2}, {304}), 40, 37, true));
  all.push_back(of(norm("norm_default_groups", BatchNorm{}, {2, 520}), 70, 69));
  const BatchNorm sigmoid{1e-5, 0.1, 4, Activation::sigmoid};
  OpCase steps = of(norm("norm_steps", sigmoid, {8, 12}), 40, 33, true);
  steps.lengths = ragged(40, 8);
  all.push_back(steps);
}

// Ids that fill several stretches of the sorted list, and one that fills all.
void add_embedding(std::vector<OpCase>& all) {
  for (const i64 dim : {5, 12}) {
    for (const i64 ids : {1, 3, 200}) {
      for (const bool sparse : {true, false}) {
        const std::string name = std::string(sparse ? "table_sparse_" : "table_dense_") +
                                 std::to_string(ids) + "_by_" + std::to_string(dim);
        OpCase c{name, Embedding{ids, dim, sparse}, {{6}}, {6, dim}, {{ids, dim}}};
        c.ids = ids;
        all.push_back(of(c, 41, 33));
      }
    }
  }
}

// More than one block adds to the sums.
void add_losses(std::vector<OpCase>& all) {
  OpCase classes{"loss_classes", Loss{LossKind::cross_entropy}, {{131}, {}}, {}, {}};
  classes.ids = 131;
  all.push_back(of(classes, 300, 299));
  all.push_back(of({"loss_squares", Loss{LossKind::mse}, {{57}, {57}}, {}, {}}, 300, 277));
  all.push_back(of({"loss_logits", Loss{LossKind::bce}, {{1}, {1}}, {}, {}}, 1500, 1477));
  OpCase steps{"loss_squares_steps", Loss{LossKind::mse}, {{5, 3}, {5, 3}}, {}, {}};
  steps.lengths = ragged(5, 5);
  all.push_back(of(steps, 5, 4, true));
}

void add_pools(std::vector<OpCase>& all) {
  all.push_back({"pool_packs", MaxPool2d{3, 2, 1}, {{9, 10, 16}}, {5, 5, 16}, {}});
  all.push_back({"pool_wide_window", MaxPool2d{17, 17, 0}, {{34, 35, 2}}, {2, 2, 2}, {}});
  all.push_back(of({"average_packs", AvgPool2d{3, 1}, {{9, 10, 16}}, {7, 8, 16}, {}}, 5, 4, true));
  all.push_back({"average_whole", GlobalAvgPool{}, {{7, 7, 24}}, {24}, {}});
  OpCase steps{"over_time", MaxOverTime{}, {{37, 72}}, {72}, {}};
  steps.lengths = ragged(9, 37);
  all.push_back(of(steps, 9, 8, true));
  steps.name = "over_time_shrunk";
  steps.shrink = 3;
  all.push_back(of(steps, 9, 8));
}

void add_pointwise(std::vector<OpCase>& all) {
  all.push_back(of({"dropout_packs", Dropout{0.3}, {{16}}, {16}, {}}, 130, 77, true));
  all.push_back(of({"concat_packs", Concat{}, {{8}, {16}, {24}}, {48}, {}}, 33, 20));
  all.push_back(of({"dot_packs", Dot{}, {{64}, {64}}, {1}, {}}, 33, 20, true));
  OpCase steps{"sigmoid_steps", Activate{Activation::sigmoid}, {{4, 3}}, {4, 3}, {}};
  steps.lengths = ragged(5, 4);
  all.push_back(steps);
}

void add_ingest(std::vector<OpCase>& all) {
  const Ingest moments{1.0 / 255, {0.4, 0.5, 0.6}, {4, 5, 6}};
  OpCase image{"ingest_image", moments, {{9, 7, 3}}, {9, 7, 3}, {}};
  for (const DType raw : {DType::u8, DType::f64, DType::i32}) {
    image.raw = raw;
    image.name = std::string("ingest_image_") + name_of(raw);
    all.push_back(of(image, 11, 9));
  }
  OpCase ids{"ingest_ids", Ingest{}, {{7}}, {7}, {}};
  ids.ids = 9;
  ids.lengths = ragged(5, 7);
  for (const DType raw : {DType::i32, DType::i64}) {
    ids.raw = raw;
    ids.name = std::string("ingest_ids_") + name_of(raw);
    all.push_back(ids);
  }
}

}  // namespace

std::vector<OpCase> kernel_shapes() {
  std::vector<OpCase> all;
  add_batch_norm(all);
  add_embedding(all);
  add_losses(all);
  add_pools(all);
  add_pointwise(all);
  add_ingest(all);
  return all;
}

}  // namespace cohort::test
