// Where the trials of a sweep that run at a time are: on hosts of their own; where there are more
// trials than hosts, on cores and GPUs of one.
#pragma once
#include <string>
#include <vector>

#include "train/sweep.h"

namespace cohort {

struct SweepSlice {
  std::vector<std::string> hosts;   // "a:2": each with how many of the trial's ranks are there
  bool spread = false;              // all trials together: over several hosts, or on another one
  i64 place = 0, places = 1;        // which of the trials on its host, and of how many
  std::vector<int> cores;           // for what is started on this host; empty: all
  i64 ranks = 1;                    // of the trial on a host, at most
};

// The hosts for all trials: those of the file, else of the Slurm job around this process, else none
// but this one.
std::vector<std::string> sweep_hosts(const SweepSpec& spec);
// Of the slot-th trial, 0 <= slot < spec.parallel. `cores`: numbers of those that this process may use.
SweepSlice slice_of(const SweepSpec& spec, const std::vector<std::string>& hosts,
                    const std::vector<int>& cores, i64 slot);
// The GPUs of the place-th trial of those on a host, as CUDA_VISIBLE_DEVICES wants them, out of `shown`
// (that variable's value; empty: numbered from 0). Exit::usage where there are too few.
std::string gpus_of_place(const std::string& shown, i64 place, i64 ranks);

}  // namespace cohort
