// What the loop tells the watchdog, failures on purpose, and how much of the time training took.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/log.h"
#include "base/text.h"
#include "comm/watched.h"
#include "train/trainer_impl.h"
#include "train/watched_shards.h"

namespace cohort {
namespace {

template <class T>
void fill(u8* at, i64 values) {
  const T value = std::numeric_limits<T>::quiet_NaN();
  for (i64 i = 0; i < values; ++i)
    std::memcpy(at + i * static_cast<i64>(sizeof value), &value, sizeof value);
}

// False where the type has no such value.
bool poison(DType type, u8* at, i64 values) {
  if (type == DType::f32) fill<float>(at, values);
  else if (type == DType::f64) fill<double>(at, values);
  else return false;
  return true;
}

}  // namespace

// Once the run's folder is known, before anything is read.
void Trainer::open_watch() {
  chaos.open(real_files(), run.path());
  status.set_device(session.device->describe());
  session.shards = watch_reads(session.shards, status, [this] { return chaos.read_delay(); });
  reducer = watch_reducer(std::move(reducer), status);
}

// From here on steps are expected.
void Trainer::begin_watch() {
  first_step = step + 1;
  status.done(step);
}

void Trainer::enter(Phase phase) {
  if (is_long(phase_now)) step_began = seconds_now();
  phase_now = phase;
  status.enter(phase);
}

// A rehearsal's events of the step that is about to be given to the device.
void Trainer::rehearse(FeedItem& item) {
  chaos.before_step(given + 1, first_step);
  busy_before = status.busy_seconds();
  if (!chaos.poisons(given + 1, first_step)) return;
  const std::vector<Input>& inputs = session.graph->inputs;
  for (std::size_t i = 0; item.batch.valid > 0 && i < inputs.size(); ++i) {
    BatchColumn& column = item.batch.columns[i];
    if (inputs[i].ragged && column.lengths.at(0) == 0) continue;
    if (!column.data.empty() && poison(inputs[i].dtype, column.data.data(), 1)) return;
  }
  // Ids and bytes alone: the last weights then, until the step, which changes nothing, is done.
  HostTensors host = state->copy_to_host();
  weights = std::make_unique<HostTensors>(state->copy_to_host());
  for (const NamedView& tensor : host.views)
    if (tensor.name == session.graph->params.back().name)
      poison(tensor.view.dtype, tensor.view.as<u8>(), tensor.view.count());
  state->copy_from_host(host);
}

void Trainer::restore_weights() {
  if (!weights) return;
  state->copy_from_host(*weights);
  weights.reset();
}

// What a slow rank is slower: its time at work for the step that was just given away.
void Trainer::dawdle() {
  const double factor = chaos.slowness();
  if (factor <= 1) return;
  const double busy = status.busy_seconds() - busy_before;
  std::this_thread::sleep_for(std::chrono::duration<double>((factor - 1) * busy));
}

void Trainer::count_time(const StepResult& result) {
  const double now = seconds_now();
  if (!result.skipped) productive_seconds += now - step_began;
  step_began = now;
  status.done(step);
}

// The effective-training-time ratio: the share of the time since the run began that went into steps
// that count. Steps done again after a failure count once.
void Trainer::tell_effective_time() const {
  const double began = ranks.rank() == 0 ? run.began() : 0;
  const double wall = unix_time() - began;
  if (began <= 0 || wall <= 0) return;
  const double ratio = std::min(1.0, productive_seconds / wall);
  run.note({{"productive_seconds", productive_seconds},
            {"wall_seconds", wall},
            {"effective_time_ratio", ratio}});
  log::info("effective training time: {} of {} since the run began: {:.1f} %",
            human_seconds(productive_seconds), human_seconds(wall), 100 * ratio);
}

}  // namespace cohort
