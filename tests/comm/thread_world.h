// The world of a test whose ranks are threads, all on one host.
#pragma once
#include <string>

#include "comm/communicator.h"

namespace cohort {

class ThreadWorld final : public World {
 public:
  explicit ThreadWorld(Communicator& ranks) : ranks_(ranks) {}
  Communicator& communicator() override { return ranks_; }
  int local_rank() const override { return ranks_.rank(); }
  int local_size() const override { return ranks_.size(); }
  std::string kind() const override { return "threads"; }
  int give_up(int exit_code, const std::string&) override { return exit_code; }

 private:
  Communicator& ranks_;
};

}  // namespace cohort
