#include "app/bench.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "app/bench_cases.h"
#include "app/bench_time.h"
#include "base/error.h"
#include "base/text.h"
#include "comm/cuda_loader.h"

namespace cohort {
namespace {

// Of one H100, measured: what its floors are given in.
constexpr double gpu_bytes_per_s = 3.0e12;
constexpr double gpu_bf16_flops = 800e12;

bool on_gpu(const BenchOptions& options) { return options.device == "cuda"; }

std::unique_ptr<Device> make_bench_device(const BenchOptions& options) {
  if (on_gpu(options)) {
    CudaOptions cuda;
    cuda.precision = options.precision;
    cuda.graph = !options.no_graph;
    return cuda_module().make_device(cuda);
  }
  CpuOptions cpu;
  cpu.threads = static_cast<int>(options.threads);
  cpu.isa = options.isa;
  return make_cpu_device(cpu);
}

std::vector<std::string> wanted(const BenchOptions& options) {
  if (!options.workloads.empty()) return options.workloads;
  return bench_names();
}

StepCost least_cost(const BenchCase& bench, i64 value_bytes, std::vector<StepCost>* list) {
  CostInputs inputs;
  inputs.graph = &bench.graph;
  inputs.rows = bench.batch;
  inputs.value_bytes = value_bytes;
  inputs.optimizer = bench.optimizer;
  *list = count_costs(inputs);
  return total_of(*list);
}

i64 value_bytes_of(const BenchOptions& options) {
  return options.precision == "bf16" || options.precision == "f16" ? 2 : 4;
}

// What a step of each workload costs at least, and how fast that would be on the GPU above.
int print_floors(const BenchOptions& options) {
  nlohmann::json report = nlohmann::json::array();
  if (!options.json)
    fmt::print("{:<14} {:>7} {:>10} {:>10} {:>11} {:>11} {:>11} {:>12}\n", "workload", "batch",
               "GFLOP", "MB moved", "ms (FLOP)", "ms (bytes)", "ms (both)", "samples/s");
  for (const std::string& name : wanted(options)) {
    const BenchCase bench = make_bench_case(name, on_gpu(options), options.batch);
    std::vector<StepCost> list;
    const StepCost total = least_cost(bench, value_bytes_of(options), &list);
    const double moved = total.read + total.written;
    const double seconds = roofline_seconds(list, gpu_bf16_flops, gpu_bytes_per_s);
    const double samples = static_cast<double>(bench.batch) / seconds;
    report.push_back({{"workload", name}, {"batch", bench.batch}, {"flop", total.flops},
                      {"bytes_read", total.read}, {"bytes_written", total.written},
                      {"seconds", seconds}});
    if (!options.json)
      fmt::print("{:<14} {:>7} {:>10.2f} {:>10.1f} {:>11.4f} {:>11.4f} {:>11.4f} {:>12.0f}\n", name,
                 bench.batch, total.flops / 1e9, moved / 1e6, 1e3 * total.flops / gpu_bf16_flops,
                 1e3 * moved / gpu_bytes_per_s, 1e3 * seconds, samples);
  }
  if (options.json) fmt::print("{}\n", report.dump());
  return 0;
}

int print_plans(const BenchOptions& options) {
  nlohmann::json report = nlohmann::json::array();
  for (const std::string& name : wanted(options)) {
    const auto device = make_bench_device(options);   // its memory lives as long
    const BenchCase bench = make_bench_case(name, on_gpu(options), options.batch);
    BenchPlan made(bench, *device);
    const StepCost total = total_of(made.plan.costs());
    const Launches l = made.plan.launches();
    report.push_back({{"workload", name}, {"batch", bench.batch}, {"flop", total.flops},
                      {"bytes_read", total.read}, {"bytes_written", total.written},
                      {"kernels", l.kernels}, {"copies", l.copies}, {"zeros", l.zeros}});
    if (options.json) continue;
    fmt::print("{}, batch {}, {}\n{}", name, bench.batch, device->describe(), made.plan.print());
    if (on_gpu(options))
      fmt::print("recorded step: {} kernels and library calls, {} copies, {} memsets\n", l.kernels,
                 l.copies, l.zeros);
    fmt::print("\n");
  }
  if (options.json) fmt::print("{}\n", report.dump());
  return 0;
}

nlohmann::json time_workload(const std::string& name, const BenchOptions& options, double gemm) {
  const auto device = make_bench_device(options);
  const BenchCase bench = make_bench_case(name, on_gpu(options), options.batch);
  const StepTime time = time_steps(bench, *device, options.seconds);
  std::vector<StepCost> list;
  const double rate = least_cost(bench, size_of(device->activation()), &list).flops / time.seconds;
  return {{"workload", name}, {"batch", bench.batch},
          {"samples_per_s", static_cast<double>(bench.batch) / time.seconds},
          {"ms_per_step", time.seconds * 1e3}, {"host_ms", time.host_seconds * 1e3},
          {"kernels", time.launches.kernels},
          {"flop_per_s", rate}, {"share_of_gemm", rate / gemm},
          {"steps", time.steps}, {"skipped", time.skipped}};
}

void print_line(const nlohmann::json& line) {
  const auto number = [&](const char* key) { return line.at(key).get<double>(); };
  fmt::print("{:<14} {:>7} {:>12.0f} {:>9.3f} {:>9.3f} {:>8} {:>12} {:>7.0f}%{}\n",
             line.at("workload").get<std::string>(), line.at("batch").get<i64>(),
             number("samples_per_s"), number("ms_per_step"), number("host_ms"),
             line.at("kernels").get<i64>(), human_count(number("flop_per_s")), 100 * number("share_of_gemm"),
             number("skipped") > 0
                 ? fmt::format(" {} of {} steps were not finite", number("skipped"), number("steps"))
                 : "");
}

nlohmann::json ceilings(const BenchOptions& options) {
  const auto device = make_bench_device(options);
  const double gemm = gemm_ceiling(*device);
  return {{"device", device->describe()}, {"threads", options.threads},
          {"gemm_flop_per_s", gemm}, {"copy_gb_per_s", copy_ceiling(*device) / 1e9},
          {"workloads", nlohmann::json::array()}};
}

int time_all(const BenchOptions& options) {
  nlohmann::json report = ceilings(options);
  const double gemm = report["gemm_flop_per_s"];
  if (!options.json)
    fmt::print("{}; matrix product {}FLOP/s, copy {:.1f} GB/s\n"
               "{:<14} {:>7} {:>12} {:>9} {:>9} {:>8} {:>12} {:>8}\n",
               report["device"].get<std::string>(), human_count(gemm),
               report["copy_gb_per_s"].get<double>(), "workload", "batch", "samples/s", "ms/step",
               "host ms", "kernels", "FLOP/s", "ceiling");
  for (const std::string& name : wanted(options)) {
    report["workloads"].push_back(time_workload(name, options, gemm));
    if (!options.json) print_line(report["workloads"].back());
  }
  if (options.json) fmt::print("{}\n", report.dump());
  return 0;
}

}  // namespace

int run_bench(const BenchOptions& options) {
  if (options.floor) return print_floors(options);
  if (!on_gpu(options) && options.precision != "f32")
    fail(Exit::usage, "bench: precision \"{}\" on a processor: expected f32; use --device cuda",
         options.precision);
  return options.plan ? print_plans(options) : time_all(options);
}

}  // namespace cohort
