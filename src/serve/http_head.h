// The head of an HTTP request, looked at before anything else reads it.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace cohort {

struct HeadLimits {
  i64 body_bytes = 16 << 20;
  i64 head_bytes = 32 << 10, target_bytes = 2048, headers = 100;
};

struct Head {
  int status = 0;              // 0: to be served; else what to answer, and to close the connection
  std::string reason;          // of that, for people
  std::string text;            // the head to be served, without lines that are not honoured (Range)
  std::string method;
  i64 body_bytes = 0;          // Content-Length
  bool chunked = false;        // the body comes in chunks instead
  bool close = false;          // the client wants the connection closed behind the answer
};

// Where the head ends ("\r\n\r\n" included), 0: not there yet.
std::size_t end_of_head(std::string_view bytes);
// `text`: up to and with the empty line. Refused is whatever two readers could understand
// differently: bare line ends, folded lines, two lengths, a body behind GET.
Head read_head(std::string_view text, const HeadLimits& limits);

}  // namespace cohort
