#include "train/metrics_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "memory_files.h"
#include "train/ledger_file.h"

namespace cohort {
namespace {

TEST(MetricsLog, LinesAreTheContract) {
  TrainLine line;
  line.attempt = 2;
  line.ranks = 3;
  line.step = 40;
  line.epoch = 1;
  line.loss = 0.1;
  line.learning_rate = 1e-3;
  line.grad_norm = 2;
  line.samples_per_s = 1e20;
  line.data_wait = 0.5;
  line.comm_exposed = 0;
  line.skipped_steps = 12;
  line.rollbacks = 1;
  line.time = 1700000000.25;
  EXPECT_EQ(to_line(line),
            R"({"kind":"train","attempt":2,"ranks":3,"step":40,"epoch":1,"loss":0.10000000000000001,)"
            R"("learning_rate":0.001,"grad_norm":2,"samples_per_s":1e+20,"data_wait":0.5,)"
            R"("comm_exposed":0,"skipped_steps":12,"rollbacks":1,"time":1700000000.25})");
  line.loss = std::nan("");
  EXPECT_NE(to_line(line).find(R"("loss":null)"), std::string::npos);
  EXPECT_NE(to_line(line).find(R"(,"nonfinite":true})"), std::string::npos);
  const EvalLine eval{40, 1, "validation", 7, {{"accuracy", 0.75}, {"auc", std::nan("")}}};
  EXPECT_EQ(to_line(eval),
            R"({"kind":"eval","step":40,"epoch":1,"split":"validation","rows":7,)"
            R"("metrics":{"accuracy":0.75,"auc":null},"nonfinite":true})");
}

TEST(MetricsLog, AJobBeforeAddsNothingMore) {
  const std::string path = testing::TempDir() + "metrics_of_two";
  real_files().remove(path);
  MetricsLog before(real_files(), path, -1, -1);
  TrainLine line;
  line.step = 1;
  before.add(line);
  MetricsLog now(real_files(), path, 1, 1);
  line.step = 2;
  before.add(line);   // it does not know of the other yet
  now.add(line);
  const std::string text = real_files().read(path);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << text;
}

TEST(MetricsLog, AnEvaluationThatIsDoneAgainStandsOnce) {
  MemoryFiles files;
  files.make_folder("run");
  TrainLine line;
  line.step = 2;
  {
    MetricsLog log(files, "run/m", -1, -1);
    log.add(EvalLine{1, 0, "validation", 1, {}});
    log.add(line);
    log.add(EvalLine{2, 0, "validation", 1, {}});
  }
  MetricsLog log(files, "run/m", 2, 1);
  EXPECT_EQ(files.read("run/m"), to_line(EvalLine{1, 0, "validation", 1, {}}) + "\n" +
                                     to_line(line) + "\n");
}

TEST(MetricsLog, ResumeDropsStepsThatAreDoneAgainAndTornLines) {
  MemoryFiles files;
  files.make_folder("run");
  {
    MetricsLog log(files, "run/m", -1, -1);
    for (i64 step = 1; step <= 4; ++step) {
      TrainLine line;
      line.step = step;
      log.add(line);
    }
    files.append("run/m")->write("{\"kind\":\"tr", 11);
  }
  MetricsLog log(files, "run/m", 2, 2);
  log.add(EvalLine{2, 0, "validation", 1, {}});
  const std::string text = files.read("run/m");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  EXPECT_EQ(text.find("\"step\":3"), std::string::npos);
  EXPECT_NE(text.find("{\"kind\":\"eval\",\"step\":2"), std::string::npos);
}

i64 lines_of(MemoryFiles& files, const std::string& path) {
  const std::string text = files.read(path);
  return std::count(text.begin(), text.end(), '\n');
}

// Whatever the first of three lines meets, all are there in the end, once.
TEST(MetricsLog, WhatCannotBeWrittenIsWrittenLater) {
  for (const Fault fault : {Fault::error, Fault::torn}) {
    MemoryFiles files;
    files.make_folder("run");
    MetricsLog log(files, "run/m", -1, -1, [] { return true; });
    std::string expected;
    files.arm(fault, 0);
    for (i64 step = 1; step <= 3; ++step) {
      TrainLine line;
      line.step = step;
      expected += to_line(line) + "\n";
      log.add(line);
      EXPECT_NE(files.read("run/m"), expected);
    }
    log.finish();
    EXPECT_EQ(files.read("run/m"), expected);
  }
}

TEST(MetricsLog, TornLinesThatAnotherWroteAreNoPartOfItsOwn) {
  MemoryFiles files;
  files.make_folder("run");
  bool ours = true;
  MetricsLog log(files, "run/m", -1, -1, [&] { return ours; });
  files.arm(Fault::error, 0);
  log.add(EvalLine{1, 0, "validation", 1, {}});
  files.append("run/m")->write("{\"x", 3);
  log.finish();
  EXPECT_EQ(files.read("run/m"), "{\"x\n" + to_line(EvalLine{1, 0, "validation", 1, {}}) + "\n");
  files.arm(Fault::error, 0);
  log.add(EvalLine{2, 0, "validation", 1, {}});
  ours = false;
  log.finish();
  EXPECT_EQ(lines_of(files, "run/m"), 2);   // the file is another job's now
}

TEST(MetricsLog, AnErrorAtTheEndIsOne) {
  MemoryFiles files;
  files.make_folder("run");
  MetricsLog log(files, "run/m", -1, -1);
  files.arm(Fault::error, 0);
  log.add(EvalLine{1, 0, "validation", 1, {}});
  files.arm(Fault::error, 0);
  EXPECT_THROW(log.finish(), Error);
  log.finish();
  EXPECT_EQ(lines_of(files, "run/m"), 1);
}

TEST(LedgerFile, EpochsThatCannotBeWrittenAreWrittenLater) {
  MemoryFiles files;
  files.make_folder("run");
  LedgerFile ledger(files, "run/l", [] { return true; });
  for (const Fault fault : {Fault::error, Fault::torn}) {
    files.arm(fault, 0);
    ledger.add({{0, "a.h5", 6, {}}});
    ledger.add({{1, "a.h5", 6, {}}});
    ledger.add({{1, "a.h5", 6, {}}});   // after a rollback
    ledger.finish();
    EXPECT_EQ(lines_of(files, "run/l"), 2);
  }
}

TEST(LedgerFile, AnEpochWrittenAgainCountsOnce) {
  MemoryFiles files;
  files.make_folder("run");
  Ledger::Line counts;
  counts.used = 5;
  counts.skipped = 1;
  counts.sum = 255;
  append_ledger(files, "run/l", {{0, "a.h5", 6, counts}});
  append_ledger(files, "run/l", {{1, "a.h5", 6, counts}});
  append_ledger(files, "run/l", {{1, "a.h5", 6, counts}});
  const std::string tail = R"("shard":"a.h5","rows":6,"used":5,"skipped":1,"sum":"00000000000000ff"})";
  EXPECT_EQ(files.read("run/l"), "{\"epoch\":0," + tail + "\n{\"epoch\":1," + tail + "\n");
}

}  // namespace
}  // namespace cohort
