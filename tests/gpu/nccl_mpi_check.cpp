// Run under mpirun, on the stand-in or on real GPUs: the checks of nccl_checks.h, plain and with
// bf16 on the wire. "share": all ranks of a host on its first GPU.
#include <cstdio>
#include <cstring>

#include "nccl_checks.h"

int main(int argc, char** argv) {
  using namespace cohort;
  auto world = join_world(&argc, &argv);
  Communicator& c = world->communicator();
  try {
    ReducerOptions options;
    options.share = argc > 1 && std::strcmp(argv[1], "share") == 0;
    const int gpu = options.share ? 0 : world->local_rank();
    check_all_sums(c, options, gpu);
    options.bf16 = true;
    check_all_sums(c, options, gpu);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    c.abort(1);
  }
  if (c.rank() == 0) std::printf("sums passed on %d ranks\n", c.size());
  return 0;
}
