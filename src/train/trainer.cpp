#include "train/trainer.h"

#include <atomic>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/build.h"
#include "base/env.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "comm/watched.h"
#include "train/trainer_impl.h"
#include "train/warm_start.h"

namespace cohort {
namespace {

std::atomic<bool> stop_requested{false};

}  // namespace

void request_stop() { stop_requested.store(true, std::memory_order_relaxed); }
bool stop_is_requested() { return stop_requested.load(std::memory_order_relaxed); }

namespace {

std::vector<ChaosEvent> chaos_of(const TrainOptions& options) {
  return options.chaos.empty() ? std::vector<ChaosEvent>() : parse_chaos(options.chaos);
}

}  // namespace

Trainer::Trainer(World& world, const Experiment& experiment, const TrainOptions& options)
    : chaos(chaos_of(options), world.communicator().rank(), world.communicator().size()),
      faulty(chaos.faulty(real_files())), files(faulty ? *faulty : real_files()),
      status(world.status()), session(open_session(world, experiment)), ranks(session.ranks()),
      run(open_run(options.mode)), ledger(static_cast<i64>(session.shards->shards().size())) {
  const TrainConfig& c = session.experiment.train;
  batch = session.experiment.global_batch(ranks.size());
  const i64 rows = session.shards->rows(session.experiment.data.split);
  if (rows == 0)
    fail(Exit::data, "{}: split '{}' has no rows; check the recipe's split",
         session.shards->path(), session.experiment.data.split);
  steps_per_epoch = (rows + batch - 1) / batch;
  total = steps_per_epoch * c.epochs;
  if (c.max_steps > 0) total = std::min(total, c.max_steps);
  state = std::make_unique<ModelState>(*session.device, *session.graph,
                                       row_capacities(*session.graph, batch), true);
  if (session.experiment.optimizer.ema > 0) state->keep_average();
  plan = std::make_unique<Plan>(*session.device, *session.graph, *state, training_plan(session));
  std::vector<View> summed = {state->grads};
  for (const TableState& table : state->tables) summed.push_back(table.grad);
  reducer = make_reducer(session, summed);
  open_watch();
  make_saver();
  open_handoff(options.handoff);
}

RunFolder Trainer::open_run(RunMode mode) {
  const std::string opened = on_rank_0(ranks, [&] {
    const RunFolder folder =
        RunFolder::open(files, session.experiment.runs, session.experiment.name, mode);
    return fmt::format("{} {}", folder.attempt(), folder.path());
  });
  const std::size_t space = opened.find(' ');
  const i64 attempt = parse_i64(opened.substr(0, space)).value_or(0);
  return RunFolder::join(files, opened.substr(space + 1), attempt);
}

void Trainer::begin() {
  const Experiment& e = session.experiment;
  log::open_file(run.log_path(ranks.rank()));
  RunFacts facts;
  facts.build = build_id();
  facts.device = session.device->describe();
  facts.data_hash = session.shards->fingerprint();
  facts.hosts = ranks.all_gather(host_name());
  facts.ranks = ranks.size();
  facts.seed = e.train.seed;
  state->initialise(e.train.seed);
  if (ranks.size() > 1)
    replicas = std::make_unique<ReplicaCheck>(*session.device, state->tensors());
  on_rank_0(ranks, [&] { return chaos.before_resume(run.checkpoints()), ""; });
  if (!resume())
    warm_start(files, session, *state);
  else if (ranks.rank() == 0 && !e.init.from.empty())
    log::info("init.from ({}) is not read again: the run goes on from its own checkpoint", e.init.from);
  open_records();
  on_rank_0(ranks, [&] {
    run.write_config(e.text());
    run.begin(facts);
    for (const std::string& folder : folders) remove_leftovers(files, folder);
    events = std::make_unique<EventFile>(files, run.path(), run.attempt(), unix_time());
    return "";
  });
  log::info("{}: {} ranks ({}), {}, {} rows, {} steps an epoch, {} steps in all", run.path(),
            ranks.size(), session.world->kind(), facts.device,
            session.shards->rows(e.data.split), steps_per_epoch, total);
  Plan::Memory memory = plan->memory();
  memory.snapshot = saver->slice_bytes();
  log::info("ranks:{}", placement(session, memory));
  log::info("{} (rank {})", to_text(memory), ranks.rank());
  if (e.optimizer.ema > 0)
    log::info("evaluation takes the averages of the weights (optimizer.ema {}), as will eval, "
              "predict and export", e.optimizer.ema);
  log::debug("{}", plan->print());
  begin_watch();
  hand_over();   // what an earlier attempt has left
  began = seconds_now();
}

void Trainer::start_clocks() {
  started = window_started = last_save = step_began = seconds_now();
  comm_seconds = window_waited = window_comm = 0;
  timed = window_steps = 0;
}

std::optional<Exit> Trainer::loop() {
  given = step;
  start_clocks();
  Feed feed(feed_options(), watch_row_waits(ranks.duplicate(), status));
  Progress progress(stderr_is_terminal(), session.experiment.train.log_every_steps);
  if (evaluation_due) evaluate_resumed();
  while (step < total && !stopping && !stopped_early) {
    begin_step(feed);
    // A step may run while the host prepares the next, but not over an edge where state is read.
    while (step < given && (given - step > plan->ahead() || is_edge(given) || wants_edge())) {
      const StepResult result = finish_step();
      report(result, feed.waited_seconds(), progress);
      heed(result);
    }
    if (step < given) continue;
    restore_weights();
    if (rolling_back) {
      progress.finish();
      return {};
    }
    if (compares_replicas(step)) replicas->compare(ranks, step);
    enter(Phase::evaluation);
    if (step % steps_per_epoch == 0) end_epoch();
    enter(Phase::checkpoint);
    save_if_due();
  }
  enter(Phase::end);
  progress.finish();
  return stopping ? Exit::stopped : Exit::done;
}

// The evaluation that an attempt left when it was asked to stop, and the step's checkpoint anew.
void Trainer::evaluate_resumed() {
  enter(Phase::evaluation);
  evaluate_epoch();
  if (stopping) return;
  enter(Phase::checkpoint);
  resumed_at = -1;
  save_owed = true;
  save_if_due();
}

// Whether state is read after this many steps, by the config alone: an evaluation or a checkpoint.
bool Trainer::is_edge(i64 steps) const {
  const i64 every = session.experiment.checkpoint.every_steps;
  return steps == total || steps % steps_per_epoch == 0 || (every > 0 && steps % every == 0) ||
         compares_replicas(steps) ||
         chaos.is_edge(steps, first_step);
}

namespace {

// What is lost in a step is told with the step.
template <class Work>
auto in_step(i64 step, Work work) {
  try {
    return work();
  } catch (const Error& e) {
    if (e.exit_code() != Exit::lost) throw;
    fail(Exit::lost, "step {}: {}", step, e.what());
  }
}

}  // namespace

void Trainer::begin_step(Feed& feed) {
  enter(Phase::rows);
  FeedItem item = feed.next();
  enter(Phase::compute);
  rehearse(item);
  const double rate = learning_rate(given);
  std::vector<double> requests(Requests::count, 0);
  requests[Requests::stop] = stop_is_requested() ? 1 : 0;
  requests[Requests::save] = save_time_is_up() ? 1 : 0;
  const Saver::Word word = saver->word();
  requests[Requests::written] = word.written;
  requests[Requests::failed] = word.failed;
  in_step(given + 1, [&] {
    plan->begin(item.batch, item.sparse, requests, reducer.get(), rate);
  });
  dawdle();
  Ledger rows(static_cast<i64>(ledger.lines().size()));
  rows.add(item.batch);
  begun.push_back({std::move(rows), std::move(item)});
  ++given;
}

StepResult Trainer::finish_step() {
  enter(Phase::device);
  const StepResult result = in_step(step + 1, [&] { return plan->finish(reducer.get()); });
  status.device_worked(result.device_seconds);
  account(begun.front(), result);
  begun.pop_front();
  ++step;
  count_time(result);
  ++timed;
  comm_seconds += result.comm_seconds;
  return result;
}

double Trainer::learning_rate(i64 steps_done) const {
  return rate_factor * learning_rate_at(session.experiment.optimizer, steps_done, total);
}

Feed::Options Trainer::feed_options() const {
  return {training_rows(session), step / steps_per_epoch, step % steps_per_epoch, total - step,
          sparse_inputs(*session.graph)};
}

void Trainer::account(const BegunStep& done, const StepResult& result) {
  for (std::size_t s = 0; s < ledger.lines().size(); ++s) {
    const Ledger::Line& more = done.rows.lines()[s];
    Ledger::Line& line = ledger.lines()[s];
    (result.skipped ? line.skipped : line.used) += more.used;
    if (!result.skipped) line.sum += more.sum;
  }
  if (rolling_back) return;   // the step is undone
  if (!result.skipped) {
    bad_steps = 0;
    return;
  }
  ++bad_steps;
  ++skipped_steps;
  tell_skipped(done, result);
  if (bad_steps >= session.experiment.train.nonfinite_limit) give_up_or_roll_back();
}

void Trainer::report(const StepResult& result, double waited, Progress& progress) {
  const double now = seconds_now();
  const double rate = learning_rate(step - 1);
  const i64 every = session.experiment.train.log_every_steps;
  if (ranks.rank() != 0) return;
  ProgressState s;
  s.epoch = (step - 1) / steps_per_epoch;
  s.epochs = session.experiment.train.epochs;
  s.step = step;
  s.steps = total;
  s.loss = result.loss;
  s.total_seconds = now - started;
  s.data_seconds = waited;
  s.comm_seconds = comm_seconds;
  s.steps_timed = timed;
  s.samples_per_s = static_cast<double>(batch * timed) / std::max(1e-9, s.total_seconds);
  progress.show(s, now);
  if (step % every != 0 && step != total) return;
  enter(Phase::records);
  TrainLine line{run.attempt(), ranks.size(), step, s.epoch, result.loss, rate, result.grad_norm,
                 0, 0, 0, skipped_steps, rollbacks, unix_time()};
  line.samples_per_s =
      static_cast<double>(batch * (timed - window_steps)) / std::max(1e-9, now - window_started);
  line.data_wait = waited - window_waited;
  line.comm_exposed = comm_seconds - window_comm;
  metrics->add(line);
  epochs->retry();
  events->scalar("train/loss", result.loss, step, line.time);
  events->scalar("train/learning_rate", rate, step, line.time);
  events->scalar("train/samples_per_s", line.samples_per_s, step, line.time);
  window_started = now;
  window_steps = timed;
  window_waited = waited;
  window_comm = comm_seconds;
}

Exit train(World& world, const Experiment& experiment, const TrainOptions& options) {
  Trainer trainer(world, experiment, options);
  try {
    trainer.begin();
    std::optional<Exit> outcome = trainer.loop();
    while (!outcome) {
      trainer.roll_back();
      outcome = trainer.loop();
    }
    trainer.finish(*outcome);
    return *outcome;
  } catch (const Error& e) {
    trainer.note_failure(e);
    throw;
  }
}

}  // namespace cohort
