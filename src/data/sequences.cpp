#include "data/sequences.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/text.h"

namespace cohort {
namespace {

std::string text_of(double value) { return fmt::format("{}", value); }

bool one_word(const std::string& cell) {
  return !cell.empty() && cell.find_first_of(" \t\r\n\v\f") == std::string::npos;
}

// Counts of one user: period -> events.
struct Series {
  std::map<i64, i64> counts;
  std::string place;
};

class WindowMaker {
 public:
  WindowMaker(const Aggregate& config, i64 first, i64 last) : config_(config), last_(last) {
    const double steps = static_cast<double>(last - first + 1);
    test_ = last_ + 1 - std::llround(steps * config.test);
    validation_ = test_ - std::llround(steps * config.validation);
  }

  void make(const std::string& user, const Series& series, const RowSink& use) const {
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
      use({{user, std::to_string(period), events, std::to_string(at(series, period))},
           period >= test_ ? "test" : period >= validation_ ? "validation" : "train",
           series.place, "", 0});
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

GroupRows::GroupRows(const Group& group, const RawSchema& in, std::unique_ptr<SpillSort> sort)
    : group_(group), in_(in), sort_(std::move(sort)) {
  out_.columns = {group.key};
  out_.columns.insert(out_.columns.end(), group.columns.begin(), group.columns.end());
  out_.columns.push_back("deltas");
}

// Key: split, 0, key, 0, time. Cells hold no zero byte.
void GroupRows::add(const RawRow& row, const RejectSink& reject) {
  const std::string& time = row.cells[in_.column(group_.time)];
  const auto at = parse_double(trim(time));
  if (!at || !std::isfinite(*at)) {
    return reject(row.place, group_.time + " '" + time + "' is not a number");
  }
  std::string value;
  pack_value(value, *at);
  pack_text(value, row.place);
  for (const std::string& name : group_.columns) {
    const std::string& cell = row.cells[in_.column(name)];
    if (!one_word(cell)) {
      return reject(row.place, name + " '" + cell + "' is empty or has white space");
    }
    pack_text(value, cell);
  }
  std::string key = row.split + '\0' + row.cells[in_.column(group_.key)] + '\0';
  pack_ordered(key, *at);
  sort_->add(key, value);
}

void GroupRows::each(const RowSink& use) {
  std::string group;
  RawRow row;
  i64 length = 0;
  double before = 0;
  const auto give = [&] {
    if (length >= group_.min_length) use(std::move(row));
    length = 0;
  };
  sort_->each([&](std::string_view key, std::string_view value) {
    key.remove_suffix(sizeof(double));
    Unpacker packed(value);
    const double time = packed.value<double>();
    const std::string place(packed.text());
    if (length == 0 || key != group) {
      give();
      group = key;
      row = {};
      row.split = group.substr(0, group.find('\0'));
      row.cells.resize(out_.columns.size());
      row.cells[0] = group.substr(row.split.size() + 1, group.size() - row.split.size() - 2);
      row.place = place;
      before = time;
    }
    const char* gap = length == 0 ? "" : " ";
    for (std::size_t i = 1; i + 1 < row.cells.size(); ++i) {
      row.cells[i].append(gap).append(packed.text());
    }
    row.cells.back() += gap + text_of(length == 0 ? 0 : time - before);
    before = time;
    ++length;
  });
  give();
}

AggregateRows::AggregateRows(const Aggregate& aggregate, const RawSchema& in,
                             std::unique_ptr<SpillSort> sort)
    : aggregate_(aggregate), user_(in.column(aggregate.user)), time_(in.column(aggregate.time)),
      out_{{aggregate.user, "period", "events", "target"}, {}}, sort_(std::move(sort)) {}

void AggregateRows::add(const RawRow& row, const RejectSink& reject) {
  if (row.split != "train") {
    fail(Exit::usage, "{}: split '{}': aggregate makes splits by time: remove split", row.place,
         row.split);
  }
  const auto seconds = parse_double(trim(row.cells[time_]));
  if (!seconds || !(std::abs(*seconds) < 1e15)) {
    return reject(row.place, aggregate_.time + " '" + row.cells[time_] +
                                 "' is not a time in seconds");
  }
  const i64 period =
      static_cast<i64>(std::floor(*seconds / static_cast<double>(aggregate_.period)));
  const bool any = last_ >= first_;
  first_ = any ? std::min(first_, period) : period;
  last_ = any ? std::max(last_, period) : period;
  std::string value;
  pack_value(value, period);
  pack_text(value, row.place);
  sort_->add(row.cells[user_], value);
}

void AggregateRows::each(const RowSink& use) {
  if (last_ - first_ >= kMostPeriods) {
    fail(Exit::data, "times span {} periods of {} s, expected under {}: is {} in seconds?",
         last_ - first_ + 1, aggregate_.period, kMostPeriods, aggregate_.time);
  }
  const WindowMaker maker(aggregate_, first_, last_);
  std::string user;
  Series series;
  const auto give = [&] {
    if (!series.counts.empty()) maker.make(user, series, use);
  };
  sort_->each([&](std::string_view key, std::string_view value) {
    Unpacker packed(value);
    const i64 period = packed.value<i64>();
    if (series.counts.empty() || key != user) {
      give();
      user = key;
      series = {{}, std::string(packed.text())};
    }
    ++series.counts[period];
  });
  give();
}

}  // namespace cohort
