#include "train/saver.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "base/median.h"
#include "base/text.h"
#include "export/safetensors.h"

namespace cohort {
namespace {

using nlohmann::json;

constexpr double longest_backoff_s = 60;
constexpr double patience_s = 5;   // for a write under way when the object ends
// A slice is slow that takes so long, and so many times the median of the other ranks'.
constexpr double slow_slice_s = 1, slow_ratio = 1.5;
constexpr double told_again_s = 600;

enum class Stage { idle, slices, completion };

// What the thread has made of its last job.
struct Outcome {
  bool ready = false, ok = false, fenced = false;
  std::string error;
  FileEntry entry;
  double seconds = 0;          // a slice took
  std::vector<std::string> not_finite;
};

}  // namespace

// All that the thread uses: it may outlive the Saver where the storage hangs.
struct Saver::State {
  State(Files& files_, Communicator& ranks_, Device& device, std::vector<NamedTensor> tensors_,
        SaverConfig config_)
      : files(files_), ranks(ranks_), config(std::move(config_)), tensors(std::move(tensors_)),
        slices(cut_slices(tensors, ranks.size())),
        rank(ranks.rank()),
        snapshot(device, tensors, slices[static_cast<std::size_t>(rank)]) {
    for (const Slice& slice : slices) total_bytes += slice.bytes;
  }

  // Of the training thread.
  Files& files;
  Communicator& ranks;
  const SaverConfig config;
  const std::vector<NamedTensor> tensors;
  const std::vector<Slice> slices;
  const int rank;
  Snapshot snapshot;           // the thread reads it between begin() and the end of its job
  i64 total_bytes = 0;
  std::vector<double> slice_seconds;   // of this checkpoint, by rank
  i64 slow_rank = -1;          // told last
  double slow_told = 0;        // when
  Content content;
  Stage stage = Stage::idle;
  i64 given = 0;               // steps given when the phase began: sums of these are of before
  i64 tries = 0;
  bool good = true;            // the last one exists
  i64 last_step = -1;
  double begun = 0;
  std::string last_error, temporary;
  SaverTotals totals;

  // Shared with the thread.
  std::mutex mutex;
  std::condition_variable changed;
  struct Work {
    std::function<Outcome()> run;
    bool waited_for = true;    // its outcome is told
  };
  std::deque<Work> jobs;
  Outcome outcome;
  bool ending = false, ended = false;

  std::string folder() const {
    const bool second = tries > config.retries;
    return (second ? config.second : config.first) + "/" + checkpoint_name(content.step);
  }
  void pause(double seconds);
  void check_wanted();
  void run();
  void submit(std::function<Outcome()> job);
  void forget(const std::string& folder);
  double slowest_slice() const;
  void tell_slow();
};

namespace {

// Ends a write where the job ends.
class Interruptible : public FileWriter {
 public:
  Interruptible(FileWriter& inner, std::function<void()> check)
      : inner_(inner), check_(std::move(check)) {}
  void write(const void* data, i64 bytes) override {
    check_();
    inner_.write(data, bytes);
  }
  void sync() override { inner_.sync(); }
  void close() override { inner_.close(); }

 private:
  FileWriter& inner_;
  std::function<void()> check_;
};

}  // namespace

void Saver::State::pause(double seconds) {
  std::unique_lock<std::mutex> lock(mutex);
  changed.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return ending; });
}

void Saver::State::check_wanted() {
  std::lock_guard<std::mutex> lock(mutex);
  if (ending) fail(Exit::storage, "the job ends");
}

// The thread. A job that fails is an outcome, never the end of the process.
void Saver::State::run() {
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    changed.wait(lock, [&] { return ending || !jobs.empty(); });
    if (ending) break;
    const Work work = std::move(jobs.front());
    jobs.pop_front();
    lock.unlock();
    Outcome result;
    try {
      result = work.run();
    } catch (const std::exception& e) {
      result.error = e.what();
    }
    lock.lock();
    if (!work.waited_for) continue;
    outcome = result;
    outcome.ready = true;
    changed.notify_all();
  }
  jobs.clear();   // they hold this object
  ended = true;
  changed.notify_all();
}

void Saver::State::submit(std::function<Outcome()> job) {
  std::lock_guard<std::mutex> lock(mutex);
  outcome = Outcome();
  jobs.push_back({std::move(job), true});
  changed.notify_all();
}

// A temporary folder that came to nothing.
void Saver::State::forget(const std::string& folder) {
  try {
    if (files.exists(folder)) files.remove(folder);
  } catch (const Error& e) {
    log::warn("an unfinished checkpoint is left behind: {}", e.what());
  }
}

double Saver::State::slowest_slice() const {
  return *std::max_element(slice_seconds.begin(), slice_seconds.end());
}

// Names the rank whose storage the others waited for.
void Saver::State::tell_slow() {
  if (rank != 0 || slice_seconds.size() < 2) return;
  const double most = slowest_slice();
  std::vector<double> others = slice_seconds;
  const auto worst = std::max_element(others.begin(), others.end());
  const i64 slow = worst - others.begin();
  others.erase(worst);
  const double usual = upper_median(others);
  if (most < slow_slice_s || most < slow_ratio * usual) return;
  const double now = seconds_now();
  if (slow == slow_rank && now - slow_told < told_again_s) return;
  slow_rank = slow;
  slow_told = now;
  log::warn("rank {}: slow storage: its slice of the checkpoint of step {}, {}, took {}; the "
            "median of the other ranks is {}", slow, content.step,
            human_bytes(slices[static_cast<std::size_t>(slow)].bytes), human_seconds(most),
            human_seconds(usual));
}

Saver::Saver(Files& files, Communicator& ranks, Device& device, std::vector<NamedTensor> tensors,
             SaverConfig config)
    : state_(std::make_shared<State>(files, ranks, device, std::move(tensors),
                                     std::move(config))) {
  std::thread([state = state_] { state->run(); }).detach();
}

Saver::~Saver() {
  std::unique_lock<std::mutex> lock(state_->mutex);
  state_->ending = true;
  state_->changed.notify_all();
  // Where the storage hangs the process ends with the thread in it.
  state_->changed.wait_for(lock, std::chrono::duration<double>(patience_s),
                           [&] { return state_->ended; });
}

i64 Saver::slice_bytes() const { return state_->snapshot.bytes(); }
bool Saver::busy() const { return state_->stage != Stage::idle; }
i64 Saver::last_step() const { return state_->last_step; }
void Saver::forget_last() { state_->last_step = -1; }
const std::string& Saver::last_error() const { return state_->last_error; }
const SaverTotals& Saver::totals() const { return state_->totals; }

void Saver::begin(const Content& content) {
  State& s = *state_;
  COHORT_CHECK(s.stage == Stage::idle, "a checkpoint is being written already");
  s.begun = seconds_now();
  s.snapshot.take();
  s.totals.copied_s += seconds_now() - s.begun;
  s.content = content;
  s.tries = 0;
  s.given = content.step;
  start_slices();
}

void Saver::start_slices() {
  State& s = *state_;
  s.stage = Stage::slices;
  const std::string before = s.temporary;
  s.temporary = fmt::format("{}.tmp-{}-{}", s.folder(), s.config.attempt, s.tries);
  const double backoff =
      s.tries == 0 ? 0
                   : std::min(longest_backoff_s,
                              s.config.backoff_s * static_cast<double>(i64{1} << std::min<i64>(
                                                                           s.tries - 1, 30)));
  const Slice& slice = s.slices[static_cast<std::size_t>(s.rank)];
  const bool again = s.tries > 0;
  s.submit([state = state_, before, again, backoff, &slice, temporary = s.temporary] {
    State& t = *state;
    if (again && t.rank == 0) t.forget(before);
    if (backoff > 0) t.pause(backoff);
    Outcome out;
    const double since = seconds_now();
    try {
      t.check_wanted();
      t.files.make_folder(parent_of(temporary));
      t.files.make_folder_exclusive(temporary);
      out.entry = write_file(t.files, temporary, slice.file, [&](FileWriter& file) {
        Interruptible writer(file, [&t] { t.check_wanted(); });
        write_safetensors(writer, t.snapshot.tensors());
      });
      out.seconds = seconds_now() - since;
      out.not_finite = not_finite(t.snapshot.tensors());
      out.ok = true;
    } catch (const Error& e) {
      const i64 free = t.files.free_bytes(parent_of(temporary));
      out.error = fmt::format("{}; this rank's slice takes {}, the checkpoint {}, {} free", e.what(),
                              human_bytes(slice.bytes), human_bytes(t.total_bytes),
                              free < 0 ? "unknown" : human_bytes(free) + " are");
    }
    return out;
  });
}

void Saver::start_completion(const std::vector<std::string>& all) {
  State& s = *state_;
  s.stage = Stage::completion;
  if (s.rank != 0) return;
  CheckpointParts parts;
  parts.folder = s.folder();
  parts.tensors = &s.tensors;
  parts.state = s.content.state;
  parts.attempt = s.config.attempt;
  for (const std::string& text : all) {
    const json one = json::parse(text);
    parts.files.push_back({one.at("name"), one.at("bytes"), one.at("checksum")});
    for (const json& name : one.at("not_finite")) parts.not_finite.push_back(name);
  }
  const bool second = s.tries > s.config.retries;
  s.submit([state = state_, parts, second, temporary = s.temporary,
            retention = s.content.retention]() mutable {
    State& t = *state;
    Outcome out;
    bool newest = true;
    parts.allow = [&] {
      try {
        newest = !t.config.still_newest || t.config.still_newest();
      } catch (const Error&) {
        if (!second) throw;   // the run's folder cannot be read, which is why there is a second place
      }
      return newest;
    };
    try {
      t.check_wanted();
      complete_checkpoint(t.files, temporary, parts);
      out.ok = true;
    } catch (const Error& e) {
      out.error = e.what();
      out.fenced = !newest;
      return out;
    }
    try {   // what follows may fail: the checkpoint exists
      const std::string parent = parent_of(parts.folder);
      write_atomically(t.files, parent + "/latest", checkpoint_name(t.content.step) + "\n");
      prune(t.files, parent, retention);
    } catch (const Error& e) {
      log::warn("{} is written; around it: {}", parts.folder, e.what());
    }
    return out;
  });
}

Saver::Word Saver::word() const {
  State& s = *state_;
  if (s.stage == Stage::idle || (s.stage == Stage::completion && s.rank != 0)) return {};
  std::lock_guard<std::mutex> lock(s.mutex);
  if (!s.outcome.ready) return {};
  return s.outcome.ok ? Word{1, 0} : Word{0, 1};
}

void Saver::note(i64 step, i64 given, const Word& sums) {
  State& s = *state_;
  if (s.stage == Stage::idle || step <= s.given) return;
  const double expected = s.stage == Stage::slices ? s.ranks.size() : 1;
  if (sums.written + sums.failed >= expected) advance(given);
}

bool Saver::wait(i64 given) {
  State& s = *state_;
  const double since = seconds_now();
  while (s.stage != Stage::idle) advance(given);
  s.totals.waited_s += seconds_now() - since;
  return s.good;
}

void Saver::wait_for_job() {
  State& s = *state_;
  std::unique_lock<std::mutex> lock(s.mutex);
  s.changed.wait(lock, [&] { return s.outcome.ready; });
}

// Exchanges the outcomes of a phase and goes on to the next. Collective; waits for this rank's job.
void Saver::advance(i64 given) {
  State& s = *state_;
  const bool mine = s.stage == Stage::slices || s.rank == 0;
  if (mine) wait_for_job();
  const Outcome& o = s.outcome;
  json out = json::object();
  if (mine) {
    out = {{"error", o.ok ? "" : o.error}, {"fenced", o.fenced}, {"name", o.entry.name},
           {"bytes", o.entry.bytes}, {"checksum", o.entry.checksum}, {"seconds", o.seconds},
           {"not_finite", o.not_finite}};
  }
  const std::vector<std::string> all =
      s.ranks.all_gather(out.dump(-1, ' ', false, json::error_handler_t::replace));
  s.given = given;
  std::string errors;
  i64 bad = 0;
  if (s.stage == Stage::slices) s.slice_seconds.assign(all.size(), 0);
  for (std::size_t r = 0; r < all.size(); ++r) {
    const json one = json::parse(all[r]);
    const std::string error = one.value("error", "");
    if (s.stage == Stage::slices) s.slice_seconds[r] = one.value("seconds", 0.0);
    if (one.value("fenced", false)) {
      s.stage = Stage::idle;
      fail(Exit::storage, "step {}: checkpoint: {}", s.content.step, error);
    }
    if (error.empty() || ++bad > 3) continue;
    errors += fmt::format("{}rank {}: {}", errors.empty() ? "" : "; ", r, error);
  }
  if (bad > 3) errors += fmt::format("; and {} ranks more", bad - 3);
  if (bad > 0) return failed(errors);
  if (s.stage == Stage::slices) {
    s.tell_slow();
    return start_completion(all);
  }
  s.stage = Stage::idle;
  s.good = true;
  s.totals.slices_s += s.slowest_slice();
  s.last_step = s.content.step;
  const double seconds = seconds_now() - s.begun;
  ++s.totals.written;
  s.totals.bytes += s.total_bytes;
  s.totals.writing_s += seconds;
  if (s.rank == 0)
    log::info("checkpoint of step {}: {} in {}", s.content.step, human_bytes(s.total_bytes),
              human_seconds(seconds));
}

void Saver::failed(const std::string& what) {
  State& s = *state_;
  s.last_error = what;
  ++s.tries;
  const bool again = s.tries <= s.config.retries;
  const bool elsewhere = s.tries == s.config.retries + 1 && !s.config.second.empty();
  if (s.rank == 0)
    log::warn("step {}: checkpoint not written: {}; {}", s.content.step, what,
              again       ? fmt::format("try {} of {} follows", s.tries, s.config.retries)
              : elsewhere ? "trying " + s.config.second
                          : "given up, training goes on; older checkpoints are untouched");
  if (again || elsewhere) return start_slices();
  s.stage = Stage::idle;
  s.good = false;
  ++s.totals.given_up;
  if (s.rank != 0) return;
  std::lock_guard<std::mutex> lock(s.mutex);
  s.jobs.push_back({[state = state_, temporary = s.temporary] {
                      state->forget(temporary);
                      return Outcome();
                    },
                    false});
  s.changed.notify_all();
}

}  // namespace cohort
