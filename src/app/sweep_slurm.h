// A sweep as a Slurm job array: one task for each trial that is open.
#pragma once
#include <string>
#include <vector>

#include "train/sweep_result.h"

namespace cohort {

// The sbatch script: `--task` of each of `points`, spec.parallel at a time, asked to stop before the
// time limit, requeued when it stopped with a checkpoint or lost a rank.
std::string slurm_script(const SweepSpec& spec, const SweepFolder& folder,
                         const std::vector<SweepPoint>& points);
// Writes it to the sweep's folder, and submits it where sbatch exists; else says how to. Exit::usage
// where an array of this sweep is still queued or running.
void submit_array(const SweepSpec& spec, const SweepFolder& folder,
                  const std::vector<SweepPoint>& points);

}  // namespace cohort
