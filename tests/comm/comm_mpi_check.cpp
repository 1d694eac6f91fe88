// Run under mpirun: the checks of checks.h. With "die", the last rank is killed and the others wait.
#include <csignal>
#include <cstdio>
#include <cstring>

#include "../comm/checks.h"

int main(int argc, char** argv) {
  using namespace cohort;
  std::signal(SIGTERM, SIG_IGN);  // mpirun sends it; the watchdog must be the one to end us
  auto world = join_world(&argc, &argv);
  Communicator& c = world->communicator();
  try {
    check_collectives(c);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    c.abort(1);
  }
  if (argc > 1 && std::strcmp(argv[1], "die") == 0) {
    if (c.rank() == c.size() - 1) std::raise(SIGKILL);
    c.barrier();
  }
  if (c.rank() == 0) std::printf("collectives passed on %d ranks\n", c.size());
  return 0;
}
