#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "base/text.h"
#include "nccl_checks.h"
#include "runtime.h"

namespace cohort {
namespace {

using testing::HasSubstr;

class NcclOnHost : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { hg::policy().devices = 4; }
};

TEST_P(NcclOnHost, SumsAreExact) {
  run_as_threads(GetParam(), [](Communicator& c) { check_all_sums(c, {}, c.rank()); });
}

TEST_P(NcclOnHost, SumsOfBf16OnTheWireAreExactWhereTheNumbersAre) {
  ReducerOptions options;
  options.bf16 = true;
  run_as_threads(GetParam(), [&](Communicator& c) { check_all_sums(c, options, c.rank()); });
}

INSTANTIATE_TEST_SUITE_P(Ranks, NcclOnHost, testing::Values(1, 2, 4));

// A rank that comes late to a sum is at work, in the eyes of its own clock alone.
TEST(NcclOnHostClock, TimesWorkAndNotTheWaitingForOtherRanks) {
  constexpr double late = 0.3;
  hg::policy().devices = 2;
  std::atomic<bool> begun{false};
  run_as_threads(2, [&](Communicator& c) {
    GpuRank r(c, {}, c.rank());
    WorkClock* clock = r.filled<WorkClock>({{7, 1'000'000'000'000}});
    double* data = r.filled<double>({1, 2});
    while (c.rank() == 1 && !begun) std::this_thread::yield();
    const double before = seconds_now();
    begun = true;
    if (c.rank() == 1) std::this_thread::sleep_for(std::chrono::duration<double>(late));
    r.reducer->work_begins(clock, true);
    r.reducer->submit({data, DType::f64, {2}});
    r.reducer->wait();
    r.reducer->work_ends();
    const WorkClock first = r.fetched(clock, 1)[0];
    const double passed = seconds_now() - before;
    EXPECT_GT(first.nanoseconds, 0U);
    EXPECT_LT(1e-9 * static_cast<double>(first.nanoseconds), passed - late / 2);
    EXPECT_EQ(r.fetched(data, 2)[1], 4);

    r.reducer->work_begins(clock, false);   // another pass of the step
    r.reducer->work_ends();
    EXPECT_GT(r.fetched(clock, 1)[0].nanoseconds, first.nanoseconds);
  });
}

TEST(NcclOnHostErrors, Bf16OnTheWireRoundsAndLeavesOtherTypesAlone) {
  hg::policy().devices = 2;
  ReducerOptions options;
  options.bf16 = true;
  run_as_threads(2, [&](Communicator& c) {
    GpuRank r(c, options, c.rank());
    float* single = r.filled<float>({1.0F + 1.0F / 512});   // 9 bits after the point
    double* twice = r.filled<double>({1.0 + 1.0 / 512});
    r.reducer->submit({single, DType::f32, {1}});
    r.reducer->submit({twice, DType::f64, {1}});
    r.reducer->wait();
    EXPECT_EQ(r.fetched(single, 1)[0], 2.0F);
    EXPECT_EQ(r.fetched(twice, 1)[0], 2.0 + 1.0 / 256);
  });
}

TEST(NcclOnHostErrors, ARankThatFailsIsAnErrorOfTheOthersThatNamesThemAndTheBucket) {
  hg::policy().devices = 2;
  std::string message;
  std::atomic<bool> told{false};
  const auto body = [&](Communicator& c) {
    GpuRank r(c, {}, c.rank());
    check_sum<float>(r, DType::f32, 5);
    if (c.rank() == 1) throw Error(Exit::data, "its data is bad");
    try {
      float* data = r.filled<float>({1, 2, 3});
      r.reducer->submit({data, DType::f32, {3}});
      r.reducer->wait();
      for (;;) r.reducer->poll();
    } catch (const Error& e) {
      message = e.what();
      told = e.exit_code() == Exit::lost;
      throw;
    }
  };
  EXPECT_THROW(run_as_threads(2, body), Error);
  EXPECT_TRUE(told);
  EXPECT_THAT(message, HasSubstr("rank 0 of 2 (host "));
  EXPECT_THAT(message, HasSubstr("the last bucket summed was 1 of 2; next came float32 [3]"));
}

TEST(NcclOnHostErrors, RanksThatDoNotComeAreNotWaitedForForever) {
  hg::policy().devices = 2;
  ReducerOptions options;
  options.seconds = 0.5;
  std::string message;
  const auto body = [&](Communicator& c) {
    const auto device = cuda::make_device({c.rank(), "f32", true});
    if (c.rank() == 1) {
      on_rank_0(c, [] { return std::string(); });   // takes the id, and never joins
      c.barrier();
      return;
    }
    try {
      make_nccl_reducer(*device, c, options);
    } catch (const Error& e) {
      message = e.what();
    }
    c.barrier();
  };
  run_as_threads(2, body);
  EXPECT_THAT(message, HasSubstr("ncclCommInitRankConfig was not done after 0.5 s"));
}

}  // namespace
}  // namespace cohort
