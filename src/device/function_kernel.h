// A kernel from a callable.
#pragma once
#include <memory>
#include <utility>

#include "device/device.h"

namespace cohort {

template <class Run>
class FunctionKernel final : public Kernel {
 public:
  explicit FunctionKernel(Run run) : run_(std::move(run)) {}
  void run() override { run_(); }

 private:
  Run run_;
};

template <class Run>
std::unique_ptr<Kernel> kernel(Run run) {
  return std::make_unique<FunctionKernel<Run>>(std::move(run));
}

}  // namespace cohort
