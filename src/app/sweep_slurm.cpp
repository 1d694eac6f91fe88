#include "app/sweep_slurm.h"

#include <cstdio>
#include <filesystem>

#include "app/child.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

namespace cohort {
namespace {

// As one word of a shell.
std::string quote_shell(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// "0-3,7" of ascending numbers.
std::string ranges_of(const std::vector<SweepPoint>& points) {
  std::vector<std::string> parts;
  for (std::size_t from = 0, to = 0; from < points.size(); from = to) {
    to = from + 1;
    while (to < points.size() && points[to].index == points[to - 1].index + 1) ++to;
    const i64 first = points[from].index, last = points[to - 1].index;
    parts.push_back(first == last ? std::to_string(first) : fmt::format("{}-{}", first, last));
  }
  return join(parts, ",");
}

// Of the array submitted before: the states of its tasks that are not over; empty where all are.
std::string still_queued(const std::string& job) {
  if (!has_program("squeue")) return "";
  try {
    return std::string(trim(output_of({"squeue", "-h", "-j", job, "-o", "%T"}, "squeue")));
  } catch (const Error&) {
    return "";   // squeue knows the job no longer
  }
}

}  // namespace

std::string slurm_script(const SweepSpec& spec, const SweepFolder& folder,
                         const std::vector<SweepPoint>& points) {
  const std::string here = std::filesystem::current_path().string();
  const std::string logs = std::filesystem::absolute(folder.path + "/logs").string();
  std::string text = "#!/bin/bash\n";
  text += fmt::format("#SBATCH --job-name={}\n", spec.name);
  text += fmt::format("#SBATCH --array={}%{}\n", ranges_of(points), spec.parallel);
  text += fmt::format("#SBATCH --output={}/slurm-%A_%a.log\n", logs);
  text += fmt::format("#SBATCH --ntasks={}\n", spec.ranks);
  text += fmt::format("#SBATCH --signal=B:USR1@{}\n", spec.slurm.warning_s);
  text += "#SBATCH --requeue\n#SBATCH --open-mode=append\n";
  for (const std::string& option : spec.slurm.options) text += "#SBATCH " + option + "\n";
  text += "# A task is one trial. It gets USR1 before the time is up, ends with a checkpoint and code 75,\n"
          "# and is queued again; so is one that lost a rank or a node (5), COHORT_MAX_RESTARTS (20)\n"
          "# times. USR2 ends it for good. The script's exit code is the trial's.\n"
          "task= asked=0 for_good=0\n"
          "ask() { asked=1; [ -z \"$task\" ] || kill -USR1 $task 2>/dev/null; }\n"
          "trap ask USR1 TERM\ntrap 'for_good=1; ask' USR2\n";
  text += "cd " + quote_shell(here) + " || exit 4\n";
  text += quote_shell(this_program()) + " sweep " + quote_shell(folder.spec()) +
          " --task \"$SLURM_ARRAY_TASK_ID\" &\n";
  text += "task=$!\n"
          "[ $asked = 0 ] || kill -USR1 $task\n"
          "wait $task\ncode=$?\n"
          "while kill -0 $task 2>/dev/null; do\n  wait $task\n  code=$?\ndone\n"
          "# It was asked before it could listen.\n"
          "[ $code != 138 ] || [ $asked = 0 ] || code=75\n"
          "restarts=${SLURM_RESTART_COUNT:-0}\n"
          "if [ $for_good = 0 ] && { [ $code = 75 ] ||\n"
          "  { [ $code = 5 ] && [ $restarts -lt \"${COHORT_MAX_RESTARTS:-20}\" ]; }; }; then\n"
          "  scontrol requeue \"${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID\"\n"
          "fi\n"
          "exit $code\n";
  return text;
}

void submit_array(const SweepSpec& spec, const SweepFolder& folder,
                  const std::vector<SweepPoint>& points) {
  Files& files = real_files();
  const std::string script = folder.path + "/array.sbatch", record = folder.path + "/array.job";
  if (files.exists(record)) {
    const std::string job(trim(files.read(record)));
    const std::string states = still_queued(job);
    if (!states.empty())
      fail(Exit::usage, "{}: Slurm job {} of this sweep is not over ({} tasks in the queue); wait, or "
           "cancel it with `scancel {}`", folder.path, job, split(states, '\n').size(), job);
  }
  write_atomically(files, script, slurm_script(spec, folder, points));
  if (!has_program("sbatch")) {
    log::warn("no sbatch in PATH: submit {} yourself, where there is one", script);
    return;
  }
  std::string job(trim(output_of({"sbatch", "--parsable", script}, script)));
  job = job.substr(0, job.find(';'));   // "job;cluster"
  write_atomically(files, record, job + "\n");
  log::info("{}: {} trials submitted as Slurm job {}; `cohort sweep ... --report` tells how they are",
            folder.path, points.size(), job);
}

}  // namespace cohort
