#include "app/score_bundle.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/error.h"
#include "base/log.h"
#include "serve/scorer.h"

namespace cohort {
namespace {

using nlohmann::json;

constexpr std::size_t piece = 1 << 16, longest_line = 64 << 20;

// Lines as they come: `use` gets all that a read completes, so that a single row is answered at once
// and many rows are answered together.
class LineReader {
 public:
  explicit LineReader(int in) : in_(in) {}
  void each(const std::function<void(std::vector<std::string>)>& use) {
    while (read_piece()) {
      std::vector<std::string> lines;
      std::size_t from = 0;
      for (std::size_t end; (end = text_.find('\n', std::max(from, seen_))) != std::string::npos;
           from = end + 1)
        lines.push_back(text_.substr(from, end - from));
      text_.erase(0, from);
      seen_ = text_.size();
      if (!lines.empty()) use(std::move(lines));
    }
    if (!text_.empty()) use({text_});
  }

 private:
  bool read_piece() {
    const std::size_t had = text_.size();
    if (had > longest_line)
      fail(Exit::data, "stdin: a line of more than {} MiB; expected one row a line",
           longest_line >> 20);
    text_.resize(had + piece);
    ssize_t got = -1;
    do {
      got = ::read(in_, text_.data() + had, piece);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
      fail(Exit::data, "stdin: cannot be read: {}", std::generic_category().message(errno));
    text_.resize(had + static_cast<std::size_t>(got));
    return got > 0;
  }
  int in_;
  std::string text_;
  std::size_t seen_ = 0;   // no line ends before
};

bool blank(const std::string& line) {
  return line.find_first_not_of(" \t\r") == std::string::npos;
}

class LineScorer {
 public:
  LineScorer(Scorer& scorer, const ScoreBundleOptions& options, std::FILE* out)
      : scorer_(scorer), options_(options), out_(out) {}

  void answer(const std::vector<std::string>& lines) {
    const std::size_t many = static_cast<std::size_t>(std::max(1LL, options_.rows));
    for (std::size_t from = 0; from < lines.size(); from += many)
      answer_some({lines.begin() + static_cast<std::ptrdiff_t>(from),
                   lines.begin() + static_cast<std::ptrdiff_t>(std::min(lines.size(), from + many))});
    if (std::fflush(out_) != 0) fail(Exit::storage, "stdout: the answers cannot be written");
  }
  i64 rows() const { return rows_; }
  i64 bad() const { return bad_; }

 private:
  struct Line {
    std::string text;
    bool bad = false;
  };
  void answer_some(const std::vector<std::string>& lines) {
    std::vector<json> rows;
    std::vector<Line> answers;
    std::vector<std::size_t> homes;
    for (const std::string& line : lines) {
      if (blank(line)) continue;
      answers.emplace_back();
      json row = json::parse(line, nullptr, false);
      if (row.is_discarded()) {
        answers.back() = {R"({"error":"the line is not JSON; expected an object of the row's columns"})",
                          true};
        continue;
      }
      homes.push_back(answers.size() - 1);
      rows.push_back(std::move(row));
    }
    score(rows, homes, answers);
    for (const Line& answer : answers) {
      ++rows_;
      bad_ += answer.bad;
      const std::string text = answer.text + "\n";
      if (std::fwrite(text.data(), 1, text.size(), out_) != text.size())
        fail(Exit::storage, "stdout: the answers cannot be written");
    }
  }
  void score(const std::vector<json>& rows, const std::vector<std::size_t>& homes,
             std::vector<Line>& answers) {
    const Bundle& bundle = scorer_.bundle();
    const auto put = [&](const auto& found) {
      for (std::size_t k = 0; k < found.size(); ++k)
        answers[homes[k]] = {json_text(bundle, found[k]), !found[k].error.empty()};
    };
    if (options_.top > 0)
      put(scorer_.top(rows, options_.top));
    else
      put(scorer_.score(rows));
  }
  Scorer& scorer_;
  const ScoreBundleOptions& options_;
  std::FILE* out_;
  i64 rows_ = 0, bad_ = 0;
};

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Batches a second, as rows, and how long one takes. The first fifth of the time does not count.
json measure(double seconds, i64 rows, const std::function<void()>& batch) {
  const Clock::time_point start = Clock::now();
  std::vector<double> times;
  while (seconds_since(start) < seconds || times.empty()) {
    const Clock::time_point begin = Clock::now();
    batch();
    if (seconds_since(start) > seconds / 5) times.push_back(seconds_since(begin));
  }
  std::sort(times.begin(), times.end());
  double sum = 0;
  for (const double time : times) sum += time;
  const auto quantile = [&](double q) {
    const auto at = static_cast<std::size_t>(q * static_cast<double>(times.size()));
    return 1000 * times[std::min(times.size() - 1, at)];
  };
  return {{"rows_per_second", static_cast<double>(rows) * static_cast<double>(times.size()) / sum},
          {"p50_ms", quantile(0.5)}, {"p99_ms", quantile(0.99)}};
}

// Golden rows, batch after batch: from raw rows to answers, and the model alone.
void bench(Scorer& scorer, const ScoreBundleOptions& options, std::FILE* out) {
  std::vector<std::vector<json>> batches(1);
  const auto many = static_cast<std::size_t>(options.rows);
  for (const GoldenRow& row : scorer.bundle().golden()) {
    if (batches.back().size() == many) batches.emplace_back();
    batches.back().push_back(json::parse(row.raw));
  }
  while (batches.back().size() < many && !batches[0].empty())
    batches.back().push_back(batches.back()[0]);
  std::size_t next = 0;
  const json rows = measure(options.bench, options.rows,
                            [&] { scorer.score(batches[next++ % batches.size()]); });
  scorer.prepare(batches[0]);
  const json model = measure(options.bench, options.rows, [&] { scorer.answer_prepared(); });
  const json report = {{"rows", options.rows}, {"from_raw_rows", rows}, {"model", model}};
  const std::string text = report.dump() + "\n";
  std::fwrite(text.data(), 1, text.size(), out);
  if (std::fflush(out) != 0) fail(Exit::storage, "stdout: the report cannot be written");
}

}  // namespace

int run_score_bundle(const ScoreBundleOptions& options, int in, std::FILE* out) {
  Scorer scorer(Bundle::open(real_files(), options.bundle), {options.threads, options.rows});
  check_golden(scorer);
  if (options.bench > 0) return bench(scorer, options, out), 0;
  if (options.top > 0 && !scorer.bundle().towers()) scorer.top({}, options.top);   // says why not
  LineScorer lines(scorer, options, out);
  LineReader(in).each([&](const std::vector<std::string>& some) { lines.answer(some); });
  if (lines.bad() == 0) return 0;
  log::error("{} of {} rows have no answer: see \"error\" of their lines", lines.bad(), lines.rows());
  return static_cast<int>(Exit::data);
}

void verify_bundle(const std::string& folder) {
  Scorer scorer(Bundle::open(real_files(), folder), {});
  check_golden(scorer);
}

}  // namespace cohort
