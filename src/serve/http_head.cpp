#include "serve/http_head.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>

namespace cohort {
namespace {

constexpr std::string_view token_signs = "!#$%&'*+-.^_`|~";

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           token_signs.find(c) != std::string_view::npos;
  });
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t from = text.find_first_not_of(" \t");
  if (from == std::string_view::npos) return {};
  return text.substr(from, text.find_last_not_of(" \t") - from + 1);
}

struct Refused {
  int status;
  std::string reason;
};

class Reader {
 public:
  Reader(const HeadLimits& limits, Head& head) : limits_(limits), head_(head) {}

  void read(std::string_view text) {
    check_bytes(text);
    std::size_t end = text.find("\r\n");
    request_line(text.substr(0, end));
    head_.text.assign(text.substr(0, end + 2));
    text.remove_prefix(end + 2);
    i64 lines = 0;
    for (; (end = text.find("\r\n")) != 0; text.remove_prefix(end + 2)) {
      if (++lines > limits_.headers)
        throw Refused{431, fmt::format("more than {} header lines", limits_.headers)};
      if (header(text.substr(0, end))) head_.text.append(text.substr(0, end + 2));
    }
    head_.text += "\r\n";
    finish();
  }

 private:
  static void check_bytes(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      const unsigned char c = static_cast<unsigned char>(text[i]);
      const bool lone = (c == '\r' && (i + 1 >= text.size() || text[i + 1] != '\n')) ||
                        (c == '\n' && (i == 0 || text[i - 1] != '\r'));
      const bool control = (c < 0x20 && c != '\r' && c != '\n' && c != '\t') || c == 0x7f;
      if (lone || control) throw Refused{400, "the head holds a control character or a bare line end"};
    }
  }

  void request_line(std::string_view line) {
    const std::size_t first = line.find(' '), last = line.rfind(' ');
    if (first == std::string_view::npos || first == last || !is_token(line.substr(0, first)))
      throw Refused{400, "expected METHOD TARGET HTTP/1.1 as the first line"};
    head_.method = line.substr(0, first);
    const std::string_view target = line.substr(first + 1, last - first - 1),
                           version = line.substr(last + 1);
    if (version != "HTTP/1.1" && version != "HTTP/1.0") {
      if (version.substr(0, 5) == "HTTP/") throw Refused{505, "expected HTTP/1.1"};
      throw Refused{400, "expected METHOD TARGET HTTP/1.1 as the first line"};
    }
    head_.close = version == "HTTP/1.0";
    if (static_cast<i64>(target.size()) > limits_.target_bytes)
      throw Refused{414, fmt::format("a target of more than {} bytes", limits_.target_bytes)};
    if (target.substr(0, 1) != "/" || target.find_first_of(" \t") != std::string_view::npos)
      throw Refused{400, "expected a target that begins with / and holds no space"};
    if (head_.method != "GET" && head_.method != "HEAD" && head_.method != "POST")
      throw Refused{405, "expected GET, HEAD or POST"};
  }

  // Whether the line is to be served.
  bool header(std::string_view line) {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon)))
      throw Refused{400, "a header line is not NAME: VALUE"};
    const std::string name = lower(line.substr(0, colon));
    const std::string_view value = trimmed(line.substr(colon + 1));
    if (name == "content-length") length(value);
    if (name == "transfer-encoding") {
      if (head_.chunked || lower(value) != "chunked")
        throw Refused{501, "expected Transfer-Encoding: chunked, once, or none"};
      head_.chunked = true;
    }
    if (name == "connection" && lower(value).find("close") != std::string::npos) head_.close = true;
    return name != "range" && name != "if-range" && name != "keep-alive";
  }

  void length(std::string_view value) {
    const bool digits = !value.empty() && value.size() <= 18 &&
                        value.find_first_not_of("0123456789") == std::string_view::npos;
    if (!digits || has_length_) throw Refused{400, "expected one Content-Length, a whole number"};
    has_length_ = true;
    for (const char c : value) head_.body_bytes = head_.body_bytes * 10 + (c - '0');
  }

  void finish() const {
    if (has_length_ && head_.chunked)
      throw Refused{400, "both Content-Length and Transfer-Encoding are there"};
    if (head_.method == "POST") {
      if (!has_length_ && !head_.chunked) throw Refused{411, "POST without a Content-Length"};
      if (head_.body_bytes > limits_.body_bytes)
        throw Refused{413, fmt::format("a body of {} bytes; at most {} are taken", head_.body_bytes,
                                       limits_.body_bytes)};
    } else if (head_.body_bytes > 0 || head_.chunked) {
      throw Refused{400, "a body behind " + head_.method};
    }
  }

  const HeadLimits& limits_;
  Head& head_;
  bool has_length_ = false;
};

}  // namespace

std::size_t end_of_head(std::string_view bytes) {
  const std::size_t at = bytes.find("\r\n\r\n");
  return at == std::string_view::npos ? 0 : at + 4;
}

Head read_head(std::string_view text, const HeadLimits& limits) {
  Head head;
  try {
    if (static_cast<i64>(text.size()) > limits.head_bytes)
      throw Refused{431, fmt::format("a head of more than {} bytes", limits.head_bytes)};
    if (end_of_head(text) != text.size() || text.empty())
      throw Refused{400, "the head does not end with an empty line"};
    Reader(limits, head).read(text);
  } catch (const Refused& refused) {
    head.status = refused.status;
    head.reason = refused.reason;
  }
  return head;
}

}  // namespace cohort
