#include "base/env.h"

#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

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

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int cores = CPU_COUNT(&set);
  return cores > 0 ? cores : 1;
}

}  // namespace cohort
