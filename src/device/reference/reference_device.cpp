#include <cstdlib>
#include <mutex>
#include <new>

#include "device/function_kernel.h"
#include "device/reference/reference_impl.h"

namespace cohort {
namespace {

class HostMemory {
 public:
  void* allocate(i64 bytes) {
    const auto size = static_cast<std::size_t>((std::max<i64>(bytes, 1) + 63) / 64 * 64);
    void* data = std::aligned_alloc(64, size);
    if (!data) throw std::bad_alloc();
    std::fill_n(static_cast<char*>(data), size, char{0});
    const std::lock_guard lock(mutex_);
    blocks_.emplace_back(data, &std::free);
    return data;
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<void, void (*)(void*)>> blocks_;
};

class ReferenceDevice : public Device {
 public:
  std::string describe() const override { return "reference, float64 plain loops"; }
  DType real() const override { return DType::f64; }
  void* allocate(i64 bytes) override { return memory_.allocate(bytes); }
  Needs needs(const Call& call) const override { return reference::needs_of(call); }
  std::unique_ptr<Kernel> compile(const Call& call) override {
    return kernel([call] {
      std::visit(
          [&](const auto& op) {
            call.pass == Pass::forward ? reference::forward(call, op)
                                       : reference::backward(call, op);
          },
          call.node->op);
    });
  }
  std::unique_ptr<Kernel> compile(const DenseUpdate& update) override {
    return kernel([update] { reference::run_update(update); });
  }
  std::unique_ptr<Kernel> compile(const RowUpdate& update) override {
    return kernel([update] { reference::run_update(update); });
  }
  std::unique_ptr<Kernel> compile(const NormCall& call) override {
    return kernel([call] { reference::run_norm(call); });
  }
  std::unique_ptr<Kernel> compile(const DecideCall& call) override {
    return kernel([call] { decide(call); });
  }

 private:
  HostMemory memory_;
};

}  // namespace

namespace reference {

Needs needs_of(const Call& c) {
  Needs needs;
  const i64 width = size_of(DType::f64);
  if (const auto* op = std::get_if<Recurrent>(&c.node->op)) {
    needs.saved = c.in[0].shape[0] * c.in[0].shape[1] * (gates_of(op->cell) + 2) * op->units * width;
  }
  if (const auto* op = std::get_if<BatchNorm>(&c.node->op)) {
    const i64 batch = c.global_batch;
    needs.phases = 2;
    needs.sync = {batch_norm_groups(*op, batch),
                  batch_norm_places(*op, batch) * (1 + 2 * row_size(c.in[0]))};
  }
  return needs;
}

}  // namespace reference

std::unique_ptr<Device> make_reference_device() { return std::make_unique<ReferenceDevice>(); }

}  // namespace cohort
