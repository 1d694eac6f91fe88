#include "base/env.h"

#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/error.h"

namespace cohort {

std::optional<std::string> env(const std::string& name) {
  bool known = name == "NO_COLOR" || name == "TERM" || name == "HOME" || name == "TMPDIR";
  for (std::string_view prefix : {"COHORT_", "OMPI_", "PMI", "SLURM_", "MV2_", "MPI_"})
    known = known || name.rfind(prefix, 0) == 0;
  COHORT_CHECK(known, "environment variable outside the contract: " + name);
  const char* value = std::getenv(name.c_str());
  return value ? std::optional<std::string>(value) : std::nullopt;
}

std::string host_name() {
  std::array<char, 256> buffer{};
  if (gethostname(buffer.data(), buffer.size() - 1) != 0)
    fail(Exit::storage, "gethostname: {}", std::strerror(errno));
  return buffer.data();
}

bool stderr_is_terminal() { return isatty(STDERR_FILENO) == 1; }

int terminal_columns() {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

std::vector<int> usable_core_numbers() {
  std::vector<int> numbers;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return {0};
  for (int k = 0; k < CPU_SETSIZE; ++k) {
    if (CPU_ISSET(static_cast<std::size_t>(k), &set)) numbers.push_back(k);
  }
  return numbers;
}

int usable_cores() { return std::max(1, static_cast<int>(usable_core_numbers().size())); }

int online_cores() { return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN))); }

}  // namespace cohort
