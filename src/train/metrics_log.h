// metrics.jsonl: one object a line, exactly as docs/operations.md says. 17 digits; a non-finite
// value is null and the object says "nonfinite":true.
#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "store/files.h"
#include "train/late_work.h"

namespace cohort {

struct TrainLine {
  i64 attempt = 1, ranks = 1, step = 0, epoch = 0;
  double loss = 0, learning_rate = 0, grad_norm = 0;
  double samples_per_s = 0, data_wait = 0, comm_exposed = 0;   // rows/s, seconds, seconds
  i64 skipped_steps = 0, rollbacks = 0;                        // of the run so far
  double time = 0;                                             // seconds since 1970, UTC
};
struct EvalLine {
  i64 step = 0, epoch = 0;
  std::string split;
  i64 rows = 0;
  std::vector<std::pair<std::string, double>> metrics;
};

std::string to_line(const TrainLine& line);   // without the newline
std::string to_line(const EvalLine& line);

class MetricsLog {
 public:
  // Appends. What an earlier attempt left behind `last_step` (its steps are done again), evaluations
  // behind `last_evaluated` and a line cut short by a crash are removed first; -1 keeps nothing. The file is made anew, so that a job
  // before this one, which does not know yet that it is not the newest, adds nothing to it. Lines that
  // cannot be written are kept and written later, unless the file is `ours` no more, asked then.
  MetricsLog(Files& files, const std::string& path, i64 last_step, i64 last_evaluated,
             std::function<bool()> ours = {});
  void add(const TrainLine& line);
  void add(const EvalLine& line);
  void finish();   // what could not be written, or Error

 private:
  void begin_anew(i64 last_step, i64 last_evaluated);
  void write(const std::string& text);
  void write_owed();
  void open_again();
  Files& files_;
  const std::string path_;
  const std::function<bool()> ours_;
  std::unique_ptr<FileWriter> file_;   // null after an error
  i64 bytes_ = 0;                      // of whole lines in the file
  std::string owed_;
  LateWork late_;
};

// The complete lines of a JSON-lines file's text whose integer `key` is at most last_of(line).
std::string kept_lines(const std::string& text, const std::string& key,
                       const std::function<i64(const nlohmann::json&)>& last_of);

}  // namespace cohort
