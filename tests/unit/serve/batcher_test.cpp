#include "serve/batcher.h"

#include <gmock/gmock.h>

#include <future>

#include "unit/serve/server_fake.h"

namespace cohort {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto long_wait = std::chrono::microseconds(5000000);

std::chrono::steady_clock::time_point within(milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

std::vector<json> rows_of(int first, int count) {
  std::vector<json> rows;
  for (int k = 0; k < count; ++k) rows.push_back({{"n", first + k}});
  return rows;
}

void expect_rows(const Outcome& outcome, int first, int count) {
  ASSERT_EQ(outcome.kind, Outcome::answered);
  ASSERT_EQ(outcome.replies.size(), static_cast<std::size_t>(count));
  for (int k = 0; k < count; ++k)
    EXPECT_EQ(outcome.replies[static_cast<std::size_t>(k)].answer.probabilities.at(0), first + k);
}

template <class Condition>
void wait_for(const Condition& condition) {
  for (int k = 0; k < 20000 && !condition(); ++k) std::this_thread::sleep_for(milliseconds(1));
  ASSERT_TRUE(condition());
}

TEST(Batcher, RowsOfManyRequestsAreAnsweredTogetherAndInOrder) {
  FakeModel fake;
  Batcher batcher(fake.served(), {1, 8, long_wait, 100});
  std::vector<std::future<Outcome>> answers;
  for (int r = 0; r < 8; ++r)
    answers.push_back(std::async(std::launch::async, [&, r] {
      return batcher.score(rows_of(10 * r, 1), 0, within(seconds(60)));
    }));
  for (int r = 0; r < 8; ++r) expect_rows(answers[static_cast<std::size_t>(r)].get(), 10 * r, 1);
  EXPECT_EQ(fake.batches, 1);     // nothing less than a full batch ended the wait
  EXPECT_EQ(fake.largest, 8);
}

TEST(Batcher, NobodyWaitsForRequestsThatCannotCome) {
  FakeModel fake;
  BatchEvents events;
  events.sources = [] { return i64{1}; };
  Batcher batcher(fake.served(), {1, 8, std::chrono::microseconds(3600000000LL), 100}, events);
  expect_rows(batcher.score(rows_of(5, 1), 0, within(seconds(60))), 5, 1);
}

TEST(Batcher, LongRequestsAreCut) {
  FakeModel fake;
  Batcher batcher(fake.served(), {3, 7, std::chrono::microseconds(0), 16});
  expect_rows(batcher.score(rows_of(0, 1000), 0, within(seconds(60))), 0, 1000);
  EXPECT_LE(fake.largest, 7);
  EXPECT_GE(fake.batches, 1000 / 7);
  EXPECT_EQ(batcher.score({}, 0, within(seconds(60))).kind, Outcome::answered);
}

TEST(Batcher, AFullQueueRefusesAndWhatWaitedIsAnswered) {
  FakeModel fake;
  fake.held = true;
  Batcher batcher(fake.served(), {1, 1, std::chrono::microseconds(0), 2});
  std::vector<std::future<Outcome>> answers;
  for (int r = 0; r < 3; ++r) {
    answers.push_back(std::async(std::launch::async, [&, r] {
      return batcher.score(rows_of(r, 1), 0, within(seconds(60)));
    }));
    // One is in the worker's hands, two wait.
    wait_for([&] { return fake.entered == 1 && batcher.waiting() == r; });
  }
  EXPECT_EQ(batcher.score(rows_of(9, 1), 0, within(seconds(60))).kind, Outcome::full);
  fake.held = false;
  for (int r = 0; r < 3; ++r) expect_rows(answers[static_cast<std::size_t>(r)].get(), r, 1);
}

TEST(Batcher, ARequestThatIsLateIsLeftOut) {
  FakeModel fake;
  fake.held = true;
  Batcher batcher(fake.served(), {1, 4, std::chrono::microseconds(0), 100});
  EXPECT_EQ(batcher.score(rows_of(0, 1), 0, within(milliseconds(20))).kind, Outcome::late);
  EXPECT_EQ(batcher.score(rows_of(1, 1), 0, within(milliseconds(20))).kind, Outcome::late);
  fake.held = false;
  expect_rows(batcher.score(rows_of(2, 3), 0, within(seconds(60))), 2, 3);
  EXPECT_EQ(fake.batches, 2);   // the second late one was never answered
}

TEST(Batcher, RowsOfALateRequestAreNotMadeReady) {
  FakeModel fake;
  fake.held = true;
  Batcher batcher(fake.served(), {1, 8, long_wait, 100});
  std::future<Outcome> late = std::async(std::launch::async, [&] {
    return batcher.score(rows_of(0, 5), 0, within(milliseconds(100)));
  });
  std::future<Outcome> beside = std::async(std::launch::async, [&] {
    return batcher.score(rows_of(7, 3), 0, within(seconds(60)));
  });
  EXPECT_EQ(late.get().kind, Outcome::late);
  fake.held = false;
  expect_rows(beside.get(), 7, 3);
  EXPECT_EQ(fake.prepared, 3);
}

TEST(Batcher, ARowThatBreaksTheScorerFailsAlone) {
  FakeModel fake;
  Batcher batcher(fake.served(), {1, 3, long_wait, 100});
  std::vector<std::future<Outcome>> answers;
  for (int r = 0; r < 3; ++r)
    answers.push_back(std::async(std::launch::async, [&, r] {
      std::vector<json> rows = rows_of(r, 1);
      if (r == 1) rows[0]["break"] = true;
      return batcher.score(std::move(rows), 0, within(seconds(60)));
    }));
  expect_rows(answers[0].get(), 0, 1);
  EXPECT_EQ(answers[1].get().kind, Outcome::failed);
  expect_rows(answers[2].get(), 2, 1);
}

TEST(Batcher, WorkersMayBeginOneByOne) {
  FakeModel fake;
  std::atomic<int> at_once{0}, most{0};
  const auto model = fake.served();
  model->make = [&, make = model->make] {
    most = std::max<int>(most, ++at_once);
    std::this_thread::sleep_for(milliseconds(5));
    --at_once;
    return make();
  };
  BatchLimits limits{4, 4, std::chrono::microseconds(0), 100};
  limits.one_by_one = true;
  Batcher batcher(model, limits);
  EXPECT_EQ(fake.made, 4);
  EXPECT_EQ(most, 1);
  expect_rows(batcher.score(rows_of(0, 50), 0, within(seconds(60))), 0, 50);
}

TEST(Batcher, AModelThatCannotBeMadeIsNotTaken) {
  FakeModel fake;
  std::atomic<int> made{0};
  const auto broken = fake.served();
  broken->make = [&, make = broken->make]() -> AnswerRows {
    if (++made == 2) throw std::runtime_error("no memory");
    return make();
  };
  for (const bool one_by_one : {false, true}) {
    made = 0;
    BatchLimits limits{3, 4, std::chrono::microseconds(0), 10};
    limits.one_by_one = one_by_one;
    EXPECT_THROW(Batcher(broken, limits), std::runtime_error);
  }
}

}  // namespace
}  // namespace cohort
