#include "base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <mutex>

#include "base/env.h"
#include "base/error.h"
#include "base/text.h"

namespace cohort::log {
namespace {

struct Sinks {
  std::mutex mutex;
  std::shared_ptr<spdlog::logger> screen = spdlog::stderr_color_mt("cohort");
  std::shared_ptr<spdlog::logger> file;
  std::string who;
  int rank = 0;
  Level least = Level::info;
  Sinks() { screen->set_pattern("%v"); }
};

// Lives as long as the process: messages may come from any thread until the very end.
Sinks& sinks() {
  static Sinks* all = new Sinks;
  return *all;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warning:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

void set_identity(int rank, int world, const std::string& host) {
  Sinks& s = sinks();
  const std::lock_guard lock(s.mutex);
  s.rank = rank;
  s.who = world > 1 ? fmt::format(" rank {} {}", rank, host) : "";
}

void set_level(Level level) {
  Sinks& s = sinks();
  const std::lock_guard lock(s.mutex);
  s.least = level;
}

void open_file(const std::string& path) {
  Sinks& s = sinks();
  const std::lock_guard lock(s.mutex);
  try {
    s.file = std::make_shared<spdlog::logger>(
        "file", std::make_shared<spdlog::sinks::basic_file_sink_mt>(path));
  } catch (const spdlog::spdlog_ex& e) {
    fail(Exit::storage,
         "{}: cannot write the log file: {}; check the folder's permissions and "
         "free space",
         path, e.what());
  }
  s.file->set_pattern("%v");
  s.file->set_level(spdlog::level::trace);
  s.file->flush_on(spdlog::level::warn);
}

// The file comes last and is written without the lock: its storage may hang, and what is said then is
// to be seen.
void write(Level level, const std::string& text) {
  Sinks& s = sinks();
  std::unique_lock lock(s.mutex);
  if (level < s.least) return;
  static const char* names[] = {"debug", "info", "warning", "error"};
  const std::string line =
      fmt::format("{} {}{}: {}", utc_now(), names[static_cast<int>(level)], s.who, text);
  const spdlog::level::level_enum to = to_spdlog(level);
  // On a terminal the line may hold a progress bar: it is written over.
  if (s.rank == 0 || level >= Level::warning)
    s.screen->log(to, "{}", stderr_is_terminal() ? "\r\033[K" + text : line);
  const std::shared_ptr<spdlog::logger> file = s.file;
  lock.unlock();
  if (file) file->log(to, "{}", line);
}

void flush() {
  Sinks& s = sinks();
  std::unique_lock lock(s.mutex);
  s.screen->flush();
  const std::shared_ptr<spdlog::logger> file = s.file;
  lock.unlock();
  if (file) file->flush();
}

}  // namespace cohort::log
