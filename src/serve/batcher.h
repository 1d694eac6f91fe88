// Rows of many requests to one model answered together: a bounded queue, and workers that each
// hold a scorer.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "base/types.h"
#include "serve/server_model.h"

namespace cohort {

struct BatchLimits {
  int workers = 1;
  i64 rows = 32;                             // most rows of a batch
  std::chrono::microseconds wait{500};       // most that a row waits for others
  i64 queue = 1024;                          // rows that may wait
  bool one_by_one = false;                   // workers begin so: others are at work beside them
};

// What came of a request.
struct Outcome {
  enum Kind { answered, full, late, failed } kind = answered;
  std::vector<RowReply> replies;             // as the rows
};

struct BatchEvents {
  std::function<void(i64 rows)> batch;       // a batch was answered
  // How many requests can be open at a time now (connections): nobody waits for more than that.
  std::function<i64()> sources;
};

class Batcher {
 public:
  // A scorer of the model is made in every worker's thread; what that throws the constructor throws.
  Batcher(std::shared_ptr<const ServedModel> model, const BatchLimits& limits,
          BatchEvents events = {});
  ~Batcher();                                // when no score() runs any more
  // Rows of a request, any number; `top` > 0: the best items. Waits for the answers. full: no row
  // was taken. A request has few rows in the queue at a time, so that a long one does not hold up
  // others.
  Outcome score(std::vector<nlohmann::json> rows, i64 top,
                std::chrono::steady_clock::time_point until);
  i64 waiting() const;                       // rows in the queue

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cohort
