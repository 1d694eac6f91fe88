#include <gmock/gmock.h>

#include <filesystem>

#include "base/env.h"
#include "base/error.h"
#include "comm/cuda_loader.h"
#include "../comm/thread_world.h"

namespace cohort {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// The message of the Error(Exit::usage) that `work` ends with.
template <class F>
std::string usage_error(F&& work) {
  try {
    work();
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::usage);
    return e.what();
  }
  ADD_FAILURE() << "no Error";
  return "";
}

TEST(CudaLoader, AMissingModuleIsAClearError) {
  EXPECT_THAT(usage_error([] { load_cuda_module("nowhere/libcohort_cuda.so"); }),
              AllOf(HasSubstr("nowhere/libcohort_cuda.so"), HasSubstr("built without CUDA"),
                    HasSubstr("device.kind: cpu")));
}

TEST(CudaLoader, AModuleWithAMissingLibraryNamesTheLibrary) {
  EXPECT_THAT(usage_error([] { load_cuda_module(NEEDS_ABSENT); }),
              AllOf(HasSubstr("cannot be loaded: libabsent.so"), HasSubstr("LD_LIBRARY_PATH")));
}

TEST(CudaLoader, AnotherLibraryIsNoModule) {
  EXPECT_THAT(usage_error([] { load_cuda_module(NOT_A_MODULE); }),
              HasSubstr("no module for GPUs of this program"));
}

TEST(CudaLoader, TheModuleThrowsErrorsOfTheProgram) {
  const CudaModule& module = load_cuda_module(ON_HOST_MODULE);
  EXPECT_THAT(module.versions(), AllOf(HasSubstr("CUDA "), HasSubstr("cuDNN "), HasSubstr("NCCL ")));
  ASSERT_FALSE(module.gpus().empty());
  EXPECT_NE(module.gpus()[0].pci, "");
  EXPECT_THAT(usage_error([&] { module.make_device({99, "f32", true}); }), HasSubstr("GPU 99"));
  EXPECT_THAT(usage_error([&] { module.make_device({0, "f31", true}); }), HasSubstr("\"f31\""));
}

// The real one links with the real libraries; a driver is not needed to load it.
TEST(CudaLoader, TheModuleLoadsWithoutADriver) {
  if (!std::filesystem::exists(CUDA_MODULE)) GTEST_SKIP() << "built without CUDA";
  const CudaModule& module = load_cuda_module(CUDA_MODULE);
  EXPECT_THAT(module.versions(), HasSubstr("NCCL 2."));
  if (module.gpus().empty()) {
    EXPECT_THAT(usage_error([&] { module.make_device({}); }), HasSubstr("device.kind: cpu"));
  }
}

// The GPU of each rank, where rank r sees visible(r).
std::vector<int> chosen(int ranks, const std::function<std::vector<Gpu>(int)>& visible,
                        bool share = false) {
  std::vector<int> indices(static_cast<std::size_t>(ranks), -1);
  run_as_threads(ranks, [&](Communicator& c) {
    ThreadWorld world(c);
    indices[static_cast<std::size_t>(c.rank())] = choose_gpu(world, visible(c.rank()), share);
  });
  return indices;
}

std::vector<Gpu> two(int) { return {{"a", "0:1", 1}, {"a", "0:2", 1}}; }

TEST(ChooseGpu, EachRankTakesItsOwn) {
  EXPECT_EQ(chosen(2, two), (std::vector{0, 1}));
  EXPECT_EQ(chosen(1, two), (std::vector{0}));
}

TEST(ChooseGpu, ALauncherMayShowEachRankOnlyItsOwn) {
  const auto own = [](int rank) { return std::vector<Gpu>{{"a", "0:" + std::to_string(rank), 1}}; };
  EXPECT_EQ(chosen(3, own), (std::vector{0, 0, 0}));
}

TEST(ChooseGpu, MoreRanksThanGpusIsAnErrorUnlessTheyShare) {
  const std::string message = usage_error([] { chosen(3, two); });
  EXPECT_THAT(message, HasSubstr("rank 2 on host " + host_name() + " has no GPU of its own"));
  EXPECT_THAT(message, HasSubstr("it sees 2 GPUs, 3 ranks are on this host"));
  EXPECT_THAT(message, HasSubstr("rank 0 has GPU 0:1"));
  EXPECT_EQ(chosen(3, two, true), (std::vector{0, 1, 0}));
}

TEST(ChooseGpu, ARankWithoutAnyGpuIsNamed) {
  const auto first_only = [](int rank) { return rank == 0 ? two(0) : std::vector<Gpu>{}; };
  for (bool share : {false, true}) {
    EXPECT_THAT(usage_error([&] { chosen(2, first_only, share); }),
                HasSubstr("rank 1 on host " + host_name() + " has no GPU"));
  }
}

}  // namespace
}  // namespace cohort
