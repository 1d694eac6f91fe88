#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <sys/mman.h>

#include <mutex>
#include <new>
#include <vector>

#include "device/cpu/cpu_impl.h"
#include "device/cpu_thread.h"
#include "device/function_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cohort {
namespace {

// One thread for the library's own parallelism; denormals flushed (they slow Adam tenfold).
void start_thread(int) {
  omp_set_num_threads(1);
#if defined(__x86_64__)
  _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
}

const cpu::KernelTable& table_of(const std::string& isa) {
  if (isa == "avx512") return avx512::table();
  if (isa == "avx2") return avx2::table();
  return baseline::table();
}

std::string checked_isa(const std::string& wanted) {
  const std::string best = best_cpu_isa();
  if (wanted == "auto" || wanted == best) return best;
  if (wanted == "baseline" || (wanted == "avx2" && best == "avx512")) return wanted;
  fail(Exit::usage,
       "instruction set '{}': this processor offers up to {}; choose auto, baseline, avx2 or "
       "avx512 within that",
       wanted, best);
}

constexpr i64 huge_page = 2 << 20;

class Mapping {
 public:
  explicit Mapping(i64 bytes) : bytes_(static_cast<std::size_t>(bytes)) {
    data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) throw std::bad_alloc();
    // Advice only: a kernel without huge pages refuses it and plain pages serve.
    (void)madvise(data_, bytes_, MADV_HUGEPAGE);
    std::memset(data_, 0, bytes_);
  }
  Mapping(Mapping&& other) noexcept : data_(other.data_), bytes_(other.bytes_) {
    other.data_ = nullptr;
  }
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (data_) munmap(data_, bytes_);
  }
  void* data() const { return data_; }

 private:
  void* data_;
  std::size_t bytes_;
};

class CpuDevice : public Device {
 public:
  explicit CpuDevice(const CpuOptions& options)
      : isa_(checked_isa(options.isa)),
        pool_(std::max(1, options.threads), start_thread),
        context_{pool_, table_of(isa_), std::max(1, options.threads),
                 options.frozen ? &packs_ : nullptr} {}

  std::string describe() const override {
    const dnnl_version_t* version = dnnl_version();
    return fmt::format("cpu {}, {} thread{}, oneDNN {}.{}.{}", isa_, context_.threads,
                       context_.threads == 1 ? "" : "s", version->major, version->minor,
                       version->patch);
  }
  DType real() const override { return DType::f32; }
  void* allocate(i64 bytes) override {
    const i64 unit = bytes >= huge_page ? huge_page : 4096;
    Mapping mapping((std::max<i64>(bytes, 1) + unit - 1) / unit * unit);
    const std::lock_guard lock(mutex_);
    memory_.push_back(std::move(mapping));
    return memory_.back().data();
  }
  Needs needs(const Call& call) const override {
    return std::visit([&](const auto& op) { return cpu::needs(call, op, context_.threads); },
                      call.node->op);
  }
  std::unique_ptr<Kernel> compile(const Call& call) override {
    return kernel([this, call] {
      std::visit(
          [&](const auto& op) {
            call.pass == Pass::forward ? cpu::forward(context_, call, op)
                                       : cpu::backward(context_, call, op);
          },
          call.node->op);
    });
  }
  std::unique_ptr<Kernel> compile(const DenseUpdate& update) override {
    return kernel([this, update] { cpu::run_update(context_, update); });
  }
  std::unique_ptr<Kernel> compile(const RowUpdate& update) override {
    return kernel([this, update] { cpu::run_update(context_, update); });
  }
  std::unique_ptr<Kernel> compile(const NormCall& call) override {
    return kernel([this, call] { cpu::run_norm(context_, call); });
  }
  std::unique_ptr<Kernel> compile(const DecideCall& call) override {
    return kernel([call] { decide(call); });
  }

 private:
  std::string isa_;
  ThreadPool pool_;
  cpu::Packs packs_;
  cpu::Context context_;
  std::mutex mutex_;
  std::vector<Mapping> memory_;
};

}  // namespace

void prepare_cpu_thread() { start_thread(0); }

std::string best_cpu_isa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return "avx512";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
  return "baseline";
}

std::unique_ptr<Device> make_cpu_device(const CpuOptions& options) {
  return std::make_unique<CpuDevice>(options);
}

}  // namespace cohort
