// A shard set whose reads are published, so that a rank's watchdog can tell the file.
#pragma once
#include <functional>
#include <memory>

#include "comm/status.h"
#include "data/shard_set.h"

namespace cohort {

// `delay`: seconds that a read takes longer, for rehearsals (train/chaos.h); asked at each read.
std::shared_ptr<ShardSet> watch_reads(std::shared_ptr<ShardSet> shards, Status& status,
                                      std::function<double()> delay);

}  // namespace cohort
