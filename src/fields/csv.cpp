#include "fields/csv.h"

#include <unicode/utf8.h>

#include <limits>

namespace cohort {
namespace {

class CsvParser {
 public:
  CsvParser(const std::string& text, char delimiter, bool quotes)
      : text_(text), delimiter_(delimiter), quotes_(quotes) {}

  void run(const std::function<void(const CsvRecord&)>& use) {
    while (at_ < text_.size()) {
      CsvRecord record;
      record.line = line_;
      while (cell(record)) {
      }
      if (record.cells.size() == 1 && record.cells[0].empty()) continue;
      use(record);
    }
  }

 private:
  // Reads one cell; true where another one follows on this record.
  bool cell(CsvRecord& record) {
    std::string value;
    if (quotes_ && at_ < text_.size() && text_[at_] == '"') quoted(record, value);
    while (at_ < text_.size() && text_[at_] != delimiter_ && text_[at_] != '\n') {
      value += text_[at_++];
    }
    const bool more = at_ < text_.size() && text_[at_] == delimiter_;
    if (!more) {
      if (!value.empty() && value.back() == '\r') value.pop_back();
      ++line_;
    }
    ++at_;
    record.cells.push_back(std::move(value));
    return more;
  }
  void quoted(CsvRecord& record, std::string& value) {
    ++at_;
    for (; at_ < text_.size(); ++at_) {
      if (text_[at_] == '\n') ++line_;
      if (text_[at_] != '"') {
        value += text_[at_];
      } else if (at_ + 1 < text_.size() && text_[at_ + 1] == '"') {
        value += '"';
        ++at_;
      } else {
        ++at_;
        return;
      }
    }
    record.problem = "a quoted cell is not closed";
  }

  const std::string& text_;
  char delimiter_;
  bool quotes_;
  std::size_t at_ = 0;
  i64 line_ = 1;
};

}  // namespace

void parse_csv(const std::string& text, char delimiter, bool quotes,
               const std::function<void(const CsvRecord&)>& use) {
  CsvParser(text, delimiter, quotes).run(use);
}

void parse_lines(const std::string& text, const std::function<void(const CsvRecord&)>& use) {
  i64 line = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string value = text.substr(at, end - at);
    if (!value.empty() && value.back() == '\r') value.pop_back();
    ++line;
    at = end + 1;
    if (!value.empty()) use({line, {std::move(value)}, ""});
  }
}

std::string latin1_to_utf8(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const unsigned value = static_cast<unsigned char>(c);
    if (value < 0x80) {
      result += c;
    } else {
      result += static_cast<char>(0xc0 | (value >> 6));
      result += static_cast<char>(0x80 | (value & 0x3f));
    }
  }
  return result;
}

bool valid_utf8(const std::string& text) {
  if (text.size() > static_cast<std::size_t>(std::numeric_limits<i32>::max())) return false;
  const i32 size = static_cast<i32>(text.size());
  for (i32 at = 0; at < size;) {
    UChar32 c = 0;
    U8_NEXT(text.data(), at, size, c);
    if (c < 0) return false;
  }
  return true;
}

}  // namespace cohort
