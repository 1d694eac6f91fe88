// Whole models on the CUDA device: against PyTorch's numbers, over ranks, recorded and eager.
#include <gtest/gtest.h>

#include "average.h"
#include "comm/nccl.h"
#include "cuda_devices.h"
#include "frozen.h"
#include "job.h"
#include "nonfinite.h"
#include "oracle.h"

namespace cohort::testing {
namespace {

std::unique_ptr<Device> eager() { return cuda::make_device({0, "f32", false}); }
std::unique_ptr<Device> recorded() { return cuda::make_device({0, "f32", true}); }

class CudaOracle : public ::testing::TestWithParam<const char*> {};

TEST_P(CudaOracle, AgreesWithPyTorch) {
  for (bool fused : {true, false}) {
    SCOPED_TRACE(fused ? "fused" : "not fused");
    Oracle oracle(GetParam(), fused);
    const auto device = fused ? recorded() : eager();
    check_logits(oracle, *device, 1e-4);
    check_training(oracle, *device, 1e-4);
  }
}

INSTANTIATE_TEST_SUITE_P(PyTorch, CudaOracle, ::testing::ValuesIn(oracle_names),
                         [](const auto& test) { return test_name(test.param); });

class CudaRanks : public ::testing::TestWithParam<std::string> {};

Job job_on_gpus(const Family& family, int world, bool graph) {
  Job job;
  job.family = family;
  job.world = world;
  job.steps = 4;
  job.device = [world, graph](int rank) {
    return cuda::make_device({test::device_of_rank(rank, world), "f32", graph});
  };
  job.reducer = [](Device& device, Communicator& ranks) {
    ReducerOptions options;
    options.share = true;
    return make_nccl_reducer(device, ranks, options);
  };
  return job;
}

// Each step begun from the state that the CPU's one rank had.
TEST_P(CudaRanks, FollowsTheCpu) {
  for (bool norm : {true, false}) {
    const Family family = norm ? with_batch_norm(GetParam()) : without_batch_norm(GetParam());
    Job cpu{family, 1, 1, [](int) { return make_cpu_device({}); }, {}, 4};
    const Trail trail = one_rank_trail(cpu);
    for (int world : {1, 2, 4}) {
      SCOPED_TRACE(std::to_string(world) + (norm ? " ranks, batch norm" : " ranks"));
      EXPECT_EQ(follow(job_on_gpus(family, world, true), trail, {1e-5, 1e-4}), "");
    }
  }
}

// A recorded step gives the bits of an eager one, in whatever order its parts run.
TEST_P(CudaRanks, RecordedIsEager) {
  Record first;
  test::for_each_order([&](const std::string& order) {
    for (bool graph : {true, false}) {
      SCOPED_TRACE(order + (graph ? ", recorded" : ", eager"));
      const Record record = train(job_on_gpus(with_batch_norm(GetParam()), 2, graph));
      if (first.losses.empty()) first = record;
      EXPECT_EQ(record.losses, first.losses);
      EXPECT_EQ(record.gradients, first.gradients);
      EXPECT_EQ(record.end, first.end);
    }
  });
}

TEST_P(CudaRanks, MicroBatchesAgreeWithOne) {
  Job job = job_on_gpus(without_batch_norm(GetParam()), 1, true);
  const Record one = train(job);
  job.micro_batches = 4;   // more than slots
  const Record four = train(job);
  EXPECT_EQ(four.weights, one.weights);
  EXPECT_EQ(difference(four.losses, one.losses, 1e-4, 1), "");
}

TEST_P(CudaRanks, FrozenParametersStay) {
  for (bool graph : {true, false})
    check_frozen(with_batch_norm(GetParam()), *(graph ? recorded() : eager()));
}

// Products of bf16 and f16 take copies of the weights, and so of their averages.
TEST_P(CudaRanks, AverageOfTheWeights) {
  for (const char* precision : {"f32", "bf16", "f16"}) {
    for (bool graph : {true, false}) {
      SCOPED_TRACE(std::string(precision) + (graph ? ", recorded" : ", eager"));
      const auto device = cuda::make_device({0, precision, graph});
      check_average(with_batch_norm(GetParam()), *device, 1e-6);
    }
  }
}

TEST_P(CudaRanks, TheFirstValueThatIsNotFiniteIsFound) {
  for (bool graph : {true, false})
    check_nonfinite(with_batch_norm(GetParam()), *(graph ? recorded() : eager()));
}

INSTANTIATE_TEST_SUITE_P(Families, CudaRanks, ::testing::ValuesIn(family_names()),
                         [](const auto& test) { return test_name(test.param); });

}  // namespace
}  // namespace cohort::testing
