// SHA-256 of files, as `sha256sum` prints it.
#pragma once
#include <string>
#include <string_view>

namespace cohort {

std::string sha256(std::string_view bytes);   // 64 lower-case hex digits

}  // namespace cohort
