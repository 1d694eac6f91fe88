#include "app/bench_time.h"

#include <algorithm>

#include "base/median.h"
#include "base/text.h"

namespace cohort {
namespace {

PlanConfig plan_config(const BenchCase& bench) {
  PlanConfig config;
  config.global_batch = config.rows = bench.batch;
  config.train = true;
  config.optimizer = bench.optimizer;
  return config;
}

// Gives steps to a plan, as training does: as many ahead as it likes.
class Stepper {
 public:
  Stepper(const BenchCase& bench, Plan& plan) : plan_(plan) {
    for (u64 k = 0; k < 8; ++k) {
      batches_.push_back(make_bench_batch(bench, k));
      sparse_.push_back(bench_sparse_rows(bench, batches_.back()));
    }
  }
  // Seconds of one step of `count`, all of them done at the end.
  double run(int count) {
    const double before = seconds_now();
    for (int k = 0; k < count; ++k) give();
    while (begun_ > 0) finish();
    return (seconds_now() - before) / count;
  }
  double host_seconds = 0;   // since it was last set
  StepTime totals;

 private:
  void give() {
    const double before = seconds_now();
    const std::size_t at = static_cast<std::size_t>(totals.steps++) % batches_.size();
    plan_.begin(batches_[at], sparse_[at], {}, nullptr, 1e-3);
    host_seconds += seconds_now() - before;
    ++begun_;
    while (begun_ > plan_.ahead()) finish();
  }
  void finish() {
    if (plan_.finish(nullptr).skipped) ++totals.skipped;
    --begun_;
  }

  Plan& plan_;
  std::vector<Batch> batches_;
  std::vector<std::vector<SparseRows>> sparse_;
  i64 begun_ = 0;
};

// Returns when what was given to the device before is done.
void settle(Device& device, const void* data) {
  char byte = 0;
  device.copy_out(&byte, data, 1);
}

struct Gemm {
  Graph graph;
  Node node;
  std::unique_ptr<Kernel> kernel;
  const void* out = nullptr;
};

// A dense layer of n vectors, n features and n units, forward.
void make_gemm(Device& device, i64 n, Gemm& gemm) {
  gemm.graph.values = {{"x", {n}}, {"y", {n}}};
  gemm.node.name = "gemm";
  gemm.node.op = Dense{n, false, Activation::none};
  gemm.node.in = {0};
  gemm.node.out = {1};
  Call call;
  call.node = &gemm.node;
  call.graph = &gemm.graph;
  call.rows = n;
  Scalars scalars;
  scalars.valid = n;
  void* staged = device.allocate(sizeof(scalars));
  device.copy_in(staged, &scalars, sizeof(scalars));
  call.scalars = static_cast<const Scalars*>(staged);
  const auto matrix = [&](DType type) {
    View view{nullptr, type, {n, n}};
    view.data = device.allocate(view.bytes());
    return view;
  };
  call.in = {matrix(device.activation())};
  call.out = {matrix(device.activation())};
  call.param = {matrix(device.real())};
  call.lengths = {View{}};
  const Needs needs = device.needs(call);
  call.saved = View{device.allocate(std::max<i64>(64, needs.saved)), DType::u8, {needs.saved}};
  call.scratch = View{device.allocate(std::max<i64>(64, needs.scratch)), DType::u8, {needs.scratch}};
  gemm.kernel = device.compile(call);
  gemm.out = call.out[0].data;
}

// Seconds of one product: the best of a few groups.
double gemm_seconds(Device& device, const Gemm& gemm) {
  constexpr int group = 4;
  double best = 1e9;
  for (int k = 0; k < 6; ++k) {
    const double before = seconds_now();
    for (int i = 0; i < group; ++i) gemm.kernel->run();
    settle(device, gemm.out);
    best = std::min(best, (seconds_now() - before) / group);
  }
  return best;
}

}  // namespace

BenchPlan::BenchPlan(const BenchCase& bench, Device& device)
    : state(device, bench.graph, row_capacities(bench.graph, bench.batch), true),
      plan(device, bench.graph, state, plan_config(bench)) {
  state.initialise(1);
}

StepTime time_steps(const BenchCase& bench, Device& device, double budget) {
  BenchPlan made(bench, device);
  Stepper stepper(bench, made.plan);
  stepper.run(5);
  const double one = std::max(1e-6, stepper.run(1));
  const int group = static_cast<int>(std::clamp(budget / one / 5, 1.0, 2000.0));
  std::vector<double> seconds, host;
  for (int g = 0; g < 5; ++g) {
    stepper.host_seconds = 0;
    seconds.push_back(stepper.run(group));
    host.push_back(stepper.host_seconds / group);
  }
  StepTime time = stepper.totals;
  time.seconds = upper_median(seconds);
  time.host_seconds = upper_median(host);
  time.launches = made.plan.launches();
  return time;
}

// Larger until one product takes long enough to be timed well.
double gemm_ceiling(Device& device) {
  double rate = 0;
  for (i64 n = 256; n <= 8192; n *= 2) {
    Gemm gemm;
    make_gemm(device, n, gemm);
    const double seconds = gemm_seconds(device, gemm);
    rate = std::max(rate, 2.0 * static_cast<double>(n * n * n) / seconds);
    if (seconds > 1e-3) break;
  }
  return rate;
}

double copy_ceiling(Device& device) {
  constexpr i64 bytes = 64 << 20;   // from and to: more than caches hold
  char* from = static_cast<char*>(device.allocate(2 * bytes));
  double best = 1e9;
  for (int k = 0; k < 7; ++k) {
    const double before = seconds_now();
    device.copy(from + bytes, from, bytes);
    settle(device, from);
    best = std::min(best, seconds_now() - before);
  }
  return 2 * static_cast<double>(bytes) / best;
}

}  // namespace cohort
