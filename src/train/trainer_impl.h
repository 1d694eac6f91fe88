// The inside of the training loop: trainer.cpp runs it, trainer_*.cpp do the rest.
#pragma once
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "train/chaos.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/feed.h"
#include "train/handoff.h"
#include "train/ledger_file.h"
#include "train/metrics_log.h"
#include "train/progress.h"
#include "train/replicas.h"
#include "train/run_folder.h"
#include "train/saver.h"
#include "train/session.h"
#include "train/tensorboard.h"
#include "train/trainer.h"

namespace cohort {

// What a rank asks for in a step's control word; the sum over ranks is known to all after the step.
struct Requests {
  enum : std::size_t { stop, save, written, failed, count };   // at most five
};

// Given to the device and not finished. Its batch is kept, to find what was not finite in it.
struct BegunStep {
  Ledger rows;
  FeedItem item;
};

bool stop_is_requested();        // of this process, by request_stop()

struct Trainer {
  Trainer(World& world, const Experiment& experiment, const TrainOptions& options);
  void begin();
  std::optional<Exit> loop();    // nothing: the run has to go back
  void roll_back();
  void finish(Exit outcome);
  void note_failure(const Error& error) const;

  // trainer.cpp
  Feed::Options feed_options() const;
  RunFolder open_run(RunMode mode);
  void begin_step(Feed& feed);
  StepResult finish_step();
  void account(const BegunStep& done, const StepResult& result);
  double learning_rate(i64 steps_done) const;
  void start_clocks();
  void evaluate_resumed();
  void report(const StepResult& result, double waited, Progress& progress);
  bool is_edge(i64 steps) const;
  // trainer_nonfinite.cpp
  void tell_skipped(const BegunStep& done, const StepResult& result);
  void give_up_or_roll_back();
  std::string choose_checkpoint();
  void tell_totals() const;
  bool compares_replicas(i64 steps) const;
  // trainer_checkpoint.cpp
  void make_saver();
  void open_records();
  void finish_records() const;
  bool resume();   // whether there was a checkpoint
  nlohmann::json load_state();
  void take_state(const nlohmann::json& saved);
  void check_resumable(const nlohmann::json& saved) const;
  void check_averages(const LoadedCheckpoint& loaded) const;
  nlohmann::json state_json() const;
  bool wants_edge() const;
  void heed(const StepResult& result);
  bool save_time_is_up() const;
  void save_if_due();
  void checkpoint();
  void tell_checkpoints() const;
  // trainer_handoff.cpp
  void open_handoff(const HandoffMaker& maker);
  bool wants_handoff() const;
  void hand_over();
  void begin_handoff(i64 at);
  std::vector<i64> handoffs_not_done() const;
  void finish_handoff(Exit outcome);
  // trainer_state.cpp
  Ledger summed_ledger();
  void write_ledger();
  void end_epoch();
  void evaluate_epoch();
  bool evaluates(i64 steps) const;
  void judge(const EvalResult& result);
  void rank_evaluation(double value, bool larger);
  bool out_of_patience() const;

  // trainer_watch.cpp
  void open_watch();
  void begin_watch();
  void enter(Phase phase);
  void rehearse(FeedItem& item);
  void restore_weights();
  void dawdle();
  void count_time(const StepResult& result);
  void tell_effective_time() const;

  Chaos chaos;
  std::unique_ptr<Files> faulty;         // where a rehearsal wants the disk full
  Files& files;
  Status& status;
  Session session;
  Communicator& ranks;
  RunFolder run;
  Ledger ledger;                 // of the running epoch, this rank's rows
  i64 batch = 0, steps_per_epoch = 0, total = 0;
  std::unique_ptr<ModelState> state;
  std::unique_ptr<Reducer> reducer;      // null with one rank
  std::unique_ptr<Plan> plan;            // its recordings use the reducer
  std::deque<BegunStep> begun;
  std::unique_ptr<Evaluator> evaluator;
  std::unique_ptr<MetricsLog> metrics;   // rank 0
  std::unique_ptr<EventFile> events;     // rank 0
  std::unique_ptr<LedgerFile> epochs;    // rank 0: ledger.jsonl
  i64 step = 0;                  // done
  i64 given = 0;                 // to the device
  i64 bad_steps = 0;             // skipped in a row
  i64 skipped_steps = 0;         // of the run
  i64 rollbacks = 0;             // of the run
  double rate_factor = 1;        // of the learning rate, by rollbacks
  i64 last_skipped = 0;          // of the steps that the rollback is for
  bool rolling_back = false;     // all ranks know it
  i64 resumed_at = -1;           // step of the checkpoint that was read last
  i64 clean_save = -1;           // step of the newest checkpoint begun, or read, amid no skipped steps
  i64 good_save = -1;            // of the newest that a finite step followed: kept to go back to
  std::unique_ptr<ReplicaCheck> replicas;   // null with one rank
  double best = 0;               // of the early-stopping metric
  i64 best_step = -1, evaluations_since_best = 0;
  bool stopped_early = false;
  bool evaluation_due = false;   // of the epoch that ends with this step
  std::vector<std::string> folders;      // of checkpoints, in the order of preference
  std::unique_ptr<Saver> saver;
  std::vector<std::pair<double, i64>> ranking;   // the best evaluations and their steps, best first
  MetricValues last_metrics;     // of the last evaluation of this attempt
  double last_loss = 0;
  std::unique_ptr<Handoff> handoff;      // rank 0
  std::vector<i64> handoff_due;  // steps whose checkpoints are to be handed over, ascending
  bool stopping = false;         // all ranks know that one was asked to stop
  bool save_owed = false;        // a checkpoint is due; all ranks know it
  double last_save = 0;
  double began = 0;              // this attempt's first step
  double started = 0, comm_seconds = 0;   // since the attempt or the last rollback
  double window_started = 0, window_waited = 0, window_comm = 0;
  i64 timed = 0, window_steps = 0;
  i64 first_step = 1;            // of this attempt
  Phase phase_now = Phase::start;
  double productive_seconds = 0; // in steps that count, of all attempts
  double step_began = 0, busy_before = 0;
  std::unique_ptr<HostTensors> weights;   // to restore after a rehearsed step
};

}  // namespace cohort
