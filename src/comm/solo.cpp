// A world of one rank: every collective is a no-op.
#include <cstdlib>

#include "base/error.h"
#include "comm/communicator.h"

namespace cohort {
namespace {

class Solo final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void all_reduce(View, Reduce) override {}
  void broadcast(void*, i64, int) override {}
  std::vector<std::string> all_gather(const std::string& mine) override { return {mine}; }
  void barrier() override {}
  void exchange(const void*, void*, i64, int peer) override {
    broken(__FILE__, __LINE__, "exchange with rank " + std::to_string(peer) + " of one rank");
  }
  std::unique_ptr<Communicator> duplicate() override { return make_solo(); }
  [[noreturn]] void abort(int exit_code) override { std::_Exit(exit_code); }
};

}  // namespace

std::unique_ptr<Communicator> make_solo() { return std::make_unique<Solo>(); }

}  // namespace cohort
