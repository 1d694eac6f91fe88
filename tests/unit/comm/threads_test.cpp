#include <gtest/gtest.h>

#include <atomic>

#include "../../comm/checks.h"

namespace cohort {
namespace {

TEST(Threads, CollectivesAreExact) {
  for (int n : {1, 2, 3, 4, 5}) {
    run_as_threads(n, [](Communicator& c) {
      check_collectives(c);
      CollectiveQueue queue(c.duplicate());
      double x = 1;
      queue.wait(queue.submit([&](Communicator& q) { q.all_reduce({&x, DType::f64, {1}}, Reduce::sum); }));
      COHORT_CHECK(x == c.size(), "queue");
    });
  }
}

TEST(Threads, FailingRankWakesOthers) {
  try {
    run_as_threads(3, [](Communicator& c) {
      if (c.rank() == 1) fail(Exit::data, "mine");
      c.barrier();
    });
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::data);
  }
}

TEST(OnRank0, AnswerOrErrorReachesEveryRank) {
  std::atomic<int> answered{0}, failed{0};
  run_as_threads(3, [&](Communicator& c) {
    const auto work = [&]() -> std::string {
      COHORT_CHECK(c.rank() == 0, "ran on another rank");
      return "a folder";
    };
    answered += on_rank_0(c, work) == "a folder";
    answered += on_rank_0(c, [] { return ""; }).empty();
    try {
      on_rank_0(c, []() -> std::string { fail(Exit::storage, "no space"); });
    } catch (const Error& e) {
      failed += e.exit_code() == Exit::storage && std::string(e.what()) == "no space";
    }
  });
  EXPECT_EQ(answered, 6);
  EXPECT_EQ(failed, 3);
}

TEST(Agree, QuotesTheLineThatDiffers) {
  try {
    run_as_threads(2, [](Communicator& c) {
      agree(c, {{"config", c.rank() == 0 ? "a: 1\n  seed: 1\nz: 1\n" : "a: 1\n  seed: 2\nz: 2\n"}});
    });
    FAIL() << "no error";
  } catch (const Error& e) {
    const std::string text = e.what();
    EXPECT_NE(text.find("differs in config: it has 'seed: 2', rank 0"), std::string::npos) << text;
    EXPECT_NE(text.find("has 'seed: 1': start"), std::string::npos) << text;
  }
}

TEST(Agree, NamesTheField) {
  try {
    run_as_threads(2, [](Communicator& c) { agree(c, {{"seed", c.rank() == 0 ? "1" : "2"}}); });
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("differs in seed"), std::string::npos);
  }
}

}  // namespace
}  // namespace cohort
