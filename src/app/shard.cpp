#include "app/commands.h"
#include "base/log.h"
#include "data/demo.h"
#include "data/shard_command.h"

namespace cohort {

int run_shard(const ShardOptions& options) {
  if (!options.demo.empty()) {
    make_demo(options.demo, options.seed);
    log::info("{}: demo data written (synthetic; truth.json holds the best reachable scores)",
              options.demo);
    return 0;
  }
  const ShardReport report = shard(options.recipe, options.overrides, options.memory_mib << 20);
  std::string rows;
  for (const auto& [split, count] : report.rows) rows += fmt::format(" {} {}", split, count);
  log::info("{}: rows{}; {} rejected", report.output, rows, report.rejected);
  return 0;
}

}  // namespace cohort
