// What only Slurm itself knows of the job around this process.
#pragma once
#include "base/types.h"

namespace cohort {

// The tasks of the job, asked of scontrol by one in a step whose variables hide them; 0 where it does
// not say within seconds, and where COHORT_WORLD_SIZE tells what is meant.
i64 slurm_job_tasks();

}  // namespace cohort
