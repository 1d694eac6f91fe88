// The one error type. A message names what, where (file.yaml:line:column, shard:row, rank, host,
// step), what was expected, what was got, and the next action. The kind decides the exit code.
#pragma once
#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace cohort {

// Exit codes of the process: a contract with launchers (see docs/operations.md).
enum class Exit : int {
  done = 0,
  usage = 2,      // command line or config
  data = 3,       // raw data or shard set
  storage = 4,    // file system or checkpoint
  lost = 5,       // a rank or a link
  nonfinite = 6,  // loss or gradients are not finite
  stopped = 75,   // stopped on request with a checkpoint: run me again
};

class Error : public std::runtime_error {
 public:
  Error(Exit exit_code, const std::string& message)
      : std::runtime_error(message), exit_(exit_code) {}
  Exit exit_code() const { return exit_; }

 private:
  Exit exit_;
};

template <class... Args>
[[noreturn]] void fail(Exit code, fmt::format_string<Args...> text, Args&&... args) {
  throw Error(code, fmt::format(text, std::forward<Args>(args)...));
}

// A broken invariant of the program itself (never of its input): std::logic_error with the place.
[[noreturn]] void broken(const char* file, int line, const std::string& what);
#define COHORT_CHECK(condition, what) \
  ((condition) ? void(0) : ::cohort::broken(__FILE__, __LINE__, what))

}  // namespace cohort
