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
  OpCase rows{"over_time_rows", MaxOverTime{}, {{3, 2}}, {2}, {}};   // more than blocks
  rows.lengths = ragged(1100, 3);
  all.push_back(of(rows, 1100, 1090));
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

// Bias and ReLU within the convolution, where channels fill the packs.
void add_convolutions(std::vector<OpCase>& all) {
  const Activation relu = Activation::relu;
  all.push_back({"conv2d_fused", Conv2d{8, 3, 1, 1, relu}, {{5, 6, 8}}, {5, 6, 8},
                 {{8, 3, 3, 8}, {8}}});
  all.push_back({"conv2d_fused_bias", Conv2d{16, 3, 2, 1}, {{5, 6, 8}}, {3, 3, 16},
                 {{16, 3, 3, 8}, {16}}});
  OpCase text{"conv1d_fused", Conv1d{8, 3, relu, false}, {{9, 16}}, {7, 8}, {{8, 3, 16}, {8}}};
  text.lengths = ragged(5, 9);
  all.push_back(of(text, 5, 4, true));
}

// Several tiles of steps, features and filters.
void add_convolutions_over_time(std::vector<OpCase>& all) {
  for (const i64 filters : {5, 300}) {
    for (const i64 features : {3, 16, 200}) {
      const std::string name = "windows_" + std::to_string(filters) + "_of_" +
                               std::to_string(features);
      OpCase c{name, Conv1d{filters, 3, Activation::relu, true}, {{37, features}}, {filters},
               {{filters, 3, features}, {filters}}};
      c.lengths = ragged(7, 37);
      c.exact = filters > 5;
      all.push_back(of(c, 7, 6, features == 16));
    }
  }
}

// One, two and four rows a block; both sizes of the registers' arrays; cuDNN's.
void add_recurrent(std::vector<OpCase>& all) {
  struct Size { i64 units, rows; };
  for (const Cell cell : {Cell::tanh, Cell::lstm, Cell::gru}) {
    for (const auto [units, rows] : {Size{6, 11}, Size{33, 11}, Size{33, 21}, Size{72, 7}}) {
      for (const bool every : {false, true}) {
        const i64 gates = gates_of(cell) * units;
        const std::string name = std::string(kind_of(Recurrent{cell})) + std::to_string(units) +
                                 "_rows" + std::to_string(rows) + (every ? "_every" : "_last");
        OpCase c{name, Recurrent{cell, units, every}, {{3, 8}},
                 every ? Shape{3, units} : Shape{units},
                 {{gates, 8}, {gates, units}, {biases_of(cell) * units}}};
        c.lengths = ragged(rows, 3);
        all.push_back(of(c, rows, rows - 2, every));
      }
    }
  }
}

// Several tiles of units, several blocks that share the sums of the bias gradient.
void add_dense(std::vector<OpCase>& all) {
  const Dense relu{136, true, Activation::relu};
  all.push_back(of({"dense_packs", relu, {{40}}, {136}, {{136, 40}, {136}}}, 130, 111, true));
  OpCase steps{"dense_packs_steps", Dense{16, true, Activation::tanh}, {{7, 24}}, {7, 16},
               {{16, 24}, {16}}};
  steps.lengths = ragged(29, 7);
  all.push_back(of(steps, 29, 27));
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
  add_dense(all);
  add_convolutions(all);
  add_convolutions_over_time(all);
  add_recurrent(all);
  return all;
}

}  // namespace cohort::test
