// docs/config_reference.md says exactly what the parser accepts. With COHORT_UPDATE_DOCS set, the
// test writes the file instead.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/config.h"
#include "train/experiment.h"

namespace cohort {
namespace {

std::string cell(const std::string& text) {
  std::string safe;
  for (char c : text) safe += c == '|' ? std::string("\\|") : std::string(1, c);
  return safe;
}

std::string reference() {
  std::string text =
      "# Config reference\n\nEvery key of an experiment file, as the parser knows it. Any of them can "
      "be replaced on the\ncommand line: `cohort train FILE train.epochs=3`. Unknown keys are "
      "errors.\n\n| key | type | values | default | meaning |\n|---|---|---|---|---|\n";
  for (const KeyDoc& key : Binder::describe<Experiment>())
    text += "| `" + key.path + "` | " + cell(key.type) + " | " + cell(key.rule) + " | " +
            cell(key.default_value) + " | " + cell(key.text) + " |\n";
  return text;
}

TEST(ConfigReference, SaysWhatTheParserAccepts) {
  const char* source = std::getenv("COHORT_TEST_SOURCE");
  ASSERT_TRUE(source) << "COHORT_TEST_SOURCE is not set: run through ctest or ./launch/test";
  const std::string path = std::string(source) + "/docs/config_reference.md";
  if (std::getenv("COHORT_UPDATE_DOCS")) std::ofstream(path) << reference();
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), reference()) << "run this test with COHORT_UPDATE_DOCS=1 and commit " << path;
}

}  // namespace
}  // namespace cohort
