// Aligned columns of text for reports.
#pragma once
#include <string>
#include <vector>

namespace cohort {

// The first row is the head. Columns that hold numbers only are right-aligned.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace cohort
