#include "train/metrics_log.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"

namespace cohort {
namespace {

// Builds one flat object with 17-digit numbers.
class Line {
 public:
  Line& text(const char* key, const std::string& value) {
    return raw(key, nlohmann::json(value).dump());
  }
  Line& count(const char* key, i64 value) { return raw(key, fmt::format("{}", value)); }
  Line& number(const std::string& key, double value) {
    if (std::isfinite(value)) return raw(key, fmt::format("{:.17g}", value));
    nonfinite_ = true;
    return raw(key, "null");
  }
  Line& object(const char* key, const Line& inner) {
    nonfinite_ = nonfinite_ || inner.nonfinite_;
    return raw(key, "{" + inner.body_ + "}");
  }
  std::string close() const {
    return "{" + body_ + (nonfinite_ ? ",\"nonfinite\":true}" : "}");
  }

 private:
  Line& raw(const std::string& key, const std::string& value) {
    if (!body_.empty()) body_ += ',';
    body_ += nlohmann::json(key).dump() + ":" + value;
    return *this;
  }
  std::string body_;
  bool nonfinite_ = false;
};

}  // namespace

std::string to_line(const TrainLine& line) {
  return Line()
      .text("kind", "train")
      .count("attempt", line.attempt)
      .count("ranks", line.ranks)
      .count("step", line.step)
      .count("epoch", line.epoch)
      .number("loss", line.loss)
      .number("learning_rate", line.learning_rate)
      .number("grad_norm", line.grad_norm)
      .number("samples_per_s", line.samples_per_s)
      .number("data_wait", line.data_wait)
      .number("comm_exposed", line.comm_exposed)
      .count("skipped_steps", line.skipped_steps)
      .count("rollbacks", line.rollbacks)
      .number("time", line.time)
      .close();
}

std::string to_line(const EvalLine& line) {
  Line metrics;
  for (const auto& [name, value] : line.metrics) metrics.number(name, value);
  return Line()
      .text("kind", "eval")
      .count("step", line.step)
      .count("epoch", line.epoch)
      .text("split", line.split)
      .count("rows", line.rows)
      .object("metrics", metrics)
      .close();
}

MetricsLog::MetricsLog(Files& files, const std::string& path, i64 last_step, i64 last_evaluated,
                       std::function<bool()> ours)
    : files_(files), path_(path), ours_(std::move(ours)), late_([this] { write_owed(); }) {
  if (files.exists(path)) begin_anew(last_step, last_evaluated);
  file_ = files.append(path);
  bytes_ = files.size(path);
}

// Where the storage is full, the file stays if no line has to go.
void MetricsLog::begin_anew(i64 last_step, i64 last_evaluated) {
  const std::string before = files_.read(path_);
  const std::string kept = kept_lines(before, "step", [&](const nlohmann::json& line) {
    return line.value("kind", "") == "eval" ? last_evaluated : last_step;
  });
  try {
    write_atomically(files_, path_, kept);
  } catch (const Error&) {
    if (kept != before) throw;
  }
}

void MetricsLog::add(const TrainLine& line) { write(to_line(line)); }
void MetricsLog::add(const EvalLine& line) { write(to_line(line)); }

void MetricsLog::write(const std::string& text) {
  owed_ += text + "\n";
  late_.owe();
}

void MetricsLog::finish() { late_.finish(); }

void MetricsLog::write_owed() {
  if (!file_) open_again();
  const i64 owed = static_cast<i64>(owed_.size());
  try {
    file_->write(owed_.data(), owed);
  } catch (...) {
    file_.reset();
    throw;
  }
  bytes_ += owed;
  owed_.clear();
}

// A handle may stay broken when the storage is back. What is there in spite of an error is not
// written again.
void MetricsLog::open_again() {
  if (ours_ && !ours_()) owed_.clear();
  const std::string text = files_.exists(path_) ? files_.read(path_) : "";
  const std::string more = text.substr(std::min(text.size(), static_cast<std::size_t>(bytes_)));
  const bool goes_on = !more.empty() && owed_.compare(0, more.size(), more) == 0;
  if (goes_on) owed_.erase(0, more.size());
  else if (!text.empty() && text.back() != '\n') owed_.insert(0, "\n");
  file_ = files_.append(path_);
  bytes_ = static_cast<i64>(text.size());
}

std::string kept_lines(const std::string& text, const std::string& key,
                       const std::function<i64(const nlohmann::json&)>& last_of) {
  std::string kept;
  for (const std::string& line : split(text, '\n')) {
    const auto object = nlohmann::json::parse(line, nullptr, false);
    if (!object.is_object() || !object.contains(key) || !object[key].is_number_integer()) continue;
    if (object[key].get<i64>() <= last_of(object)) kept += line + "\n";
  }
  return kept;
}

}  // namespace cohort
