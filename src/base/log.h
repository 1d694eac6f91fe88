// Messages for people: to stderr, and to this rank's log file once it is opened. Plain lines
// "2026-01-02T03:04:05.678Z info rank 3 host-a: text"; on a terminal the short form without prefix.
#pragma once
#include <fmt/core.h>

#include <string>
#include <utility>

namespace cohort::log {

enum class Level { debug, info, warning, error };

// Who speaks; set once after rendezvous. Before it, lines carry no rank.
void set_identity(int rank, int world, const std::string& host);
// Messages below `level` are dropped (file and stderr). Default info.
void set_level(Level level);
// Only errors and warnings of ranks other than 0 reach stderr; every rank writes its own file.
void open_file(const std::string& path);
void write(Level level, const std::string& text);
void flush();

template <class... A>
void debug(fmt::format_string<A...> f, A&&... a) {
  write(Level::debug, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void info(fmt::format_string<A...> f, A&&... a) {
  write(Level::info, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void warn(fmt::format_string<A...> f, A&&... a) {
  write(Level::warning, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void error(fmt::format_string<A...> f, A&&... a) {
  write(Level::error, fmt::format(f, std::forward<A>(a)...));
}

}  // namespace cohort::log
