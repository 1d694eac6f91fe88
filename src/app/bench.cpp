#include "app/bench.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "app/bench_cases.h"
#include "base/error.h"
#include "base/text.h"

namespace cohort {
namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// GB/s of copying 64 MiB (read and written bytes both count).
double copy_ceiling() {
  std::vector<char> from(64 << 20, 1), to(64 << 20, 2);
  std::vector<double> seconds;
  for (int k = 0; k < 7; ++k) {
    const double before = seconds_now();
    std::memcpy(to.data(), from.data(), from.size());
    seconds.push_back(seconds_now() - before);
  }
  return 2 * static_cast<double>(from.size()) / *std::min_element(seconds.begin(), seconds.end()) /
         1e9;
}

// FLOP/s of one large dense layer forward: what this machine's matrix product reaches here.
double gemm_ceiling(Device& device) {
  const i64 n = 1024;
  Graph graph;
  graph.values = {{"x", {n}}, {"y", {n}}};
  Node node;
  node.name = "gemm";
  node.op = Dense{n, false, Activation::none};
  node.in = {0};
  node.out = {1};
  Call call;
  call.node = &node;
  call.graph = &graph;
  call.rows = n;
  Scalars scalars;
  scalars.valid = n;
  void* staged = device.allocate(sizeof(scalars));
  device.copy_in(staged, &scalars, sizeof(scalars));
  call.scalars = static_cast<const Scalars*>(staged);
  for (auto* list : {&call.in, &call.out, &call.param}) {
    list->push_back(View{nullptr, device.real(), {n, n}});
    list->back().data = device.allocate(list->back().bytes());
  }
  call.lengths = {View{}};
  const Needs needs = device.needs(call);
  call.saved = View{device.allocate(std::max<i64>(64, needs.saved)), DType::u8, {needs.saved}};
  call.scratch = View{device.allocate(std::max<i64>(64, needs.scratch)), DType::u8, {needs.scratch}};
  const auto kernel = device.compile(call);
  double best = 1e9;
  for (int k = 0; k < 20; ++k) {
    const double before = seconds_now();
    kernel->run();
    best = std::min(best, seconds_now() - before);
  }
  return 2.0 * static_cast<double>(n * n * n) / best;
}

// Seconds of a training step: the median of groups of steps over 8 different batches.
double step_seconds(const BenchCase& bench, Device& device, double budget) {
  ModelState state(device, bench.graph, row_capacities(bench.graph, bench.batch), true);
  state.initialise(1);
  PlanConfig config;
  config.global_batch = config.rows = bench.batch;
  config.train = true;
  Plan plan(device, bench.graph, state, config);
  std::vector<Batch> batches;
  std::vector<std::vector<SparseRows>> sparse;
  for (u64 k = 0; k < 8; ++k) {
    batches.push_back(make_bench_batch(bench, k));
    sparse.push_back(bench_sparse_rows(bench, batches.back()));
  }
  std::size_t at = 0;
  const auto step = [&] {
    plan.step(batches[at % 8], sparse[at % 8], {}, nullptr, 1e-3);
    ++at;
  };
  for (int k = 0; k < 5; ++k) step();
  double before = seconds_now();
  step();
  const double one = std::max(1e-6, seconds_now() - before);
  const int group = static_cast<int>(std::clamp(budget / one / 5, 5.0, 2000.0));
  std::vector<double> seconds;
  for (int g = 0; g < 5; ++g) {
    before = seconds_now();
    for (int k = 0; k < group; ++k) step();
    seconds.push_back((seconds_now() - before) / group);
  }
  return median(seconds);
}

}  // namespace

int run_bench(const BenchOptions& options) {
  CpuOptions cpu;
  cpu.threads = static_cast<int>(options.threads);
  cpu.isa = options.isa;
  const auto device = make_cpu_device(cpu);
  const double gemm = gemm_ceiling(*device);
  nlohmann::json report = {{"device", device->describe()}, {"threads", options.threads},
                           {"gemm_flop_per_s", gemm}, {"copy_gb_per_s", copy_ceiling()},
                           {"workloads", nlohmann::json::array()}};
  if (!options.json)
    fmt::print("{}; matrix product {}FLOP/s, copy {:.1f} GB/s\n{:<14} {:>7} {:>12} {:>9} {:>12} {:>8}\n",
               device->describe(), human_count(gemm), report["copy_gb_per_s"].get<double>(),
               "workload", "batch", "samples/s", "ms/step", "FLOP/s", "ceiling");
  for (const std::string& name : options.workloads.empty() ? bench_names() : options.workloads) {
    const BenchCase bench = make_bench_case(name);
    const double seconds = step_seconds(bench, *device, options.seconds);
    const double rate = flops_per_step(bench) / seconds;
    const double samples = static_cast<double>(bench.batch) / seconds;
    report["workloads"].push_back({{"workload", name}, {"batch", bench.batch},
                                   {"samples_per_s", samples}, {"ms_per_step", seconds * 1e3},
                                   {"flop_per_s", rate}, {"share_of_gemm", rate / gemm}});
    if (!options.json)
      fmt::print("{:<14} {:>7} {:>12.0f} {:>9.3f} {:>12} {:>7.0f}%\n", name, bench.batch, samples,
                 seconds * 1e3, human_count(rate), 100 * rate / gemm);
  }
  if (options.json) fmt::print("{}\n", report.dump());
  return 0;
}

}  // namespace cohort
