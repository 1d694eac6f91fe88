#include "app/sweep_slice.h"

#include <algorithm>

#include "app/child.h"
#include "base/env.h"
#include "base/error.h"
#include "base/text.h"

namespace cohort {

std::vector<std::string> sweep_hosts(const SweepSpec& spec) {
  if (!spec.hosts.empty()) return spec.hosts;
  std::vector<std::string> hosts;
  const auto nodes = env("SLURM_JOB_NODELIST");
  if (nodes && has_program("scontrol"))
    for (const std::string& line :
         split(output_of({"scontrol", "show", "hostnames", *nodes}, "SLURM_JOB_NODELIST"), '\n'))
      if (!trim(line).empty()) hosts.emplace_back(trim(line));
  if (hosts.empty()) hosts.push_back(host_name());
  return hosts;
}

SweepSlice slice_of(const SweepSpec& spec, const std::vector<std::string>& hosts,
                    const std::vector<int>& cores, i64 slot) {
  const i64 all = static_cast<i64>(hosts.size()), trials = spec.parallel;
  SweepSlice slice;
  slice.spread = all > 1 || (!spec.hosts.empty() && hosts.at(0) != host_name());
  const i64 first = slot * all / trials;
  i64 count = 1;
  if (trials <= all) {
    count = (slot + 1) * all / trials - first;
  } else {
    const i64 from = (first * trials + all - 1) / all, to = ((first + 1) * trials + all - 1) / all;
    slice.place = slot - from;
    slice.places = to - from;
  }
  count = std::min(count, spec.ranks);
  for (i64 k = 0; k < count; ++k) {
    const i64 here = spec.ranks * (k + 1) / count - spec.ranks * k / count;
    slice.hosts.push_back(fmt::format("{}:{}", hosts[static_cast<std::size_t>(first + k)], here));
    slice.ranks = std::max(slice.ranks, here);
  }
  const i64 there = static_cast<i64>(cores.size());
  if (slice.places > 1 && there >= slice.places)
    slice.cores.assign(cores.begin() + slice.place * there / slice.places,
                       cores.begin() + (slice.place + 1) * there / slice.places);
  return slice;
}

std::string gpus_of_place(const std::string& shown, i64 place, i64 ranks) {
  std::vector<std::string> there;
  if (!shown.empty()) there = split(shown, ',');
  std::vector<std::string> mine;
  for (i64 gpu = place * ranks; gpu < (place + 1) * ranks; ++gpu) {
    if (!there.empty() && gpu >= static_cast<i64>(there.size()))
      fail(Exit::usage, "parallel: trial {} of those at a time needs {} GPUs of its own, but "
           "CUDA_VISIBLE_DEVICES={} has {} in all; lower --parallel", place + 1, ranks, shown,
           there.size());
    mine.push_back(there.empty() ? std::to_string(gpu) : there[static_cast<std::size_t>(gpu)]);
  }
  return join(mine, ",");
}

}  // namespace cohort
