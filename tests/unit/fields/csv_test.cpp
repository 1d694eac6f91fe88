#include "fields/csv.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "store/files.h"

namespace cohort {
namespace {

TEST(Csv, QuotesNewlinesAndLines) {
  std::vector<CsvRecord> records;
  parse_csv("a,\"x\"\"y\nz\"\r\n\n1,\"open", ',', true,
            [&](const CsvRecord& record) { records.push_back(record); });
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].cells, (std::vector<std::string>{"a", "x\"y\nz"}));
  EXPECT_EQ(records[1].line, 4);
  EXPECT_EQ(records[1].problem, "a quoted cell is not closed");
}

TEST(Csv, Latin1NextLineIsNoLineEnd) {
  i64 lines = 0;
  parse_lines(latin1_to_utf8("a\x85" "b\nc\n"), [&](const CsvRecord& record) {
    if (++lines == 1) {
      EXPECT_EQ(record.cells[0], "a\xc2\x85" "b");
    }
  });
  EXPECT_EQ(lines, 2);
  EXPECT_FALSE(valid_utf8("a\x85"));
}

TEST(Csv, AirlineTweets) {
  const char* data = std::getenv("COHORT_TEST_DATA");
  const std::string path = std::string(data ? data : "") + "/airline-tweets/Tweets.csv";
  if (!real_files().exists(path)) GTEST_SKIP() << path << " is not there";
  std::map<std::string, i64> labels;
  i64 with_newline = 0;
  parse_csv(real_files().read(path), ',', true, [&](const CsvRecord& record) {
    ASSERT_EQ(record.cells.size(), 15u) << "line " << record.line;
    ++labels[record.cells[1]];
    with_newline += record.cells[10].find('\n') != std::string::npos;
  });
  EXPECT_EQ(labels["negative"], 9178);
  EXPECT_EQ(labels["neutral"], 3099);
  EXPECT_EQ(labels["positive"], 2363);
  EXPECT_EQ(with_newline, 138);
}

}  // namespace
}  // namespace cohort
