#include "comm/status.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/text.h"

namespace cohort {

bool is_long(Phase phase) {
  return phase != Phase::rows && phase != Phase::compute && phase != Phase::device &&
         phase != Phase::records;
}

std::string describe(const Beat& beat) {
  std::string text = fmt::format("step {}, ", beat.step + 1);
  const std::string file =
      beat.open_read > 0 ? fmt::format("reading {} for {}", beat.file, human_seconds(beat.open_read))
                         : "";
  switch (beat.phase) {
    case Phase::start: text += "starting"; break;
    case Phase::rows: text += "waiting for rows"; break;
    case Phase::compute: text += "computing"; break;
    case Phase::device: text += "waiting for its device"; break;
    case Phase::records: text += "writing metrics"; break;
    case Phase::evaluation: text += "evaluating"; break;
    case Phase::checkpoint: text += "at a checkpoint"; break;
    case Phase::end: text += "ending"; break;
  }
  if (beat.waiting) text += ", waiting for other ranks";
  if (!file.empty()) text += ", " + file;
  if (beat.phase == Phase::compute) text += fmt::format(", bucket {}", beat.bucket);
  return text;
}

Status::Status() : changed_(seconds_now()), progressed_(changed_) {}

void Status::account() const {
  const double now = seconds_now(), passed = now - changed_;
  changed_ = now;
  now_.waiting = main_waits_ || (now_.phase == Phase::rows && rows_wait_);
  if (now_.waiting) now_.waited += passed;
  else if (now_.phase == Phase::rows) now_.reading += passed;
  else if (now_.phase == Phase::compute) now_.compute += passed;
  else if (now_.phase == Phase::records) now_.records += passed;
  else if (now_.phase == Phase::device) now_.device_wait += passed;
}

void Status::progress() { progressed_ = changed_; }

void Status::set_device(const std::string& text) {
  const std::lock_guard lock(mutex_);
  now_.device = text;
}

void Status::enter(Phase phase) {
  const std::lock_guard lock(mutex_);
  account();
  if (is_long(phase) || is_long(now_.phase)) progress();
  if (phase == Phase::rows) now_.bucket = 0;
  now_.phase = phase;
}

void Status::done(i64 step) {
  const std::lock_guard lock(mutex_);
  account();
  progress();
  now_.step = step;
}

void Status::goes_on() {
  const std::lock_guard lock(mutex_);
  account();
  progress();
}

void Status::device_worked(double seconds) {
  const std::lock_guard lock(mutex_);
  now_.device_work += seconds;
}

void Status::bucket_given() {
  const std::lock_guard lock(mutex_);
  ++now_.bucket;
}

void Status::wait_begins() {
  const std::lock_guard lock(mutex_);
  account();
  main_waits_ = true;
}

void Status::wait_ends() {
  const std::lock_guard lock(mutex_);
  account();
  main_waits_ = false;
}

void Status::rows_wait(bool waits) {
  const std::lock_guard lock(mutex_);
  account();
  rows_wait_ = waits;
}

i64 Status::read_begins(const std::string& file) {
  const std::lock_guard lock(mutex_);
  open_.push_back({++reads_, file, seconds_now()});
  return reads_;
}

void Status::read_ends(i64 read) {
  const std::lock_guard lock(mutex_);
  const auto at = std::find_if(open_.begin(), open_.end(),
                               [&](const Read& r) { return r.number == read; });
  if (at == open_.end()) return;
  const double took = seconds_now() - at->since;
  const auto file = std::find_if(files_.begin(), files_.end(),
                                 [&](const auto& f) { return f.first == at->file; });
  if (file != files_.end()) file->second += took;
  else files_.emplace_back(at->file, took);
  open_.erase(at);
}

double Status::busy_seconds() const {
  const std::lock_guard lock(mutex_);
  account();
  return now_.compute + now_.reading;
}

Beat Status::look() {
  const std::lock_guard lock(mutex_);
  account();
  now_.idle = changed_ - progressed_;
  now_.open_read = now_.file_seconds = 0;
  if (!files_.empty()) {
    const auto most = std::max_element(files_.begin(), files_.end(), [](const auto& a,
                                                                        const auto& b) {
      return a.second < b.second;
    });
    now_.file = most->first;
    now_.file_seconds = most->second;
  }
  files_.clear();
  if (!open_.empty()) {   // the oldest is first
    now_.open_read = changed_ - open_.front().since;
    if (now_.open_read > now_.file_seconds) {
      now_.file = open_.front().file;
      now_.file_seconds = now_.open_read;
    }
  }
  return now_;
}

}  // namespace cohort
