#include "train/progress.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

#include "base/env.h"
#include "base/log.h"
#include "base/text.h"

namespace cohort {
namespace {

constexpr double kLineSeconds = 10, kBarSeconds = 0.1;
constexpr i64 kBarWidth = 20;

double share(double part, double whole) {
  return whole > 0 ? std::clamp(100 * part / whole, 0.0, 100.0) : 0;
}

std::string remaining(const ProgressState& state) {
  if (state.steps_timed <= 0) return "?";
  const double per_step = state.total_seconds / static_cast<double>(state.steps_timed);
  return human_seconds(per_step * static_cast<double>(std::max<i64>(0, state.steps - state.step)));
}

}  // namespace

std::string progress_text(const ProgressState& state) {
  const double data = share(state.data_seconds, state.total_seconds);
  const double comm = share(state.comm_seconds, state.total_seconds);
  return fmt::format("epoch {}/{} step {}/{} loss {:.5g} {}/s ETA {} compute {:.0f}% data {:.0f}% "
                     "comm {:.0f}%",
                     std::min(state.epoch + 1, std::max<i64>(state.epochs, 1)), state.epochs,
                     state.step, state.steps, state.loss, human_count(state.samples_per_s),
                     remaining(state), std::max(0.0, 100 - data - comm), data, comm);
}

std::string progress_bar(const ProgressState& state, i64 columns) {
  const i64 full = state.steps > 0
                       ? std::clamp<i64>(kBarWidth * state.step / state.steps, 0, kBarWidth)
                       : 0;
  std::string text = "[" + std::string(static_cast<std::size_t>(full), '#') +
                     std::string(static_cast<std::size_t>(kBarWidth - full), '.') + "] " +
                     progress_text(state);
  text.resize(std::min(text.size(), static_cast<std::size_t>(std::max<i64>(columns - 1, 0))));
  return text;
}

Progress::Progress(bool terminal, i64 every_steps)
    : terminal_(terminal), every_steps_(std::max<i64>(every_steps, 1)) {}

void Progress::show(const ProgressState& state, double now) {
  const bool last = state.step >= state.steps;
  if (terminal_) {
    if (!last && now - last_time_ < kBarSeconds) return;
    std::fprintf(stderr, "\r\033[K%s", progress_bar(state, terminal_columns()).c_str());
    std::fflush(stderr);
    open_line_ = true;
  } else {
    const bool due = state.step - last_step_ >= every_steps_ || now - last_time_ >= kLineSeconds;
    if (!last && !due) return;
    log::info("{}", progress_text(state));
  }
  last_time_ = now;
  last_step_ = state.step;
}

void Progress::finish() {
  if (open_line_) std::fputc('\n', stderr);
  open_line_ = false;
}

}  // namespace cohort
