#include "data/sequences.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace cohort {
namespace {

const RawSchema schema{{"user", "time", "what"}, {}};

struct Result {
  std::vector<RawRow> rows;
  std::vector<std::string> rejects;  // places
};

// Memory for a few rows only: most are spilled.
template <class Step, class Config>
Result run(const Config& config, const std::vector<std::vector<std::string>>& rows) {
  Result result;
  Step step(config, schema, std::make_unique<SpillSort>(testing::TempDir() + "sequences", 200));
  i64 line = 0;
  for (const auto& cells : rows) {
    step.add({cells, "train", "a.csv:" + std::to_string(++line), "", 0},
             [&](const std::string& place, const std::string&) { result.rejects.push_back(place); });
  }
  step.each([&](RawRow&& row) { result.rows.push_back(std::move(row)); });
  return result;
}

TEST(Sequences, GroupsAreSortedByTimeWithDeltas) {
  const Group group{"user", "time", {"what"}, 2};
  const Result got = run<GroupRows>(group, {{"b", "9", "x"}, {"a", "5", "p"}, {"a", "-1", "q"},
                                            {"a", "5", "r"}, {"a", "x", "s"},
                                            {"a", "7", "two words"}, {"ab", "1", "t"},
                                            {"ab", "1.5", "u"}});
  ASSERT_EQ(got.rows.size(), 2u);  // b is too short
  EXPECT_EQ(got.rows[0].cells, (std::vector<std::string>{"a", "q p r", "0 6 0"}));
  EXPECT_EQ(got.rows[0].place, "a.csv:3");
  EXPECT_EQ(got.rows[1].cells, (std::vector<std::string>{"ab", "t u", "0 0.5"}));
  EXPECT_EQ(got.rejects, (std::vector<std::string>{"a.csv:5", "a.csv:6"}));
}

TEST(Sequences, CountsPerPeriodSplitByTime) {
  // Periods of 10: user a has 2 events in period 0, 1 in 2; b has 1 in period 3; the last is 4.
  Aggregate config;
  config.user = "user";
  config.time = "time";
  config.period = 10;
  config.history = 2;
  config.validation = 0.2;
  config.test = 0.2;
  std::string seen;
  for (const RawRow& row : run<AggregateRows>(config, {{"a", "1", ""}, {"b", "30", ""},
                                                       {"a", "25", ""}, {"a", "9", ""},
                                                       {"b", "49.5", ""}}).rows) {
    seen += row.cells[0] + row.cells[1] + ": " + row.cells[2] + " -> " + row.cells[3] + " " +
            row.split + "\n";
  }
  EXPECT_EQ(seen,
            "a1: 2 -> 0 train\na2: 2 0 -> 1 train\na3: 0 1 -> 0 validation\n"
            "a4: 1 0 -> 0 test\nb4: 1 -> 1 test\n");
}

TEST(Sequences, TimesThatAreNotSecondsAreErrors) {
  Aggregate config;
  config.user = "user";
  config.time = "time";
  config.period = 1;
  EXPECT_THROW(run<AggregateRows>(config, {{"a", "1", ""}, {"a", "99999999999999", ""}}), Error);
}

}  // namespace
}  // namespace cohort
