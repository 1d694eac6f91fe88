#include "base/log.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "base/build.h"
#include "base/error.h"

namespace cohort {
namespace {

using testing::HasSubstr;
using testing::Not;

// The logger is one per process: each test runs in a child of its own.
void in_child(const std::function<bool()>& check) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(check() ? 0 : 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

std::string content(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Log, FileLinesCarryTimeLevelRankAndHost) {
  const std::string path = testing::TempDir() + "cohort_log_test.log";
  std::remove(path.c_str());
  in_child([&] {
    log::set_identity(3, 8, "host-a");
    log::open_file(path);
    log::debug("hidden");
    log::info("seen {} %d {{}}", 1);
    log::set_level(log::Level::debug);
    log::debug("shown");
    log::flush();
    return true;
  });
  const std::string text = content(path);
  EXPECT_THAT(text,
              testing::ContainsRegex("^....-..-..T..:..:..\\....Z info rank 3 host-a: seen 1"));
  EXPECT_THAT(text, HasSubstr("seen 1 %d {}\n"));
  EXPECT_THAT(text, Not(HasSubstr("hidden")));
  EXPECT_THAT(text, HasSubstr("debug rank 3 host-a: shown\n"));
}

TEST(Log, AFileThatCannotBeOpenedIsAStorageError) {
  in_child([] {
    try {
      log::open_file("/proc/no/such/folder/file.log");
    } catch (const Error& e) {
      return e.exit_code() == Exit::storage;
    }
    return false;
  });
}

TEST(Error, CarriesItsExitCodeAndItsMessage) {
  try {
    fail(Exit::data, "shard {}: {} rows", 3, 7);
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::data);
    EXPECT_STREQ(e.what(), "shard 3: 7 rows");
  }
  EXPECT_THROW(COHORT_CHECK(false, "what"), std::logic_error);
}

TEST(Build, IdNamesTheVersion) { EXPECT_THAT(build_id(), testing::StartsWith("0.")); }

}  // namespace
}  // namespace cohort
