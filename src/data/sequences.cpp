#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"
#include "base/text.h"
#include "data/raw_table.h"

namespace cohort {
namespace {

std::string text_of(double value) { return fmt::format("{}", value); }

bool one_word(const std::string& cell) {
  return !cell.empty() && cell.find_first_of(" \t\r\n\v\f") == std::string::npos;
}

struct TimedRow {
  double time = 0;
  const RawRow* row = nullptr;
};
using Groups = std::map<std::pair<std::string, std::string>, std::vector<TimedRow>>;  // split, key

// Rows by split and key, each group in order of time; bad rows become rejects.
Groups collect(const Group& group, const std::vector<std::size_t>& values, RawTable& table) {
  const std::size_t key = static_cast<std::size_t>(table.column(group.key));
  const std::size_t time = static_cast<std::size_t>(table.column(group.time));
  Groups groups;
  for (const RawRow& row : table.rows) {
    const auto at = parse_double(trim(row.cells[time]));
    if (!at || !std::isfinite(*at)) {
      table.rejects.push_back({row.place, group.time + " '" + row.cells[time] +
                                              "' is not a number"});
      continue;
    }
    const auto bad = std::find_if(values.begin(), values.end(),
                                  [&](std::size_t i) { return !one_word(row.cells[i]); });
    if (bad != values.end()) {
      table.rejects.push_back({row.place, table.columns[*bad] + " '" + row.cells[*bad] +
                                              "' is empty or has white space"});
      continue;
    }
    groups[{row.split, row.cells[key]}].push_back({*at, &row});
  }
  for (auto& [name, rows] : groups) {
    std::stable_sort(rows.begin(), rows.end(),
                     [](const TimedRow& a, const TimedRow& b) { return a.time < b.time; });
  }
  return groups;
}

// Counts of one user: period -> events.
struct Series {
  std::map<i64, i64> counts;
  std::string place;
};

struct Periods {
  i64 first = std::numeric_limits<i64>::max(), last = std::numeric_limits<i64>::min();
};

std::map<std::string, Series> count_events(const Aggregate& config, RawTable& table,
                                           Periods& periods) {
  const std::size_t user = static_cast<std::size_t>(table.column(config.user));
  const std::size_t time = static_cast<std::size_t>(table.column(config.time));
  std::map<std::string, Series> users;
  for (const RawRow& row : table.rows) {
    const auto seconds = parse_double(trim(row.cells[time]));
    if (!seconds || !(std::abs(*seconds) < 1e15)) {
      table.rejects.push_back({row.place, config.time + " '" + row.cells[time] +
                                              "' is not a time in seconds"});
      continue;
    }
    const double exact = std::floor(*seconds / static_cast<double>(config.period));
    const i64 period = static_cast<i64>(exact);
    periods.first = std::min(periods.first, period);
    periods.last = std::max(periods.last, period);
    Series& series = users[row.cells[user]];
    if (series.counts.empty()) series.place = row.place;
    ++series.counts[period];
  }
  return users;
}

class WindowMaker {
 public:
  WindowMaker(const Aggregate& config, const Periods& periods) : config_(config) {
    const double steps = static_cast<double>(periods.last - periods.first + 1);
    last_ = periods.last;
    test_ = last_ + 1 - std::llround(steps * config.test);
    validation_ = test_ - std::llround(steps * config.validation);
  }

  void add(const std::string& user, const Series& series, std::vector<RawRow>& rows) const {
    const i64 first = series.counts.begin()->first;
    i64 before = 0;
    for (i64 period = first + 1; period <= last_; ++period) {
      before += at(series, period - 1);
      const i64 from = std::max(first, period - config_.history);
      std::string events;
      i64 total = 0;
      for (i64 p = from; p < period; ++p) {
        total += at(series, p);
        events += (events.empty() ? "" : " ") + std::to_string(at(series, p));
      }
      if (before < config_.min_events || (total == 0 && !config_.idle)) continue;
      RawRow& row = rows.emplace_back();
      row.cells = {user, std::to_string(period), events, std::to_string(at(series, period))};
      row.split = period >= test_ ? "test" : period >= validation_ ? "validation" : "train";
      row.place = series.place;
    }
  }

 private:
  static i64 at(const Series& series, i64 period) {
    const auto found = series.counts.find(period);
    return found == series.counts.end() ? 0 : found->second;
  }

  const Aggregate& config_;
  i64 last_ = 0, test_ = 0, validation_ = 0;
};

constexpr i64 kMostPeriods = 1000000;

}  // namespace

void group_rows(const Group& group, RawTable& table) {
  std::vector<std::size_t> values;
  std::vector<std::string> columns{group.key};
  for (const std::string& name : group.columns) {
    values.push_back(static_cast<std::size_t>(table.column(name)));
    columns.push_back(name);
  }
  columns.push_back("deltas");
  std::vector<RawRow> grouped;
  for (const auto& [name, rows] : collect(group, values, table)) {
    if (static_cast<i64>(rows.size()) < group.min_length) continue;
    RawRow& out = grouped.emplace_back();
    out.cells.assign(columns.size(), "");
    out.cells[0] = name.second;
    out.split = name.first;
    out.place = rows[0].row->place;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const char* gap = r == 0 ? "" : " ";
      for (std::size_t i = 0; i < values.size(); ++i) {
        out.cells[i + 1] += gap + rows[r].row->cells[values[i]];
      }
      out.cells.back() += gap + text_of(r == 0 ? 0 : rows[r].time - rows[r - 1].time);
    }
  }
  table.columns = std::move(columns);
  table.rows = std::move(grouped);
}

void aggregate_rows(const Aggregate& aggregate, RawTable& table) {
  for (const RawRow& row : table.rows) {
    if (row.split != "train") {
      fail(Exit::usage, "{}: split '{}': aggregate makes splits by time: remove split", row.place,
           row.split);
    }
  }
  Periods periods;
  const auto users = count_events(aggregate, table, periods);
  if (!users.empty() && periods.last - periods.first >= kMostPeriods) {
    fail(Exit::data, "times span {} periods of {} s, expected under {}: is {} in seconds?",
         periods.last - periods.first + 1, aggregate.period, kMostPeriods, aggregate.time);
  }
  std::vector<RawRow> rows;
  if (!users.empty()) {
    const WindowMaker maker(aggregate, periods);
    for (const auto& [user, series] : users) maker.add(user, series, rows);
  }
  table.columns = {aggregate.user, "period", "events", "target"};
  table.rows = std::move(rows);
}

}  // namespace cohort
