#include "serve/batcher.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/log.h"

namespace cohort {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;
using Model = std::shared_ptr<const ServedModel>;

struct Request {
  std::condition_variable changed;
  i64 open = 0;                        // pieces in the queue or in a batch
  std::atomic<bool> abandoned{false};  // got its answer: late. Changed under the mutex
};

// Rows of one request that are answered together.
struct Piece {
  std::vector<json> rows;
  i64 top = 0;
  std::shared_ptr<Request> request;
  Clock::time_point arrived;
  std::vector<RowReply> replies;
  bool failed = false;
  i64 size() const { return static_cast<i64>(rows.size()); }
};
using Pieces = std::vector<std::shared_ptr<Piece>>;

Pieces cut(std::vector<json> rows, i64 top, i64 most) {
  Pieces pieces;
  for (std::size_t k = 0; k < rows.size(); ++k) {
    if (pieces.empty() || pieces.back()->size() == most) {
      pieces.push_back(std::make_shared<Piece>());
      pieces.back()->top = top;
    }
    pieces.back()->rows.push_back(std::move(rows[k]));
  }
  return pieces;
}

}  // namespace

struct Batcher::State {
  State(Model m, const BatchLimits& l, BatchEvents e)
      : limits(l), events(std::move(e)), model(std::move(m)) {
    limits.workers = std::max(1, limits.workers);
    limits.rows = std::max<i64>(1, limits.rows);
  }

  // ---- requests

  bool fits(const Piece& piece) const {
    return waiting == 0 || waiting + piece.size() <= limits.queue;
  }

  void push(const std::shared_ptr<Piece>& piece) {
    piece->arrived = Clock::now();
    ++piece->request->open;
    waiting += piece->size();
    queue.push_back(piece);
    (collecting ? more : idle).notify_one();
  }

  Outcome::Kind answer(const Pieces& pieces, Clock::time_point until) {
    const auto request = std::make_shared<Request>();
    for (const auto& piece : pieces) piece->request = request;
    std::unique_lock<std::mutex> lock(mutex);
    ++requests;
    const Outcome::Kind kind = wait(pieces, *request, until, lock);
    --requests;
    return kind;
  }

  Outcome::Kind wait(const Pieces& pieces, Request& request, Clock::time_point until,
                     std::unique_lock<std::mutex>& lock) {
    std::size_t next = 0;
    for (;;) {
      while (next < pieces.size() && request.open < 2 * limits.workers && fits(*pieces[next]))
        push(pieces[next++]);
      if (next == 0) return Outcome::full;
      if (next == pieces.size() && request.open == 0) break;
      const Clock::time_point now = Clock::now();
      if (now >= until) {
        request.abandoned = true;
        return Outcome::late;
      }
      // Room for more is told to nobody: it is looked for.
      const bool looking = request.open == 0;
      request.changed.wait_until(
          lock, looking ? std::min(until, now + std::chrono::milliseconds(2)) : until);
    }
    for (const auto& piece : pieces)
      if (piece->failed) return Outcome::failed;
    return Outcome::answered;
  }

  // ---- workers

  // Waits for rows beside those of the first piece, as long as others may come.
  void collect(std::unique_lock<std::mutex>& lock) {
    const auto enough = [&] {
      return stopping || queue.empty() || waiting >= limits.rows ||
             (events.sources && requests >= events.sources());
    };
    collecting = true;
    more.wait_until(lock, queue.front()->arrived + limits.wait, enough);
    collecting = false;
    if (stopping) idle.notify_all();
  }

  Pieces take() {
    Pieces batch;
    i64 rows = 0;
    while (!queue.empty()) {
      const std::shared_ptr<Piece> piece = queue.front();
      if (!piece->request->abandoned) {
        if (!batch.empty() && (rows + piece->size() > limits.rows || piece->top != batch[0]->top))
          break;
        rows += piece->size();
        batch.push_back(piece);
      }
      waiting -= piece->size();
      queue.pop_front();
    }
    return batch;
  }

  // Answers; without one where the scorer threw.
  bool run(const AnswerRows& score, const Pieces& batch, std::size_t first, std::size_t last) {
    std::vector<json> rows;
    std::vector<const Request*> requests_of;   // by row
    for (std::size_t k = first; k < last; ++k) {
      std::move(batch[k]->rows.begin(), batch[k]->rows.end(), std::back_inserter(rows));
      requests_of.resize(rows.size(), batch[k]->request.get());
    }
    bool good = true;
    std::vector<RowReply> replies;
    try {
      // A row may take long to be made ready; that of a late request would hold up the others.
      replies = score(rows, batch[first]->top,
                      [&](std::size_t row) { return requests_of[row]->abandoned.load(); });
      good = replies.size() == rows.size();
    } catch (const std::exception& e) {
      log::error("a batch of {} rows failed: {}", rows.size(), e.what());
      good = false;
    }
    std::size_t at = 0;
    for (std::size_t k = first; k < last; ++k) {
      for (json& row : batch[k]->rows) {
        if (good) batch[k]->replies.push_back(std::move(replies[at]));
        row = std::move(rows[at++]);
      }
    }
    return good;
  }

  void answer_batch(const AnswerRows& score, const Pieces& batch) {
    i64 rows = 0;
    for (const auto& piece : batch) rows += piece->size();
    // One that breaks the scorer must not take its neighbours with it.
    if (!run(score, batch, 0, batch.size()))
      for (std::size_t k = 0; k < batch.size(); ++k)
        batch[k]->failed = batch.size() == 1 || !run(score, batch, k, k + 1);
    if (events.batch) events.batch(rows);
  }

  void finish(const Pieces& batch) {
    for (const auto& piece : batch) {
      --piece->request->open;
      piece->request->changed.notify_one();
    }
  }

  void work() {
    const AnswerRows score = make_scorer();
    if (!score) return;
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      idle.wait(lock, [&] { return !collecting && (stopping || !queue.empty()); });
      if (queue.empty()) return;
      collect(lock);
      const Pieces batch = take();
      if (!queue.empty()) idle.notify_one();
      if (batch.empty()) continue;
      lock.unlock();
      answer_batch(score, batch);
      lock.lock();
      finish(batch);
    }
  }

  AnswerRows make_scorer() {
    AnswerRows score;
    std::exception_ptr thrown;
    try {
      score = model->make();
    } catch (const std::exception&) {
      thrown = std::current_exception();
    }
    const std::lock_guard<std::mutex> lock(mutex);
    if (thrown && !failure) failure = thrown;
    ++begun;
    ready.notify_all();
    return score;
  }

  // Until all workers have a scorer, or one cannot have one.
  void start() {
    std::unique_lock<std::mutex> lock(mutex);
    try {
      for (int k = 0; k < limits.workers && !failure; ++k) {
        threads.emplace_back([this] { work(); });
        if (limits.one_by_one || k + 1 == limits.workers)
          ready.wait(lock, [&] { return begun > k; });
      }
    } catch (const std::exception&) {   // no thread
      failure = std::current_exception();
    }
  }

  BatchLimits limits;
  BatchEvents events;
  mutable std::mutex mutex;
  std::condition_variable idle, more, ready;
  std::deque<std::shared_ptr<Piece>> queue;
  Model model;
  i64 waiting = 0, requests = 0;
  int begun = 0;                       // workers
  bool collecting = false, stopping = false;
  std::exception_ptr failure;
  std::vector<std::thread> threads;

  void stop() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      stopping = true;
    }
    idle.notify_all();
    more.notify_all();
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  }
};

Batcher::Batcher(Model model, const BatchLimits& limits, BatchEvents events)
    : state_(std::make_unique<State>(std::move(model), limits, std::move(events))) {
  state_->start();
  if (!state_->failure) return;
  state_->stop();
  std::rethrow_exception(state_->failure);
}

Batcher::~Batcher() { state_->stop(); }

Outcome Batcher::score(std::vector<json> rows, i64 top, Clock::time_point until) {
  Outcome outcome;
  if (rows.empty()) return outcome;
  const Pieces pieces = cut(std::move(rows), top, state_->limits.rows);
  outcome.kind = state_->answer(pieces, until);
  if (outcome.kind != Outcome::answered) return outcome;
  for (const auto& piece : pieces)
    std::move(piece->replies.begin(), piece->replies.end(), std::back_inserter(outcome.replies));
  return outcome;
}

i64 Batcher::waiting() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->waiting;
}

}  // namespace cohort
