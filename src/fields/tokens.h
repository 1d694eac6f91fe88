// Text to words.
#pragma once
#include <string>
#include <vector>

namespace cohort {

// Lower-cased words: split at white space, or (by_words) at Unicode word boundaries (UAX 29,
// through ICU, root locale) with white space dropped.
std::vector<std::string> tokenize(const std::string& utf8, bool by_words);
std::string icu_version();  // whose word boundaries these are: "72.1"

}  // namespace cohort
