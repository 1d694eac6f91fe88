#include "app/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <nlohmann/json.hpp>

#include "app/child.h"
#include "app/sweep_run.h"
#include "app/sweep_slurm.h"
#include "base/error.h"

namespace cohort {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

SweepSpec grid(const std::string& more = "") {
  return SweepSpec::parse(Document::parse("name: s\nconfig: base.yaml\nobjective: {metric: rmse}\n"
                                          "keys: {a: {choice: [1, 'x,\"y\"']}}\n" + more, "s.yaml"));
}

std::vector<TrialResult> results(const SweepSpec& spec) {
  std::vector<TrialResult> trials(2);
  for (std::size_t i = 0; i < 2; ++i) trials[i].point = make_point(spec, static_cast<i64>(i));
  trials[1].state = TrialState::done;
  trials[1].outcome = "done";
  trials[1].exit_code = 0;
  trials[1].best = 0.25;
  trials[1].last = 0.5;
  trials[1].best_step = 4;
  trials[1].steps = 8;
  trials[0].state = TrialState::failed;
  trials[0].exit_code = 6;
  trials[0].outcome = "not finite";
  return trials;
}

TEST(SweepReport, BestFirstAndNamed) {
  const SweepSpec spec = grid();
  const std::string text = sweep_tables(spec, {"runs/s"}, results(spec));
  EXPECT_THAT(text, HasSubstr("Best: trial-0001, rmse 0.25 at step 4: runs/s/trial-0001"));
  EXPECT_LT(text.find("trial-0001"), text.find("trial-0000"));
  EXPECT_THAT(text, HasSubstr("exit 6: not finite"));
  EXPECT_THAT(text, HasSubstr("too few trials"));
}

TEST(SweepReport, NoTrialIsNamedBestWhereNoneIsDone) {
  const SweepSpec spec = grid();
  std::vector<TrialResult> trials = results(spec);
  trials[1].state = TrialState::open;
  EXPECT_THAT(sweep_tables(spec, {"runs/s"}, trials), HasSubstr("No trial is done"));
  EXPECT_TRUE(sweep_report(spec, {"runs/s"}, trials)["best"].is_null());
}

TEST(SweepReport, CsvQuotesWhatMustBe) {
  const SweepSpec spec = grid();
  EXPECT_EQ(sweep_csv(spec, {"runs/s"}, results(spec)),
            "trial,a,state,exit_code,best,best_step,last,steps,seconds,outcome,folder\r\n"
            "trial-0000,1,failed,6,,,,0,0.000,not finite,runs/s/trial-0000\r\n"
            "trial-0001,\"x,\"\"y\"\"\",done,0,0.25,4,0.5,8,0.000,done,runs/s/trial-0001\r\n");
}

TEST(SweepReport, Json) {
  const SweepSpec spec = grid();
  const nlohmann::json report = sweep_report(spec, {"runs/s"}, results(spec));
  EXPECT_EQ(report["best"], "trial-0001");
  EXPECT_EQ(report["objective"]["direction"], "smaller");
  EXPECT_EQ(report["trials"][0]["exit_code"], 6);
  EXPECT_TRUE(report["trials"][0]["best"].is_null());
  EXPECT_EQ(report["trials"][1]["keys"]["a"], "x,\"y\"");
}

TEST(SweepRun, CommandOfATrial) {
  SweepSpec spec = grid("set: [b=2]\nranks: 3\nlauncher: [mpirun, --np, \"{ranks}\"]\n");
  const SweepSlice here = slice_of(spec, {"h"}, {0, 1}, 0);
  EXPECT_THAT(trial_command(spec, {"runs/s"}, make_point(spec, 0), here, 8),
              ElementsAre("mpirun", "--np", "3", this_program(), "train", "runs/s/base.yaml", "b=2",
                          "a=1", "name=trial-0000", "runs=runs/s", "--resume"));
  spec.ranks = 1;
  EXPECT_EQ(trial_command(spec, {"runs/s"}, make_point(spec, 0), here, 8)[0], this_program());
}

TEST(SweepRun, TrialsAreOnHostsOfTheirOwn) {
  SweepSpec spec = grid("ranks: 4\nparallel: 2\n");
  const std::vector<std::string> hosts = {"a", "b", "c", "d"};
  EXPECT_THAT(slice_of(spec, hosts, {0, 1}, 0).hosts, ElementsAre("a:2", "b:2"));
  const SweepSlice second = slice_of(spec, hosts, {0, 1}, 1);
  EXPECT_THAT(second.hosts, ElementsAre("c:2", "d:2"));
  EXPECT_THAT(second.cores, ElementsAre()) << "all of them";
  std::vector<std::string> words = trial_command(spec, {"runs/s"}, make_point(spec, 0), second, 8);
  words.resize(6);
  EXPECT_THAT(words, ElementsAre("mpirun", "-n", "4", "--host", "c:2,d:2", this_program()));
  spec.ranks = 3;
  EXPECT_THAT(slice_of(spec, hosts, {0}, 0).hosts, ElementsAre("a:1", "b:2"));
  spec.parallel = 1;
  spec.launcher = {"x", "-h", "{hosts}"};
  words = trial_command(spec, {"runs/s"}, make_point(spec, 0), slice_of(spec, hosts, {0}, 0), 8);
  EXPECT_EQ(words[2], "a:1,b:1,c:1");
}

TEST(SweepRun, MoreTrialsThanHostsShareOneByCores) {
  SweepSpec spec = grid("ranks: 1\nparallel: 5\n");
  const std::vector<int> cores = {0, 2, 4, 6, 8, 9};
  std::vector<std::string> hosts;
  std::vector<std::vector<int>> slices;
  for (i64 slot = 0; slot < 5; ++slot) {
    const SweepSlice slice = slice_of(spec, {"a", "b"}, cores, slot);
    hosts.push_back(slice.hosts[0]);
    slices.push_back(slice.cores);
  }
  EXPECT_THAT(hosts, ElementsAre("a:1", "a:1", "a:1", "b:1", "b:1"));
  EXPECT_THAT(slices, ElementsAre(ElementsAre(0, 2), ElementsAre(4, 6), ElementsAre(8, 9),
                                  ElementsAre(0, 2, 4), ElementsAre(6, 8, 9)));
  EXPECT_EQ(trial_command(spec, {"runs/s"}, make_point(spec, 0), slice_of(spec, {"a", "b"}, cores, 4),
                          6)[0], "mpirun") << "one rank, but elsewhere";
  EXPECT_THAT(slice_of(spec, {"a"}, {0, 1}, 3).cores, ElementsAre()) << "fewer cores than trials";
}

TEST(SweepRun, GpusAreDividedAmongTheTrialsOfAHost) {
  EXPECT_EQ(gpus_of_place("", 1, 2), "2,3");
  EXPECT_EQ(gpus_of_place("4,5,6,7", 1, 2), "6,7");
  EXPECT_EQ(gpus_of_place("4,5", 1, 1), "5");
  EXPECT_THROW(gpus_of_place("4,5,6", 1, 2), Error);
}

TEST(SweepRun, LastErrorOfALog) {
  EXPECT_EQ(last_message("2026-01-02T03:04:05.678Z info: fine\n", "error"), "");
  EXPECT_EQ(last_message("2026-01-02T03:04:05.678Z error: a.yaml:1:2: one\n"
                         "2026-01-02T03:04:05.678Z error rank 1 host-a: two: three\nmpirun: noise\n",
                         "error"),
            "two: three");
}

TEST(SweepSlurm, Script) {
  const SweepSpec spec = grid("parallel: 2\nranks: 4\nslurm: {options: [--mem=1G], warning_s: 60}\n");
  std::vector<SweepPoint> points;
  for (i64 index : {0, 1, 2, 5, 7, 8}) points.push_back({index, "trial", {"1"}});
  const std::string script = slurm_script(spec, {"runs/s"}, points);
  EXPECT_THAT(script, HasSubstr("#SBATCH --array=0-2,5,7-8%2\n"));
  EXPECT_THAT(script, HasSubstr("#SBATCH --ntasks=4\n"));
  EXPECT_THAT(script, HasSubstr("#SBATCH --signal=B:USR1@60\n"));
  EXPECT_THAT(script, HasSubstr("#SBATCH --mem=1G\n"));
  EXPECT_THAT(script, HasSubstr("sweep 'runs/s/sweep.yaml' --task \"$SLURM_ARRAY_TASK_ID\""));
}

TEST(Child, OutputOfAProgram) {
  EXPECT_EQ(output_of({"echo", "a b", "$HOME"}, "test"), "a b $HOME\n");   // no shell
  EXPECT_THROW(output_of({"false"}, "test"), Error);
  EXPECT_THROW(output_of({"no-such-program-here"}, "test"), Error);
  EXPECT_TRUE(has_program("sh"));
  EXPECT_FALSE(has_program("no-such-program-here"));
}

TEST(Child, LockIsExclusiveUntilClosed) {
  const std::string path = testing::TempDir() + "sweep_lock";
  FileLock first(path);
  EXPECT_TRUE(first.try_take());
  {
    FileLock second(path);
    EXPECT_FALSE(second.try_take());
  }
  const FileLock moved = std::move(first);
  FileLock third(path);
  EXPECT_FALSE(third.try_take());
}

TEST(Child, BecomesTheCommandOnlyUnderItsParent) {
  EXPECT_EQ(become_child(-1, "all", {"true"}), 75);
}

}  // namespace
}  // namespace cohort
