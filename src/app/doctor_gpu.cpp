// GPUs: what each rank sees, the versions of the libraries, whether memory, products and convolutions
// are right and as fast as elsewhere, and sums over the ranks.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "app/doctor.h"
#include "base/log.h"
#include "base/median.h"
#include "base/text.h"
#include "comm/cuda_loader.h"
#include "device/self_test.h"

namespace cohort {
namespace {

using nlohmann::json;

constexpr i64 kMiB = i64{1} << 20, kGiB = i64{1} << 30;
constexpr i64 kOwn = 2 * kGiB;        // of a GPU that CUDA, its libraries and a workspace may take
constexpr double kSlower = 1.5;       // than the median GPU: told
constexpr int kSums = 4;              // the first is not timed
constexpr int kGrace = 15;            // seconds after which a test that does not end ends the process

const std::string kBroken = "leave this host or GPU out (hostfile, CUDA_VISIBLE_DEVICES) and have it "
                            "examined: dmesg, nvidia-smi -q -d ECC,PAGE_RETIREMENT, dcgmi diag -r 3";

bool driver_there() {
  std::error_code code;
  return std::filesystem::exists("/dev/nvidiactl", code) ||
         std::filesystem::exists("/proc/driver/nvidia/version", code);
}

// The module, or nothing: then a finding tells why.
const CudaModule* find_module(Doctor& d) {
  try {
    return &cuda_module();
  } catch (const Error& e) {
    if (driver_there()) {
      d.add({"GPU", Fitness::warn, fmt::format("there is an NVIDIA driver, but no module: {}", e.what()),
             "build the module, or train on the CPU (device.kind: cpu)"});
    } else {
      d.add({"GPU", Fitness::ok, "no GPU here, and no module for GPUs"});
    }
    return nullptr;
  }
}

// Ends the process where what the driver or a library does never returns, naming what it was.
class Guard {
 public:
  Guard(const Doctor& d, std::string what, double seconds) {
    const int rank = d.ranks().rank();
    thread_ = std::thread([this, seconds, text = fmt::format("{}: {} has not ended in {:.0f} s: {}",
                                                             d.hosts.place(rank), what, seconds,
                                                             kBroken)] {
      std::unique_lock lock(mutex_);
      if (ended_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return done_; })) return;
      log::error("{}", text);
      log::flush();
      ::_exit(static_cast<int>(Exit::usage));
    });
  }
  ~Guard() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    ended_.notify_all();
    thread_.join();
  }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool done_ = false;
  std::thread thread_;
};

// What a rank has, and what its tests found.
struct Mine {
  const CudaModule* module = nullptr;
  std::optional<Gpu> gpu;
  int index = -1;
  std::string device;                    // "GPU 0 (NVIDIA H100, 0000:3B:00.0)"
  bool wrong = false;                    // something that it computed or kept
  double in = 0, out = 0;                // bytes/s
  double f32 = 0, f16 = 0;               // FLOP/s
  double sums = 0;                       // bytes/s on each link: 2 (n - 1) / n of what is summed
};

Mine look(Doctor& d) {
  Mine mine;
  mine.module = find_module(d);
  if (!mine.module) return mine;
  const Guard guard(d, "asking the driver for its GPUs", d.options.gpu_seconds + kGrace);
  d.attempt("GPU", Exit::usage, [&] {
    const std::vector<Gpu> gpus = mine.module->gpus();
    if (gpus.empty()) {
      const std::string trouble = driver_there() ? mine.module->trouble() : "";
      d.add({"GPU", trouble.empty() ? Fitness::ok : Fitness::unfit,
             trouble.empty() ? "no GPU here" : "no GPU can be used: " + trouble,
             trouble.empty() ? "" : "see nvidia-smi; update the driver, or build with a CUDA that it "
                                    "supports"});
      return;
    }
    std::vector<std::string> names;
    for (const Gpu& gpu : gpus)
      names.push_back(fmt::format("{} ({}, {})", gpu.name, gpu.pci, human_bytes(gpu.memory)));
    d.add({"GPU", Fitness::ok, fmt::format("{}; {}", mine.module->versions(), join(names, ", "))});
    mine.index = d.world.local_rank() % static_cast<int>(gpus.size());
    mine.gpu = gpus[static_cast<std::size_t>(mine.index)];
    mine.device = fmt::format("GPU {} ({}, {})", mine.index, mine.gpu->name, mine.gpu->pci);
  });
  return mine;
}

struct Others {
  int with_gpu = 0;
  bool shared = false;                   // some ranks share a GPU
  bool i_share = false;
};

// Collective. Which ranks have a GPU, and which one for themselves.
Others compare_gpus(Doctor& d, const Mine& mine) {
  const std::vector<std::string> all = d.ranks().all_gather(mine.gpu ? mine.gpu->pci : "");
  Others others;
  std::map<std::string, std::vector<int>> ranks_of;
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (all[r].empty()) continue;
    ++others.with_gpu;
    ranks_of[d.hosts.of[r] + " " + all[r]].push_back(static_cast<int>(r));
  }
  const int rank = d.ranks().rank();
  for (const auto& [gpu, ranks] : ranks_of) {
    if (ranks.size() < 2) continue;
    others.shared = true;
    const bool one_of_them = std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
    others.i_share = others.i_share || one_of_them;
    if (ranks.front() != rank) continue;
    std::vector<std::string> names;
    for (int r : ranks) names.push_back(std::to_string(r));
    Finding f{"GPU sharing", Fitness::warn,
              fmt::format("ranks {} share {} of host {}", join(names, ", "), mine.device,
                          d.hosts.of[static_cast<std::size_t>(rank)]),
              "start one rank per GPU: mpirun --map-by ppr:<GPUs>:node, srun --ntasks-per-node=<GPUs>; "
              "training refuses it but for device.share_gpu: true"};
    f.of_job = true;
    d.add(std::move(f));
  }
  if (others.with_gpu > 0 && !mine.gpu)
    d.add({"GPU", Fitness::unfit, "this rank has no GPU, others have",
           "see nvidia-smi and CUDA_VISIBLE_DEVICES there; leave the host out, or train on the CPU "
           "(device.kind: cpu)"});
  return others;
}

void tell_wrong(Doctor& d, Mine& mine, const std::string& check, const std::string& wrong) {
  if (wrong.empty()) return;
  mine.wrong = true;
  d.add({check, Fitness::unfit, fmt::format("{}: {}", mine.device, wrong), kBroken});
}

void examine_memory(Doctor& d, const Mine& mine, const Others& others, i64 free) {
  const i64 used = mine.gpu->memory - free;
  if (others.i_share || used < kOwn) return;
  d.add({"GPU in use", Fitness::warn,
         fmt::format("{}: {} of {} are taken by others", mine.device, human_bytes(used),
                     human_bytes(mine.gpu->memory)),
         "see nvidia-smi for the process that holds it, and end it or take another GPU"});
}

// On this rank alone.
void test_device(Doctor& d, Mine& mine, const Others& others) {
  for (const char* precision : {"f32", "f16"}) {
    const bool first = precision == std::string("f32");
    const Guard guard(d, fmt::format("{}: a self-test in {}", mine.device, precision),
                      d.options.gpu_seconds + kGrace);
    CudaOptions options;
    options.index = mine.index;
    options.precision = precision;
    options.graph = false;
    const std::unique_ptr<Device> device = mine.module->make_device(options);
    if (first) {
      examine_memory(d, mine, others, mine.module->free_memory(*device));
      const MemoryTest memory = test_memory(*device, d.options.mib * kMiB);
      mine.in = memory.in;
      mine.out = memory.out;
      tell_wrong(d, mine, "GPU memory", memory.wrong);
    }
    const auto in_precision = [&](const std::string& wrong) {
      return wrong.empty() ? wrong : fmt::format("{}: {}", precision, wrong);
    };
    tell_wrong(d, mine, "GPU product", in_precision(test_product(*device)));
    tell_wrong(d, mine, "GPU convolution", in_precision(test_convolution(*device)));
    (first ? mine.f32 : mine.f16) = product_rate(*device);
  }
}

// Collective. Sums of whole numbers that float32 holds exactly, by NCCL.
void test_sums(Doctor& d, Mine& mine, bool share) {
  const double seconds = d.options.gpu_seconds;
  const Guard guard(d, mine.device + ": a sum by NCCL", 2 * seconds + kGrace);
  CudaOptions options;
  options.index = mine.index;
  options.graph = false;
  const std::unique_ptr<Device> device = mine.module->make_device(options);
  const int n = d.ranks().size(), rank = d.ranks().rank();
  View range{nullptr, DType::f32, {d.options.mib * kMiB / 4}};
  range.data = device->allocate(range.bytes());
  const Slot slot = device->make_slots(64, 64)[0];
  ReducerOptions with;
  with.memory = {range};
  with.share = share;
  with.seconds = seconds;
  const std::unique_ptr<Reducer> reducer = mine.module->make_reducer(*device, d.ranks(), with);
  const auto size = static_cast<std::size_t>(range.count());
  std::vector<float> values(size), sums(size);
  for (std::size_t k = 0; k < size; ++k) values[k] = static_cast<float>((k % 251) * (rank % 7 + 1u));
  std::string wrong;
  double factor = 0;
  for (int r = 0; r < n; ++r) factor += r % 7 + 1;
  for (int k = 0; k < kSums; ++k) {
    device->copy_in(range.data, values.data(), range.bytes());
    const double begin = seconds_now();
    reducer->submit(range);
    reducer->wait();
    finish_within(*device, slot, {seconds, "a sum by NCCL", [&] { reducer->poll(); }});
    const double rate = 2.0 * (n - 1) / n * static_cast<double>(range.bytes()) /
                        std::max(1e-9, seconds_now() - begin);
    if (k > 0) mine.sums = std::max(mine.sums, rate);
    device->copy_out(sums.data(), range.data, range.bytes());
    for (std::size_t i = 0; i < size; ++i) {
      const double wanted = static_cast<double>(i % 251) * factor;
      if (static_cast<double>(sums[i]) == wanted) continue;
      wrong = fmt::format("the sum over {} ranks is {:.7g} at element {} of {}, expected {:.7g}", n,
                          sums[i], i, size, wanted);
      break;   // the others sum on, and so does this rank
    }
  }
  tell_wrong(d, mine, "GPU sums", wrong);
}

struct Rate {
  const char* name;                      // in details
  const char* check;
  const char* words;
  double unit;
  const char* unit_name;
};
constexpr Rate kRates[] = {
    {"to_device", "GPU memory", "from the host", 1e9, "GB/s"},
    {"from_device", "GPU memory", "to the host", 1e9, "GB/s"},
    {"f32", "GPU product", "in f32", 1e12, "TFLOP/s"},
    {"f16", "GPU product", "in f16", 1e12, "TFLOP/s"},
    {"sums", "GPU sums", "a link", 1e9, "GB/s"},
};

// Rank 0, for all: the median of each rate, and each rank that is far below it, unless ranks share.
void judge_rates(Doctor& d, const json& table, bool shared) {
  for (const Rate& rate : kRates) {
    std::vector<double> values;
    for (const json& row : table)
      if (row[rate.name].get<double>() > 0) values.push_back(row[rate.name].get<double>());
    if (values.empty()) continue;
    const double usual = upper_median(values);
    const auto text = [&](double value) {
      return fmt::format("{:.3g} {}", value / rate.unit, rate.unit_name);
    };
    Finding all{rate.check, Fitness::ok,
                fmt::format("{}: median {}, slowest {}", rate.words, text(usual),
                            text(*std::min_element(values.begin(), values.end())))};
    all.of_job = true;
    d.add(std::move(all));
    for (const json& row : table) {
      const double value = row[rate.name].get<double>();
      if (shared || value <= 0 || value * kSlower > usual) continue;   // sharing slows
      Finding slow{rate.check, Fitness::warn,
                   fmt::format("{}, {}: {} {}; the median: {}", d.hosts.place(row["rank"].get<int>()),
                               row["device"].get<std::string>(), rate.words, text(value), text(usual)),
                   "see nvidia-smi -q -d CLOCK,PERFORMANCE for throttling, and other processes on it; "
                   "for copies and sums, the PCIe and NVLink state (nvidia-smi topo -m)"};
      slow.of_job = true;
      d.add(std::move(slow));
    }
  }
}

// Collective.
void tell_rates(Doctor& d, const Mine& mine, bool shared) {
  json row = {{"rank", d.ranks().rank()}, {"device", mine.device}, {"to_device", mine.in},
              {"from_device", mine.out},  {"f32", mine.f32},       {"f16", mine.f16},
              {"sums", mine.sums}};
  json table = json::array();
  for (const std::string& text : d.ranks().all_gather(row.dump())) {
    table.push_back(json::parse(text));
    if (table.back()["device"].get<std::string>().empty()) table.erase(table.size() - 1);
  }
  if (d.ranks().rank() != 0) return;
  judge_rates(d, table, shared);
  (*d.details)["gpus"] = table;
}

}  // namespace

void examine_gpus(Doctor& d) {
  Mine mine = look(d);
  const Others others = compare_gpus(d, mine);
  if (others.with_gpu == 0) return;
  const bool ran = d.attempt("GPU self-test", Exit::usage, [&] {
    if (mine.gpu) test_device(d, mine, others);
  });
  // A rank that is broken would make the sums of all wrong.
  i64 good = ran && !mine.wrong;
  d.ranks().all_reduce({&good, DType::i64, {1}}, Reduce::min);
  const int ranks = d.ranks().size();
  if (good == 1 && ranks > 1 && others.with_gpu == ranks) {
    try {
      test_sums(d, mine, others.shared);
    } catch (const Error& e) {
      d.add({"GPU sums", Fitness::unfit, fmt::format("{}: {}", mine.device, e.what()),
             "see NCCL_DEBUG=INFO; name the interface in NCCL_SOCKET_IFNAME; NCCL_IB_DISABLE=1 and "
             "NCCL_P2P_DISABLE=1, one at a time, tell which path fails", Exit::lost});
    }
  }
  tell_rates(d, mine, others.shared);
}

}  // namespace cohort
