// Ops on the CUDA device for the race check: the kernels are compiled with ThreadSanitizer, which
// prints what it finds.
#include <cstdio>

#include "device/cuda/cuda_device.h"
#include "kernel_shapes.h"
#include "op_case.h"
#include "runtime.h"

using namespace cohort;

int main(int argc, char** argv) {
  const std::string part = argc > 1 ? argv[1] : "";
  hg::policy().when = hg::When::eager;
  hg::policy().order = hg::Order::forward;
  const auto device = cuda::make_device({0, "f32", false});
  int ran = 0;
  for (const auto& cases : {test::op_cases(), test::kernel_shapes()}) {
    for (const test::OpCase& c : cases) {
      if (c.name.find(part) == std::string::npos) continue;
      std::printf("%s\n", c.name.c_str());
      std::fflush(stdout);
      test::run_case(*device, c, test::data_for(c, *device, true));
      ++ran;
    }
  }
  std::printf("ran %d cases\n", ran);
  return ran > 0 ? 0 : 1;
}
