// JSON written straight to a text, for answers: a document of theirs would cost more than the answers.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace cohort {

nlohmann::json number_or_null(double value);             // null where it is not finite
void add_json(std::string& to, double value);            // the same
void add_json(std::string& to, float value);
void add_json(std::string& to, std::string_view text);   // quoted; U+FFFD for what is no UTF-8

// "[1,2]".
template <class Values>
void add_json_list(std::string& to, const Values& values) {
  to += '[';
  bool first = true;
  for (const auto& value : values) {
    if (!first) to += ',';
    first = false;
    add_json(to, value);
  }
  to += ']';
}

}  // namespace cohort
