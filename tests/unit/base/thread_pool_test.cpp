#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace cohort {
namespace {

TEST(ThreadPool, EveryShardRunsOncePerJob) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    std::vector<int> counts(static_cast<std::size_t>(threads), 0);  // unguarded: run() must order
    for (int round = 0; round < 2000; ++round)
      pool.run([&](int shard) { ++counts[static_cast<std::size_t>(shard)]; });
    EXPECT_EQ(counts, std::vector<int>(static_cast<std::size_t>(threads), 2000));
  }
}

TEST(ThreadPool, ShardsStayOnTheirThreadAndTheCallerIsTheFirst) {
  ThreadPool pool(3);
  std::vector<std::thread::id> first(3), second(3);
  pool.run([&](int s) { first[static_cast<std::size_t>(s)] = std::this_thread::get_id(); });
  pool.run([&](int s) { second[static_cast<std::size_t>(s)] = std::this_thread::get_id(); });
  EXPECT_EQ(first, second);
  EXPECT_EQ(first[0], std::this_thread::get_id());
}

TEST(ThreadPool, TheLowestShardsErrorIsThrownAndThePoolGoesOn) {
  ThreadPool pool(4);
  for (int round = 0; round < 20; ++round) {
    try {
      pool.run([](int shard) {
        if (shard != 0) throw std::runtime_error(std::to_string(shard));
      });
      FAIL() << "nothing thrown";
    } catch (const std::runtime_error& e) {
      EXPECT_STREQ(e.what(), "1");
    }
    std::atomic<int> ran = 0;
    pool.run([&](int) { ++ran; });
    EXPECT_EQ(ran, 4);
  }
}

TEST(ThreadPool, OnStartRunsInEveryThread) {
  std::vector<std::thread::id> started(3), ran(3);
  ThreadPool pool(
      3, [&](int s) { started[static_cast<std::size_t>(s)] = std::this_thread::get_id(); });
  pool.run([&](int s) { ran[static_cast<std::size_t>(s)] = std::this_thread::get_id(); });
  EXPECT_EQ(started, ran);
}

TEST(ThreadPool, AnErrorOnStartEndsTheConstructor) {
  EXPECT_THROW(ThreadPool(3,
                          [](int s) {
                            if (s == 2) throw std::runtime_error("no");
                          }),
               std::runtime_error);
  EXPECT_THROW(ThreadPool(0), std::logic_error);
}

}  // namespace
}  // namespace cohort
