#include "serve/json_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace cohort {
namespace {

using nlohmann::json;

template <class Real>
void add_real(std::string& to, Real value) {
  if (std::isfinite(value)) fmt::format_to(std::back_inserter(to), "{}", value);
  else to += "null";
}

}  // namespace

json number_or_null(double value) { return std::isfinite(value) ? json(value) : json(); }
void add_json(std::string& to, double value) { add_real(to, value); }
void add_json(std::string& to, float value) { add_real(to, value); }

void add_json(std::string& to, std::string_view text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
  });
  if (plain) {
    to += '"';
    to += text;
    to += '"';
    return;
  }
  to += json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace cohort
