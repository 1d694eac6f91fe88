// Compiles every call and runs none: a plan without hardware.
#include "device/function_kernel.h"
#include "device/reference/reference_impl.h"

namespace cohort {
namespace {

class NullDevice : public Device {
 public:
  std::string describe() const override { return "null, runs nothing"; }
  DType real() const override { return DType::f32; }
  void* allocate(i64 bytes) override {
    const i64 lines = (std::max<i64>(bytes, 1) + 63) / 64;
    blocks_.emplace_back(static_cast<std::size_t>(lines));
    return blocks_.back().data();
  }
  Needs needs(const Call& call) const override { return reference::needs_of(call); }
  std::unique_ptr<Kernel> compile(const Call&) override { return nothing(); }
  std::unique_ptr<Kernel> compile(const DenseUpdate&) override { return nothing(); }
  std::unique_ptr<Kernel> compile(const RowUpdate&) override { return nothing(); }
  std::unique_ptr<Kernel> compile(const NormCall&) override { return nothing(); }
  std::unique_ptr<Kernel> compile(const DecideCall&) override { return nothing(); }

 private:
  static std::unique_ptr<Kernel> nothing() {
    return kernel([] {});
  }
  struct alignas(64) Line {
    char bytes[64] = {};
  };
  std::vector<std::vector<Line>> blocks_;
};

}  // namespace

std::unique_ptr<Device> make_null_device() { return std::make_unique<NullDevice>(); }

}  // namespace cohort
