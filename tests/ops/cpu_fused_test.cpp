// Shapes at which the CPU device takes its fused convolutions: several blocks of filters, every
// channel count, odd images, more rows than one chunk, rows shorter than the window.
#include <gtest/gtest.h>

#include "op_case.h"

namespace cohort::test {
namespace {

std::vector<OpCase> fused_cases() {
  std::vector<OpCase> all;
  for (i64 channels = 1; channels <= 5; ++channels) {  // 5: no longer fused
    const i64 filters = 15 + channels;
    OpCase c{"conv_pool_" + std::to_string(channels),
             Conv2d{filters, 3, 1, 0, channels == 2 ? Activation::tanh : Activation::relu, 2},
             {{9, 8, channels}},
             {3, 3, filters},
             {{filters, 3, 3, channels}, {filters}}};
    c.rows = 7, c.valid = 6;
    c.accumulate = channels == 3;
    all.push_back(c);
  }
  OpCase text{"text_chunks", Conv1d{19, 4, Activation::relu, true}, {{20, 6}}, {19},
              {{19, 4, 6}, {19}}};
  text.rows = 90, text.valid = 83;
  all.push_back(text);
  text.name = "text_chunks_ragged";
  for (i64 r = 0; r < text.rows; ++r) text.lengths.push_back(r * 7 % 21);
  text.accumulate = true;
  all.push_back(text);
  text.name = "text_chunks_shrunk";
  text.shrink = 2;
  all.push_back(text);
  OpCase table{"table_many_rows", Embedding{23, 17, false}, {{12}}, {12, 17}, {{23, 17}}};
  table.ids = 23;
  table.rows = 90, table.valid = 83;
  all.push_back(table);
  table.name = "table_many_rows_sparse";
  table.op = Embedding{23, 17, true};
  all.push_back(table);
  return all;
}

class CpuFused : public testing::TestWithParam<OpCase> {};

TEST_P(CpuFused, AgreesWithTheReference) {
  for (const std::string isa : {"baseline", "auto"}) {
    for (const int threads : {1, 2, 5}) {
      for (const bool frozen : {false, true}) {
        const auto device = make_cpu_device({threads, isa, frozen});
        EXPECT_EQ(compare(*device, GetParam(), 2e-5), "")
            << isa << ", threads " << threads << ", frozen " << frozen;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, CpuFused, testing::ValuesIn(fused_cases()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace cohort::test
