#include "train/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/error.h"
#include "base/text.h"
#include "store/files.h"
#include "train/sweep_result.h"
#include "unit/train/memory_files.h"

namespace cohort {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

SweepSpec parse(const std::string& more) {
  return SweepSpec::parse(Document::parse(
      "name: s\nconfig: base.yaml\nobjective: {metric: rmse}\n" + more, "sweep.yaml"));
}

void expect_refused(const std::string& more, const std::string& text) {
  try {
    parse(more);
    ADD_FAILURE() << "accepted: " << more;
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), Exit::usage);
    EXPECT_THAT(error.what(), HasSubstr(text)) << more;
  }
}

TEST(Sweep, GridVisitsEveryPointLastKeyFastest) {
  const SweepSpec spec = parse(
      "keys:\n  a.b: {choice: [x, '[1, 2]']}\n" "  c: {integer: [3, 5]}\n");
  EXPECT_EQ(count_points(spec), 6);
  std::set<std::vector<std::string>> seen;
  for (const SweepPoint& point : make_points(spec)) seen.insert(point.values);
  EXPECT_EQ(seen.size(), 6u);
}

TEST(Sweep, GridOrderAndNames) {
  const SweepSpec spec = parse("set: [z=1]\nkeys: {a: {choice: [x, y]}, c: {integer: [3, 5]}}\n");
  EXPECT_THAT(make_point(spec, 0).values, ElementsAre("x", "3"));
  EXPECT_THAT(make_point(spec, 1).values, ElementsAre("x", "4"));
  EXPECT_THAT(make_point(spec, 5).values, ElementsAre("y", "5"));
  EXPECT_EQ(make_point(spec, 5).name, "trial-0005");
  EXPECT_THAT(overrides_of(spec, make_point(spec, 5)), ElementsAre("z=1", "a=y", "c=5"));
}

TEST(Sweep, GridOfRangesIncludesBothEnds) {
  const SweepSpec spec = parse("keys: {a: {log_uniform: [1e-4, 1e-1], points: 4}}\n");
  std::vector<std::string> values;
  for (const SweepPoint& point : make_points(spec)) values.push_back(point.values[0]);
  EXPECT_THAT(values, ElementsAre("0.0001", "0.001", "0.01", "0.1"));
  EXPECT_EQ(make_point(parse("keys: {a: {uniform: [0, 1], points: 1}}\n"), 0).values[0], "0.5");
}

TEST(Sweep, RandomIsRepeatableAndGrows) {
  const std::string keys =
      "method: random\nkeys: {a: {log_uniform: [1e-4, 1e-1]}, b: {integer: [-2, 2]}, c: {choice: [p, q]}, "
      "d: {uniform: [2, 3]}}\n";
  const SweepSpec few = parse(keys + "trials: 3\n"), many = parse(keys + "trials: 2000\n");
  const SweepSpec other = parse(keys + "trials: 3\nseed: 2\n");
  for (i64 i = 0; i < 3; ++i) EXPECT_EQ(make_point(few, i).values, make_point(many, i).values);
  EXPECT_NE(make_point(few, 0).values, make_point(other, 0).values);
  i64 low = 0;
  std::set<std::string> integers, choices;
  for (const SweepPoint& point : make_points(many)) {
    const double a = *parse_double(point.values[0]), d = *parse_double(point.values[3]);
    EXPECT_TRUE(a >= 1e-4 && a <= 1e-1) << a;
    EXPECT_TRUE(d >= 2 && d <= 3) << d;
    low += a < std::sqrt(1e-5);
    integers.insert(point.values[1]);
    choices.insert(point.values[2]);
  }
  EXPECT_NEAR(static_cast<double>(low), 1000, 120);   // half of them, by 5 standard deviations
  EXPECT_EQ(integers, (std::set<std::string>{"-2", "-1", "0", "1", "2"}));
  EXPECT_EQ(choices.size(), 2u);
}

TEST(Sweep, WrongFilesNameThePlace) {
  expect_refused("keys: {a: {chioce: [1]}}\n", "sweep.yaml:4:");
  expect_refused("keys: {a: {uniform: [1, 2], chioce: [1]}}\n", "did you mean 'choice'");
  expect_refused("keys: {}\n", "at least one key");
  expect_refused("keys: {a: {choice: []}}\n", "at least one value");
  expect_refused("keys: {a: {choice: [1], integer: [1, 2]}}\n", "exactly one of");
  expect_refused("keys: {a: {integer: [2, 1]}}\n", "low <= high");
  expect_refused("keys: {a: {integer: [2]}}\n", "[low, high]");
  expect_refused("keys: {a: {log_uniform: [0, 1], points: 2}}\n", "0 < low");
  expect_refused("keys: {a: {uniform: [0, 1]}}\n", "a grid needs `points`");
  expect_refused("keys: {a: {integer: [0, 3], points: 2}}\n", "cut into points");
  expect_refused("method: random\nkeys: {a: {uniform: [0, 1]}}\n", "at least 1 trial");
  expect_refused("trials: 3\nkeys: {a: {choice: [1]}}\n", "method: random");
  expect_refused("keys: {runs: {choice: [1]}}\n", "names its runs itself");
  expect_refused("set: [train]\nkeys: {a: {choice: [1]}}\n", "expected key=value, got 'train'");
  expect_refused("methd: grid\nkeys: {a: {choice: [1]}}\n", "did you mean 'method'");
  expect_refused("keys: {a: {integer: [0, 1000000]}}\n", "more than 100000 points");
  expect_refused("keys: {a: {integer: [-9223372036854775807, 9223372036854775807]}}\n", "more than");
}

TEST(Sweep, TextReadsBackEqual) {
  const SweepSpec spec = parse(
      "method: random\ntrials: 4\nset: ['a.b=[1, 2]']\nkeys:\n  m.0.x: {choice: ['a: b', 1e-3]}\n"
      "  y: {log_uniform: [1e-4, 0.1]}\nslurm: {options: [--time=1]}\n");
  const std::string text = spec.text();
  const SweepSpec again = SweepSpec::parse(Document::parse(text, "again.yaml"));
  EXPECT_EQ(again.text(), text);
  EXPECT_EQ(make_point(again, 3).values, make_point(spec, 3).values);
}

TEST(Sweep, DifferencesNameTheKey) {
  const SweepSpec one = parse("keys: {a: {choice: [1, 2]}, b: {choice: [1]}}\n");
  const SweepSpec two = parse("parallel: 3\nkeys: {a: {choice: [1, 3]}, c: {choice: [1]}}\n");
  EXPECT_THAT(differences(one.identity(), two.identity(), 10),
              ElementsAre("keys.a.choice: [\"1\", \"2\"] -> [\"1\", \"3\"]", HasSubstr("keys.b:"),
                          "keys.b.choice: [\"1\"] -> gone", HasSubstr("keys.b.points"),
                          HasSubstr("keys.c: new"), HasSubstr("keys.c.choice: new: [\"1\"]"),
                          HasSubstr("keys.c.points")));
  EXPECT_TRUE(differences(one.text(), one.text(), 10).empty());
  EXPECT_EQ(differences(one.identity(), two.identity(), 2).size(), 2u);
}

TrialResult trial(const SweepSpec& spec, std::vector<std::string> values, double score) {
  TrialResult result;
  result.point = {0, "trial", std::move(values)};
  result.state = TrialState::done;
  result.best = result.last = score;
  EXPECT_EQ(result.point.values.size(), spec.keys.size());
  return result;
}

TEST(SweepEffects, GroupsThatMatterAndThatDoNot) {
  const SweepSpec spec = parse("keys: {a: {choice: [1, 2]}, b: {choice: [1, 2]}}\n");
  std::vector<TrialResult> trials;
  // a decides; b has the same ranks in both groups
  for (int i = 0; i < 4; ++i) {
    trials.push_back(trial(spec, {"1", i == 0 || i == 3 ? "1" : "2"}, i));
    trials.push_back(trial(spec, {"2", i == 0 || i == 3 ? "1" : "2"}, 10 + i));
  }
  const std::vector<KeyEffect> effects = key_effects(spec, trials);
  // Ranks 1-4 and 5-8: eta^2 = 32 / 42; epsilon^2 = 1 - 10/42 * 7/6.
  EXPECT_NEAR(effects[0].value, 1 - 10.0 / 42 * 7 / 6, 1e-12);
  EXPECT_EQ(effects[0].measure, "epsilon^2");
  EXPECT_EQ(effects[0].best_value, "1");
  // 2 of the 70 ways to choose four are as extreme, for two keys.
  EXPECT_NEAR(effects[0].p, 2 * 2.0 / 70, 0.012);
  EXPECT_EQ(effects[1].share, 0);
  EXPECT_EQ(effects[1].p, 1);
}

TEST(SweepEffects, RankCorrelationOfRanges) {
  const SweepSpec spec = parse("method: random\ntrials: 9\nkeys: {a: {log_uniform: [1, 1e9]}}\n");
  std::vector<TrialResult> trials;
  const std::vector<double> y = {2, 1, 3, 5, 4, 6, 7, 9, 8};   // sum of squared differences: 6
  for (std::size_t i = 0; i < y.size(); ++i)
    trials.push_back(trial(spec, {fmt::format("{}", std::pow(10, i))}, std::exp(y[i])));
  const KeyEffect effect = key_effects(spec, trials)[0];
  EXPECT_EQ(effect.measure, "spearman");
  EXPECT_NEAR(effect.value, 1 - 6 * 6 / (9.0 * 80), 1e-12);
  EXPECT_NEAR(effect.share, effect.value * effect.value, 1e-12);
  EXPECT_LT(effect.p, 0.01);
}

TEST(SweepEffects, NothingIsClaimedUnderTooFewTrials) {
  const SweepSpec spec = parse("keys: {a: {choice: [1, 2]}}\n");
  std::vector<TrialResult> trials;
  for (int i = 0; i < 7; ++i) trials.push_back(trial(spec, {i < 3 ? "1" : "2"}, i));
  EXPECT_THAT(key_effects(spec, trials)[0].why_not, HasSubstr("too few trials: 7 of at least 8"));
  trials.push_back(trial(spec, {"2"}, 9));
  trials.back().state = TrialState::failed;
  EXPECT_THAT(key_effects(spec, trials)[0].why_not, HasSubstr("too few trials: 7 of at least 8"));
  trials.back().state = TrialState::done;
  EXPECT_EQ(key_effects(spec, trials)[0].why_not, "");
  for (TrialResult& t : trials) t.point.values[0] = fmt::format("{}", &t - trials.data());
  EXPECT_THAT(key_effects(spec, trials)[0].why_not, HasSubstr("8 values in 8 trials"));
}

struct TrialFiles : testing::Test {
  MemoryFiles files;
  SweepSpec spec = parse("keys: {a: {choice: [1, 2]}}\n");
  SweepFolder folder{"s"};
  SweepPoint point = make_point(spec, 0);
  TrialFiles() {
    files.make_folder("s/trial-0000");
    files.make_folder("s/ends");
  }
  TrialResult read() { return read_trial(files, spec, folder, point); }
  void run(const std::string& json) { write_atomically(files, "s/trial-0000/run.json", json); }
};

TEST_F(TrialFiles, StatesComeFromTheRunFolder) {
  EXPECT_EQ(read().state, TrialState::open);
  EXPECT_EQ(read().outcome, "not begun");
  run(R"({"outcome":"running"})");
  EXPECT_EQ(read().outcome, "cut off");
  run(R"({"outcome":"stopped","exit_code":75})");
  EXPECT_EQ(read().state, TrialState::open);
  run(R"({"outcome":"step 3: not finite","exit_code":6})");
  EXPECT_EQ(read().state, TrialState::failed);
  EXPECT_EQ(read().outcome, "step 3: not finite");
  run(R"({"outcome":"no space","exit_code":4})");
  EXPECT_EQ(read().state, TrialState::open);
  write_end(files, folder.end(point), {2, "train.epochs: bad", false});
  EXPECT_EQ(read().state, TrialState::failed);
  EXPECT_EQ(read().outcome, "train.epochs: bad");
  write_end(files, folder.end(point), {137, "", false});
  EXPECT_EQ(read().state, TrialState::open);
  EXPECT_EQ(read().outcome, "killed by signal 9");
  run(R"({"outcome":"done","exit_code":0,"attempts":[
      {"started":"2026-01-02T03:04:05.500Z","ended":"2026-01-02T03:05:05.750Z"},
      {"started":"2026-01-02T03:04:05.500Z"}]})");
  EXPECT_EQ(read().state, TrialState::done);
  EXPECT_EQ(read().exit_code, 0);
  EXPECT_NEAR(read().seconds, 60.25, 1e-6);
  run("{ cut");
  EXPECT_EQ(read().state, TrialState::open);
}

TEST_F(TrialFiles, BestAndLastOfTheObjective) {
  write_atomically(files, "s/trial-0000/metrics.jsonl",
                   "{\"kind\":\"train\",\"step\":7,\"loss\":1}\n"
                   "{\"kind\":\"eval\",\"step\":5,\"split\":\"validation\",\"metrics\":{\"rmse\":3.0}}\n"
                   "{\"kind\":\"eval\",\"step\":10,\"split\":\"validation\",\"metrics\":{\"rmse\":1.0}}\n"
                   "{\"kind\":\"eval\",\"step\":15,\"split\":\"validation\",\"metrics\":{\"rmse\":2.0}}\n"
                   "{\"kind\":\"eval\",\"step\":20,\"split\":\"test\",\"metrics\":{\"rmse\":0.5}}\n"
                   "{\"kind\":\"eval\",\"step\":25,\"split\":\"validation\",\"metrics\":{\"rmse\":null}}\n"
                   "{\"kind\":\"eval\",\"step\":30,\"split\":\"valid");
  spec.objective.split = "validation";
  const TrialResult result = read();
  EXPECT_EQ(result.best, 1.0);
  EXPECT_EQ(result.best_step, 10);
  EXPECT_EQ(result.last, 2.0);
  EXPECT_EQ(result.steps, 25);
  spec.objective.direction = "larger";
  EXPECT_EQ(read().best, 3.0);
  EXPECT_EQ(score_of(spec, read()), 3.0);
  spec.objective.of = "last";
  EXPECT_EQ(score_of(spec, read()), 2.0);
  EXPECT_THAT(objective_curve(files, spec, "s/trial-0000"),
              ElementsAre(std::pair<i64, double>(5, 3.0), std::pair<i64, double>(10, 3.0),
                          std::pair<i64, double>(15, 3.0)));
}

TEST(SweepStop, MedianRule) {
  const SweepSpec spec = parse("keys: {a: {choice: [1]}}\n");   // smaller is better
  using Curve = std::vector<std::pair<i64, double>>;
  const std::vector<Curve> others = {{{5, 3}, {10, 1}}, {{5, 4}, {10, 2}}, {{5, 5}, {10, 4}}};
  EXPECT_TRUE(worse_than_median(spec, {{10, 2.5}}, others, 3));
  EXPECT_FALSE(worse_than_median(spec, {{10, 2.0}}, others, 3));
  EXPECT_FALSE(worse_than_median(spec, {{5, 3.5}}, others, 3));
  EXPECT_TRUE(worse_than_median(spec, {{7, 4.5}}, others, 3));     // what they had by step 7
  EXPECT_FALSE(worse_than_median(spec, {{10, 9}}, others, 4));     // too few
  EXPECT_FALSE(worse_than_median(spec, {{11, 9}}, others, 1));     // none came so far
  EXPECT_FALSE(worse_than_median(spec, {}, others, 1));
}

}  // namespace
}  // namespace cohort
