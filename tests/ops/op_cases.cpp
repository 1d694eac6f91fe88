#include "op_case.h"

namespace cohort::test {
namespace {

void add_dense(std::vector<OpCase>& all) {
  all.push_back({"dense_relu", Dense{7, true, Activation::relu}, {{5}}, {7}, {{7, 5}, {7}}});
  all.push_back({"dense_plain_no_bias", Dense{1, false}, {{3}}, {1}, {{1, 3}}});
  OpCase wide{"dense_wide", Dense{33, true, Activation::tanh}, {{65}}, {33}, {{33, 65}, {33}}};
  wide.rows = 37, wide.valid = 31;
  all.push_back(wide);
  OpCase steps{"dense_per_step", Dense{3, true, Activation::sigmoid}, {{4, 5}}, {4, 3},
               {{3, 5}, {3}}};
  steps.lengths = {0, 1, 4, 3, 2};
  steps.accumulate = true;
  all.push_back(steps);
}

void add_embedding(std::vector<OpCase>& all) {
  for (bool sparse : {true, false}) {
    OpCase one{sparse ? "embedding_sparse" : "embedding_dense", Embedding{11, 3, sparse}, {{}},
               {3}, {{11, 3}}};
    one.ids = 11;
    all.push_back(one);
    OpCase many{sparse ? "embedding_sequence_sparse" : "embedding_sequence_dense",
                Embedding{9, 5, sparse}, {{6}}, {6, 5}, {{9, 5}}};
    many.ids = 9;
    all.push_back(many);
  }
}

void add_recurrent(std::vector<OpCase>& all) {
  for (const Cell cell : {Cell::tanh, Cell::lstm, Cell::gru}) {
    for (const bool every : {false, true}) {
      const i64 gates = gates_of(cell), units = 3;
      const std::string name = std::string(kind_of(Recurrent{cell})) +
                               (every ? "_every" : "_last");
      OpCase c{name, Recurrent{cell, units, every}, {{4, 5}}, every ? Shape{4, 3} : Shape{3},
               {{gates * units, 5}, {gates * units, units}, {biases_of(cell) * units}}};
      all.push_back(c);
      c.name += "_ragged";
      c.lengths = {0, 1, 4, 3, 2};
      c.accumulate = true;
      all.push_back(c);
    }
  }
}

void add_conv1d(std::vector<OpCase>& all) {
  for (const bool pooled : {false, true}) {
    for (const i64 width : {1, 3}) {
      const std::string name = std::string(pooled ? "conv1d_pooled_" : "conv1d_") +
                               std::to_string(width);
      OpCase c{name, Conv1d{7, width, Activation::relu, pooled}, {{6, 5}},
               pooled ? Shape{7} : Shape{6 - width + 1, 7}, {{7, width, 5}, {7}}};
      all.push_back(c);
      c.name += "_ragged";
      c.lengths = {0, 1, 6, 4, 2};
      c.accumulate = width == 3;
      all.push_back(c);
    }
  }
  OpCase second{"conv1d_second", Conv1d{2, 2, Activation::none, false}, {{5, 3}}, {4, 2},
                {{2, 2, 3}, {2}}};
  second.lengths = {0, 1, 6, 4, 3};
  second.shrink = 1;
  all.push_back(second);
}

void add_pools(std::vector<OpCase>& all) {
  OpCase time{"max_over_time", MaxOverTime{}, {{5, 3}}, {3}, {}};
  all.push_back(time);
  time.name = "max_over_time_ragged";
  time.lengths = {0, 1, 5, 3, 2};
  time.accumulate = true;
  all.push_back(time);
  all.push_back({"max_pool2d", MaxPool2d{2, 2}, {{5, 7, 3}}, {2, 3, 3}, {}});
  all.push_back({"max_pool2d_overlap", MaxPool2d{3, 2}, {{7, 5, 2}}, {3, 2, 2}, {}});
  OpCase padded{"max_pool2d_padding", MaxPool2d{3, 2, 1}, {{7, 6, 3}}, {4, 3, 3}, {}};
  padded.accumulate = true;
  all.push_back(padded);
  all.push_back({"max_pool2d_padding_even", MaxPool2d{2, 1, 1}, {{3, 4, 5}}, {4, 5, 5}, {}});
  all.push_back({"avg_pool2d", AvgPool2d{2, 2}, {{5, 7, 3}}, {2, 3, 3}, {}});
  OpCase average{"avg_pool2d_overlap", AvgPool2d{3, 2}, {{7, 6, 5}}, {3, 2, 5}, {}};
  average.accumulate = true;
  all.push_back(average);
  OpCase whole{"global_avg_pool", GlobalAvgPool{}, {{3, 5, 19}}, {19}, {}};
  all.push_back(whole);
  whole.name = "global_avg_pool_accumulate";
  whole.accumulate = true;
  all.push_back(whole);
}

void add_conv2d(std::vector<OpCase>& all) {
  all.push_back({"conv2d_3x3", Conv2d{5, 3, 1, 0, Activation::relu, 0}, {{6, 7, 3}}, {4, 5, 5},
                 {{5, 3, 3, 3}, {5}}});
  all.push_back({"conv2d_stride_padding", Conv2d{3, 3, 2, 1, Activation::none, 0}, {{5, 7, 1}},
                 {3, 4, 3}, {{3, 3, 3, 1}, {3}}});
  OpCase pooled{"conv2d_pooled", Conv2d{9, 3, 1, 0, Activation::relu, 2}, {{7, 8, 1}}, {2, 3, 9},
                {{9, 3, 3, 1}, {9}}};
  all.push_back(pooled);
  pooled.name = "conv2d_pooled_accumulate";
  pooled.accumulate = true;
  all.push_back(pooled);
}

// Groups, no bias, 1x1 and what ResNet is made of.
void add_conv2d_of_residual_nets(std::vector<OpCase>& all) {
  OpCase grouped{"conv2d_groups", Conv2d{6, 3, 1, 1, Activation::tanh, 0, 3, true}, {{5, 4, 9}},
                 {5, 4, 6}, {{6, 3, 3, 3}, {6}}};
  all.push_back(grouped);
  grouped.name = "conv2d_groups_no_bias";
  grouped.op = Conv2d{6, 3, 1, 1, Activation::none, 0, 3, false};
  grouped.params = {{6, 3, 3, 3}};
  grouped.accumulate = true;
  all.push_back(grouped);
  all.push_back({"conv2d_depthwise", Conv2d{10, 3, 2, 1, Activation::relu, 0, 5, true}, {{6, 7, 5}},
                 {3, 4, 10}, {{10, 3, 3, 1}, {10}}});
  all.push_back({"conv2d_pooled_no_bias", Conv2d{9, 3, 1, 0, Activation::relu, 2, 1, false},
                 {{7, 8, 1}}, {2, 3, 9}, {{9, 3, 3, 1}}});
  OpCase point{"conv2d_1x1", Conv2d{7, 1, 1, 0, Activation::none, 0, 1, false}, {{3, 5, 4}},
               {3, 5, 7}, {{7, 1, 1, 4}}};
  all.push_back(point);
  point.name = "conv2d_1x1_accumulate";
  point.accumulate = true;
  all.push_back(point);
  all.push_back({"conv2d_1x1_stride", Conv2d{7, 1, 2, 0, Activation::relu, 0, 1, true},
                 {{5, 4, 3}}, {3, 2, 7}, {{7, 1, 1, 3}, {7}}});
  all.push_back({"conv2d_7x7", Conv2d{4, 7, 2, 3, Activation::none, 0, 1, false}, {{9, 11, 3}},
                 {5, 6, 4}, {{4, 7, 7, 3}}});
}

void add_batch_norm(std::vector<OpCase>& all) {
  const std::vector<Shape> params = {{3}, {3}, {3}, {3}};
  OpCase c{"batch_norm", BatchNorm{1e-5, 0.1, 0}, {{3}}, {3}, params};
  c.rows = 9, c.valid = 7;
  all.push_back(c);
  c.name = "batch_norm_groups";
  c.op = BatchNorm{1e-5, 0.1, 2};
  c.accumulate = true;
  all.push_back(c);
  c.name = "batch_norm_evaluation";
  c.training = false;
  all.push_back(c);
  all.push_back({"batch_norm_image", BatchNorm{1e-3, 0.1, 1}, {{3, 2, 3}}, {3, 2, 3}, params});
  const std::vector<Shape> wide = {{17}, {17}, {17}, {17}};
  OpCase relu{"batch_norm_relu", BatchNorm{1e-5, 0.1, 2, Activation::relu}, {{2, 3, 17}}, {2, 3, 17},
              wide};
  relu.rows = 7, relu.valid = 6;
  all.push_back(relu);
  relu.name = "batch_norm_relu_evaluation";
  relu.training = false;
  all.push_back(relu);
  OpCase steps{"batch_norm_tanh_steps", BatchNorm{1e-5, 0.1, 2, Activation::tanh}, {{4, 3}}, {4, 3},
               params};
  steps.lengths = {0, 1, 4, 3, 2};
  steps.accumulate = true;
  all.push_back(steps);
}

void add_pointwise(std::vector<OpCase>& all) {
  OpCase drop{"dropout", Dropout{0.4}, {{3, 7}}, {3, 7}, {}};
  all.push_back(drop);
  drop.name = "dropout_evaluation";
  drop.training = false;
  all.push_back(drop);
  for (const Activation kind : {Activation::relu, Activation::tanh, Activation::sigmoid}) {
    all.push_back({"activation_" + std::to_string(static_cast<int>(kind)), Activate{kind}, {{13}},
                   {13}, {}});
  }
  OpCase concat{"concat", Concat{}, {{3}, {1}, {5}}, {9}, {}};
  concat.accumulate = true;
  all.push_back(concat);
  all.push_back({"concat_steps", Concat{}, {{4, 3}, {4, 2}}, {4, 5}, {}});
  all.push_back({"dot", Dot{}, {{17}, {17}}, {1}, {}});
  all.push_back({"flatten", Flatten{}, {{3, 2, 5}}, {30}, {}});
  all.push_back({"add", Add{}, {{3, 5}, {3, 5}}, {3, 5}, {}});
  OpCase sum{"add_relu", Add{Activation::relu}, {{3, 2, 11}, {3, 2, 11}, {3, 2, 11}}, {3, 2, 11}, {}};
  sum.accumulate = true;
  all.push_back(sum);
}

void add_losses(std::vector<OpCase>& all) {
  all.push_back({"mse", Loss{LossKind::mse}, {{3}, {3}}, {}, {}});
  all.push_back({"bce", Loss{LossKind::bce}, {{1}, {1}}, {}, {}});
  OpCase one{"cross_entropy", Loss{LossKind::cross_entropy}, {{7}, {}}, {}, {}};
  one.ids = 7;
  all.push_back(one);
  OpCase steps{"cross_entropy_steps", Loss{LossKind::cross_entropy}, {{4, 5}, {4}}, {}, {}};
  steps.ids = 5;
  steps.lengths = {0, 1, 4, 3, 2};
  steps.accumulate = true;
  all.push_back(steps);
}

void add_ingest(std::vector<OpCase>& all) {
  OpCase image{"ingest_u8", Ingest{0.5, {1, 2, 3}, {1, 2, 4}}, {{2, 3}}, {2, 3}, {}};
  image.raw = DType::u8;
  all.push_back(image);
  OpCase ragged{"ingest_ragged", Ingest{2, {}, {}}, {{4, 3}}, {4, 3}, {}};
  ragged.lengths = {0, 1, 4, 3, 2};
  all.push_back(ragged);
}

}  // namespace

std::vector<OpCase> op_cases() {
  std::vector<OpCase> all;
  add_dense(all);
  add_embedding(all);
  add_recurrent(all);
  add_conv1d(all);
  add_pools(all);
  add_conv2d(all);
  add_conv2d_of_residual_nets(all);
  add_batch_norm(all);
  add_pointwise(all);
  add_losses(all);
  add_ingest(all);
  return all;
}

}  // namespace cohort::test
