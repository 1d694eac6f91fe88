#include "base/error.h"

namespace cohort {

void broken(const char* file, int line, const std::string& what) {
  throw std::logic_error(fmt::format("{}:{}: broken invariant: {}", file, line, what));
}

}  // namespace cohort
