// Delimited text (RFC 4180: quoted cells, doubled quotes, newlines inside quotes) and plain lines.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "base/types.h"

namespace cohort {

struct CsvRecord {
  i64 line = 0;  // where it starts, from 1
  std::vector<std::string> cells;
  std::string problem;  // not empty: why it cannot be used
};
// Calls `use` for every record; empty lines are skipped.
void parse_csv(const std::string& text, char delimiter, bool quotes,
               const std::function<void(const CsvRecord&)>& use);
// One record of one cell per line; nothing but \n (or \r\n) ends a line.
void parse_lines(const std::string& text, const std::function<void(const CsvRecord&)>& use);
// Latin-1 to UTF-8.
std::string latin1_to_utf8(const std::string& text);
bool valid_utf8(const std::string& text);

}  // namespace cohort
