// Bytes as text (RFC 4648, section 4).
#pragma once
#include <string>
#include <string_view>

namespace cohort {

std::string to_base64(std::string_view bytes);
// Line ends are skipped; a missing or wrong '=' at the end and other characters are Exit::data.
std::string from_base64(std::string_view text);

}  // namespace cohort
