#include "comm/rank_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace cohort {

RankTable::RankTable(const std::vector<std::string>& places, const std::vector<std::string>& hosts,
                     double now) {
  for (std::size_t r = 0; r < places.size(); ++r) {
    Row row;
    row.place = places[r];
    row.host = hosts[r];
    row.at = now;
    rows_.push_back(row);
  }
}

void RankTable::heard(std::size_t rank, const Beat& beat, double now) {
  Row& row = rows_[rank];
  row.beat = beat;
  row.at = now;
  if (beat.file_seconds <= row.file_seconds) return;
  row.file = beat.file;
  row.file_seconds = beat.file_seconds;
}

void RankTable::left(std::size_t rank) { rows_[rank].gone = true; }

std::string RankTable::name(std::size_t rank) const {
  return fmt::format("rank {} ({})", rank, rows_[rank].place);
}

bool RankTable::silent(std::size_t rank, double silence, double now) const {
  return !rows_[rank].gone && now - rows_[rank].at > silence;
}

std::optional<Late> RankTable::late(double step_timeout, double silence, double now) const {
  std::vector<RankView> views;
  for (std::size_t r = 0; r < rows_.size(); ++r)
    views.push_back({name(r), rows_[r].beat, std::max(0.0, now - rows_[r].at), rows_[r].gone});
  return find_late(views, step_timeout, silence);
}

std::string RankTable::text() const {
  constexpr std::size_t most = 64;
  std::string text;
  for (std::size_t r = 0; r < std::min(rows_.size(), most); ++r)
    text += fmt::format("\n  {}: {}", name(r), rows_[r].gone ? "left" : describe(rows_[r].beat));
  if (rows_.size() > most) text += fmt::format("\n  and {} more", rows_.size() - most);
  return text;
}

std::vector<RankWindow> RankTable::end_window() {
  std::vector<RankWindow> windows;
  bool whole = true;
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    Row& row = rows_[r];
    const Beat &a = row.before, &b = row.beat;
    whole = whole && !row.gone && b.step > a.step;
    windows.push_back({fmt::format("rank {} (host {})", r, row.host), b.compute - a.compute,
                       b.reading - a.reading, b.waited - a.waited, row.file,
                       b.device_wait - a.device_wait, b.device_work - a.device_work,
                       b.records - a.records});
    row.before = row.beat;
    row.file_seconds = 0;
  }
  if (!whole) windows.clear();
  return windows;
}

std::string encode(const Beat& b) {
  const nlohmann::json j{b.step, static_cast<int>(b.phase), b.waiting, b.bucket, b.idle, b.compute,
                         b.reading, b.waited, b.file, b.open_read, b.file_seconds, b.device,
                         b.device_wait, b.device_work, b.records};
  return j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::optional<Beat> decode(const std::string& bytes) {
  const auto j = nlohmann::json::parse(bytes, nullptr, false);
  if (!j.is_array() || j.size() != 15) return {};
  try {
    Beat b;
    b.step = j[0].get<i64>();
    b.phase = static_cast<Phase>(std::clamp(j[1].get<int>(), 0, static_cast<int>(Phase::end)));
    b.waiting = j[2].get<bool>();
    b.bucket = j[3].get<i64>();
    b.idle = j[4].get<double>();
    b.compute = j[5].get<double>();
    b.reading = j[6].get<double>();
    b.waited = j[7].get<double>();
    b.file = j[8].get<std::string>();
    b.open_read = j[9].get<double>();
    b.file_seconds = j[10].get<double>();
    b.device = j[11].get<std::string>();
    b.device_wait = j[12].get<double>();
    b.device_work = j[13].get<double>();
    b.records = j[14].get<double>();
    return b;
  } catch (const nlohmann::json::exception&) {
    return {};
  }
}

}  // namespace cohort
