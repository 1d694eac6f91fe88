// Run under mpirun, on the stand-in or on real GPUs: the checks of nccl_checks.h, plain and with
// bf16 on the wire. "share": all ranks of a host on its first GPU. "die": the last rank is killed and
// the others wait for its sums.
#include <csignal>
#include <cstdio>
#include <string>

#include "nccl_checks.h"

namespace cohort {

[[noreturn]] void wait_for_a_dead_rank(Communicator& c, int gpu) {
  GpuRank r(c, {}, gpu);
  check_sum<float>(r, DType::f32, 5);
  if (c.rank() == c.size() - 1) std::raise(SIGKILL);
  r.reducer->submit({r.filled<float>({1, 2, 3}), DType::f32, {3}});
  r.reducer->wait();
  for (;;) r.reducer->poll();
}

}  // namespace cohort

int main(int argc, char** argv) {
  using namespace cohort;
  const std::string mode = argc > 1 ? argv[1] : "";
  std::signal(SIGTERM, SIG_IGN);   // mpirun sends it; a message must be what ends us
  auto world = join_world(&argc, &argv);
  Communicator& c = world->communicator();
  try {
    ReducerOptions options;
    options.share = mode == "share";
    const int gpu = options.share ? 0 : world->local_rank();
    if (mode == "die") wait_for_a_dead_rank(c, gpu);
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
