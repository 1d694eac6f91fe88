#include "fields/tokens.h"

#include <unicode/brkiter.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/uversion.h>

#include <memory>

#include "base/error.h"
#include "base/types.h"

namespace cohort {
namespace {

std::vector<std::string> at_spaces(const icu::UnicodeString& text) {
  std::vector<std::string> words;
  i32 start = -1;
  for (i32 i = 0; i <= text.length(); ++i) {
    const bool space = i == text.length() || u_isUWhiteSpace(text.charAt(i));
    if (!space && start < 0) start = i;
    if (space && start >= 0) {
      text.tempSubStringBetween(start, i).toUTF8String(words.emplace_back());
      start = -1;
    }
  }
  return words;
}

}  // namespace

std::vector<std::string> tokenize(const std::string& utf8, bool by_words) {
  icu::UnicodeString text = icu::UnicodeString::fromUTF8(utf8);
  text.toLower(icu::Locale::getRoot());
  if (!by_words) return at_spaces(text);
  thread_local std::unique_ptr<icu::BreakIterator> breaks;
  UErrorCode code = U_ZERO_ERROR;
  if (!breaks) breaks.reset(icu::BreakIterator::createWordInstance(icu::Locale::getRoot(), code));
  if (U_FAILURE(code) || !breaks) fail(Exit::usage, "ICU word breaks: {}", u_errorName(code));
  breaks->setText(text);
  std::vector<std::string> words;
  for (i32 start = breaks->first(), end = breaks->next(); end != icu::BreakIterator::DONE;
       start = end, end = breaks->next()) {
    for (std::string& word : at_spaces(text.tempSubStringBetween(start, end))) {
      words.push_back(std::move(word));
    }
  }
  return words;
}

std::string icu_version() {
  UVersionInfo version;
  u_getVersion(version);
  char text[U_MAX_VERSION_STRING_LENGTH];
  u_versionToString(version, text);
  return text;
}

}  // namespace cohort
