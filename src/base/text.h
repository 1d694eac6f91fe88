// Small pure text functions.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace cohort {

// Whole-string number parsing: nothing where the text is not exactly one number.
std::optional<i64> parse_i64(std::string_view text);
std::optional<double> parse_double(std::string_view text);  // finite or not; "nan" and "inf" parse

std::vector<std::string> split(std::string_view text, char separator);
std::string_view trim(std::string_view text);  // ASCII white space
std::string join(const std::vector<std::string>& parts, std::string_view separator);

// The candidate with the least Damerau-Levenshtein distance, where that is at most
// max(1, length/3): for "did you mean". Empty where none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

std::string human_bytes(i64 bytes);      // "1.50 MiB"
std::string human_count(double value);   // "1.23 M"
std::string human_seconds(double value); // "1 h 02 m", "3.4 s"
double seconds_now();                    // monotonic clock
double unix_time();                     // seconds since 1970
std::string utc_now();                   // "2026-01-02T03:04:05.678Z"

}  // namespace cohort
