// Which build this is: "0.1.0 3c1a50c GNU 12.2.0 Release". Part of what ranks agree on at start.
#pragma once

namespace cohort {
const char* build_id();
}  // namespace cohort
