// Delimited text (RFC 4180: quoted cells, doubled quotes, newlines inside quotes) and plain lines.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace cohort {

struct CsvRecord {
  i64 line = 0;  // where it starts, from 1
  std::vector<std::string> cells;
  std::string problem;  // not empty: why it cannot be used
};
// Takes text a piece at a time and gives records; empty lines are skipped.
class CsvParser {
 public:
  using Use = std::function<void(CsvRecord&&)>;
  // Without a delimiter a record is a line. A line ends with \n or \r\n.
  CsvParser(std::optional<char> delimiter, bool quotes, Use use);
  void feed(std::string_view text);
  void finish();  // after the last piece

  // Larger records keep only a part and get a problem, so that memory stays bounded.
  static constexpr std::size_t most_bytes = std::size_t{1} << 26;

 private:
  void append(std::string_view text);
  void end_cell();
  void end_record();

  enum class State { start, plain, quoted, quote };  // of a cell; quote: behind one inside quotes
  std::optional<char> delimiter_;
  bool quotes_;
  Use use_;
  State state_ = State::start;
  CsvRecord record_;
  std::string cell_;
  std::size_t size_ = 0;  // of the record, its cells' overhead included
  i64 line_ = 1;
};
// Latin-1 to UTF-8.
std::string latin1_to_utf8(std::string_view text);
bool valid_utf8(const std::string& text);

}  // namespace cohort
