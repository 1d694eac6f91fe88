// Index of a standard container.
#pragma once
#include <cstddef>

#include "base/types.h"

namespace cohort {

inline std::size_t at(i64 index) { return static_cast<std::size_t>(index); }

}  // namespace cohort
