// The only place that reads the environment: COHORT_* and the launcher's rank variables.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace cohort {

// The value of an environment variable, or nothing. Names outside COHORT_*, OMPI_*, PMI*_*,
// SLURM_*, PMIX_*, MV2_*, NO_COLOR, TERM, HOME and TMPDIR are a programming error.
std::optional<std::string> env(const std::string& name);

std::string host_name();
bool stderr_is_terminal();
// Width of that terminal, 80 where it does not say.
int terminal_columns();
// Cores that this process may run on (its affinity mask), at least 1.
int usable_cores();
// Their numbers, ascending.
std::vector<int> usable_core_numbers();
// Cores of this host that are switched on, at least 1.
int online_cores();

}  // namespace cohort
