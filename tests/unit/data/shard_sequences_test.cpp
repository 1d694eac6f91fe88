#include <gtest/gtest.h>

#include "base/error.h"
#include "data/raw_table.h"

namespace cohort {
namespace {

RawTable table_of(const std::vector<std::vector<std::string>>& rows) {
  RawTable table;
  table.columns = {"user", "time", "what"};
  for (const auto& cells : rows) {
    RawRow& row = table.rows.emplace_back();
    row.cells = cells;
    row.split = "train";
    row.place = "a.csv:" + std::to_string(table.rows.size());
  }
  return table;
}

TEST(Sequences, GroupsAreSortedByTimeWithDeltas) {
  RawTable table = table_of({{"b", "9", "x"}, {"a", "5", "p"}, {"a", "1", "q"}, {"a", "5", "r"},
                             {"a", "x", "s"}, {"a", "7", "two words"}});
  group_rows({"user", "time", {"what"}, 2}, table);
  EXPECT_EQ(table.columns, (std::vector<std::string>{"user", "what", "deltas"}));
  ASSERT_EQ(table.rows.size(), 1u);  // b is too short
  EXPECT_EQ(table.rows[0].cells, (std::vector<std::string>{"a", "q p r", "0 4 0"}));
  ASSERT_EQ(table.rejects.size(), 2u);
  EXPECT_EQ(table.rejects[0].place, "a.csv:5");
  EXPECT_EQ(table.rejects[1].place, "a.csv:6");
}

TEST(Sequences, CountsPerPeriodSplitByTime) {
  // Periods of 10: user a has 2 events in period 0, 1 in 2; b has 1 in period 3; the last is 4.
  RawTable table = table_of({{"a", "1", ""}, {"a", "9", ""}, {"a", "25", ""}, {"b", "30", ""},
                             {"b", "49.5", ""}});
  Aggregate config;
  config.user = "user";
  config.time = "time";
  config.period = 10;
  config.history = 2;
  config.validation = 0.2;
  config.test = 0.2;
  aggregate_rows(config, table);
  std::string seen;
  for (const RawRow& row : table.rows) {
    seen += row.cells[0] + row.cells[1] + ": " + row.cells[2] + " -> " + row.cells[3] + " " +
            row.split + "\n";
  }
  EXPECT_EQ(seen,
            "a1: 2 -> 0 train\na2: 2 0 -> 1 train\na3: 0 1 -> 0 validation\n"
            "a4: 1 0 -> 0 test\nb4: 1 -> 1 test\n");
}

TEST(Sequences, TimesThatAreNotSecondsAreErrors) {
  RawTable table = table_of({{"a", "1", ""}, {"a", "99999999999999", ""}});
  Aggregate config;
  config.user = "user";
  config.time = "time";
  config.period = 1;
  EXPECT_THROW(aggregate_rows(config, table), Error);
}

}  // namespace
}  // namespace cohort
