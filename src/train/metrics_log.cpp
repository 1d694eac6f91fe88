#include "train/metrics_log.h"

#include <fmt/core.h>

#include <cmath>
#include <nlohmann/json.hpp>

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

MetricsLog::MetricsLog(Files& files, const std::string& path, i64 last_step) {
  keep_lines(files, path, "step", last_step);
  file_ = files.append(path);
}

void MetricsLog::add(const TrainLine& line) { write(to_line(line)); }
void MetricsLog::add(const EvalLine& line) { write(to_line(line)); }

void MetricsLog::write(const std::string& text) {
  const std::string line = text + "\n";
  file_->write(line.data(), static_cast<i64>(line.size()));
}

void keep_lines(Files& files, const std::string& path, const std::string& key, i64 last) {
  if (!files.exists(path)) return;
  const std::string before = files.read(path);
  std::string after;
  for (const std::string& line : split(before, '\n')) {
    const auto object = nlohmann::json::parse(line, nullptr, false);
    if (!object.is_object() || !object.contains(key) || !object[key].is_number_integer()) continue;
    if (object[key].get<i64>() <= last) after += line + "\n";
  }
  if (after != before) write_atomically(files, path, after);
}

}  // namespace cohort
