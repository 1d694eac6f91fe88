#include "app/slurm_job.h"

#include "app/child.h"
#include "base/env.h"
#include "base/error.h"
#include "base/text.h"

namespace cohort {

i64 slurm_job_tasks() {
  if (!env("SLURM_JOB_ID") || !env("SLURM_STEP_ID") || env("COHORT_WORLD_SIZE")) return 0;
  if (!has_program("scontrol")) return 0;
  try {
    const std::string text = output_of(
        {"sh", "-c", "timeout 5 scontrol -o show job \"$SLURM_JOB_ID\" 2>/dev/null"}, "scontrol");
    for (const std::string& word : split(text, ' '))
      if (word.rfind("NumTasks=", 0) == 0) return parse_i64(word.substr(9)).value_or(0);
  } catch (const Error&) {
    // Slurm does not answer: the variables alone decide.
  }
  return 0;
}

}  // namespace cohort
