// The queue and the watchdog on ranks as threads: what ThreadSanitizer gets to see of them.
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/error.h"
#include "comm/communicator.h"
#include "comm/watchdog.h"

namespace cohort {
namespace {

TEST(CollectiveQueue, SumsWhileTheRankGoesOn) {
  constexpr i64 n = 400, jobs = 60;
  for (int world : {2, 4}) {
    run_as_threads(world, [&](Communicator& c) {
      CollectiveQueue queue(c.duplicate());
      std::vector<std::vector<double>> data(jobs);
      std::vector<i64> tickets;
      for (i64 k = 0; k < jobs; ++k) {
        std::vector<double>& mine = data[static_cast<std::size_t>(k)];
        mine.assign(n, static_cast<double>(k + c.rank()));
        const View view{mine.data(), DType::f64, {n}};
        tickets.push_back(queue.submit([view](Communicator& q) { q.all_reduce(view, Reduce::sum); }));
        if (k % 7 == 0) c.barrier();  // another channel, at the same time
      }
      for (i64 k = jobs - 1; k >= 0; --k) {
        queue.wait(tickets[static_cast<std::size_t>(k)]);
        const double N = world, want = N * static_cast<double>(k) + N * (N - 1) / 2;
        COHORT_CHECK(data[static_cast<std::size_t>(k)] == std::vector<double>(n, want), "sum");
      }
    });
  }
}

TEST(CollectiveQueue, AnErrorReachesTheTicketAndThoseAfterIt) {
  CollectiveQueue queue(make_solo());
  std::vector<int> ran;
  const i64 good = queue.submit([&](Communicator&) { ran.push_back(1); });
  const i64 bad = queue.submit([](Communicator&) { fail(Exit::lost, "gone"); });
  const i64 later = queue.submit([&](Communicator&) { ran.push_back(3); });
  EXPECT_THROW(queue.wait(later), Error);
  EXPECT_THROW(queue.wait(bad), Error);
  EXPECT_NO_THROW(queue.wait(good));
  EXPECT_EQ(ran, std::vector<int>{1});
}

TEST(CollectiveQueue, WhatWasSubmittedRunsBeforeTheEnd) {
  int ran = 0;
  {
    CollectiveQueue queue(make_solo());
    for (int i = 0; i < 50; ++i) queue.submit([&](Communicator&) { ++ran; });
  }
  EXPECT_EQ(ran, 50);
}

TEST(Watchdog, RanksMayLeaveInAnyOrder) {
  for (int round = 0; round < 3; ++round) {
    for (int last = 0; last < 4; ++last) {
      run_as_threads(4, [&](Communicator& c) {
        Status status;
        Watchdog watchdog(c, status);
        // All but one leave at once; nobody takes that for a loss, which would end this process.
        if (c.rank() == last) {
          for (int i = 0; i < 200; ++i) std::this_thread::yield();
        }
      });
    }
  }
}

}  // namespace
}  // namespace cohort
