#include "fields/csv.h"

#include <unicode/utf8.h>

#include <algorithm>
#include <limits>

namespace cohort {

CsvParser::CsvParser(std::optional<char> delimiter, bool quotes, Use use)
    : delimiter_(delimiter), quotes_(quotes), use_(std::move(use)) {
  record_.line = line_;
}

void CsvParser::feed(std::string_view text) {
  while (!text.empty()) {
    if (state_ == State::start) {
      const bool quoted = quotes_ && text[0] == '"';
      if (quoted) text.remove_prefix(1);
      state_ = quoted ? State::quoted : State::plain;
    } else if (state_ == State::quoted) {
      const std::size_t end = std::min(text.find('"'), text.size());
      line_ += std::count(text.begin(), text.begin() + static_cast<i64>(end), '\n');
      append(text.substr(0, end));
      if (end < text.size()) state_ = State::quote;
      text.remove_prefix(std::min(end + 1, text.size()));
    } else if (state_ == State::quote) {  // a second one stands for itself, else the cell is whole
      if (text[0] == '"') {
        append("\"");
        text.remove_prefix(1);
        state_ = State::quoted;
      } else {
        state_ = State::plain;
      }
    } else {
      const auto ends = [this](char c) { return c == '\n' || c == delimiter_; };
      const auto end = std::find_if(text.begin(), text.end(), ends);
      const std::size_t size = static_cast<std::size_t>(end - text.begin());
      append(text.substr(0, size));
      text.remove_prefix(size);
      if (text.empty()) return;
      text[0] == '\n' ? end_record() : end_cell();
      text.remove_prefix(1);
    }
  }
}

void CsvParser::finish() {
  if (state_ == State::quoted) record_.problem = "a quoted cell is not closed";
  if (state_ != State::start || !record_.cells.empty()) end_record();
}

void CsvParser::append(std::string_view text) {
  size_ += text.size();
  if (size_ <= most_bytes) cell_ += text;
}

void CsvParser::end_cell() {
  size_ += sizeof(std::string);
  if (size_ <= most_bytes) record_.cells.push_back(std::move(cell_));
  cell_.clear();
  state_ = State::start;
}

void CsvParser::end_record() {
  if (!cell_.empty() && cell_.back() == '\r') cell_.pop_back();
  end_cell();
  if (size_ > most_bytes) {
    record_.problem = "a record of over 64 MiB (is a quote not closed, or the file not text?)";
  }
  const bool empty = record_.cells.size() == 1 && record_.cells[0].empty();
  if (!empty || !record_.problem.empty()) use_(std::move(record_));
  record_ = {++line_, {}, ""};
  size_ = 0;
}

std::string latin1_to_utf8(std::string_view text) {
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
