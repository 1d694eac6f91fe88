// Models that are exported: the families of tests/oracle and what those leave out.
#pragma once
#include <string>
#include <vector>

#include "families.h"

namespace cohort::testing {

std::vector<std::string> exported_names();
Family exported(const std::string& name);

}  // namespace cohort::testing
