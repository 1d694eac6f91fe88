#include "fields/csv.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "store/files.h"

namespace cohort {
namespace {

std::vector<CsvRecord> parse(const std::string& text, std::optional<char> delimiter,
                             bool quotes = true, std::size_t piece = 1 << 20) {
  std::vector<CsvRecord> records;
  CsvParser parser(delimiter, quotes, [&](CsvRecord&& r) { records.push_back(std::move(r)); });
  for (std::size_t at = 0; at < text.size(); at += piece) parser.feed(text.substr(at, piece));
  parser.finish();
  return records;
}

TEST(Csv, QuotesNewlinesAndLines) {
  const auto records = parse("a,\"x\"\"y\nz\"\r\n\n1,\"open", ',');
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].cells, (std::vector<std::string>{"a", "x\"y\nz"}));
  EXPECT_EQ(records[1].line, 4);
  EXPECT_EQ(records[1].problem, "a quoted cell is not closed");
}

TEST(Csv, Latin1NextLineIsNoLineEnd) {
  const auto lines = parse(latin1_to_utf8("a\x85" "b\nc\n"), std::nullopt, false);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].cells[0], "a\xc2\x85" "b");
  EXPECT_FALSE(valid_utf8("a\x85"));
}

// Where a piece ends changes nothing.
TEST(Csv, PiecesOfAnySize) {
  const std::string text = "a,b\r\n\"q\"\"\r\nz\",\n,\"\"\n\n\"x\"y,2\r\nlast,";
  const auto whole = parse(text, ',');
  ASSERT_EQ(whole.size(), 5u);
  EXPECT_EQ(whole[1].cells, (std::vector<std::string>{"q\"\r\nz", ""}));
  EXPECT_EQ(whole[3].line, 6);
  EXPECT_EQ(whole[4].cells, (std::vector<std::string>{"last", ""}));
  for (std::size_t piece = 1; piece < text.size(); ++piece) {
    const auto pieces = parse(text, ',', true, piece);
    ASSERT_EQ(pieces.size(), whole.size()) << piece;
    for (std::size_t i = 0; i < whole.size(); ++i) {
      EXPECT_EQ(pieces[i].cells, whole[i].cells) << piece;
      EXPECT_EQ(pieces[i].line, whole[i].line) << piece;
    }
  }
}

TEST(Csv, RecordsWithoutEndAreBounded) {
  for (const char* text : {"x", ",", "\n"}) {
    std::vector<CsvRecord> records;
    CsvParser parser(',', true, [&](CsvRecord&& r) { records.push_back(std::move(r)); });
    parser.feed("a,b\n\"");
    std::string piece;
    while (piece.size() < (1 << 20)) piece += text;
    if (*text == ',') parser.feed("\"");
    for (std::size_t n = 0; n <= CsvParser::most_bytes; n += piece.size()) parser.feed(piece);
    parser.finish();
    ASSERT_EQ(records.size(), 2u);
    EXPECT_NE(records[1].problem.find("64 MiB"), std::string::npos) << records[1].problem;
    EXPECT_LE(records[1].cells.size(), CsvParser::most_bytes / sizeof(std::string));
  }
}

TEST(Csv, AirlineTweets) {
  const char* data = std::getenv("COHORT_TEST_DATA");
  const std::string path = std::string(data ? data : "") + "/airline-tweets/Tweets.csv";
  if (!real_files().exists(path)) GTEST_SKIP() << path << " is not there";
  std::map<std::string, i64> labels;
  i64 with_newline = 0;
  for (const CsvRecord& record : parse(real_files().read(path), ',')) {
    ASSERT_EQ(record.cells.size(), 15u) << "line " << record.line;
    ++labels[record.cells[1]];
    with_newline += record.cells[10].find('\n') != std::string::npos;
  }
  EXPECT_EQ(labels["negative"], 9178);
  EXPECT_EQ(labels["neutral"], 3099);
  EXPECT_EQ(labels["positive"], 2363);
  EXPECT_EQ(with_newline, 138);
}

}  // namespace
}  // namespace cohort
