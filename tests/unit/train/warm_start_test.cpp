#include "train/warm_start.h"

#include <gmock/gmock.h>

#include "base/error.h"

namespace cohort {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Param param(const std::string& name, Shape shape, bool running = false) {
  Param p;
  p.name = name;
  p.shape = std::move(shape);
  p.running = running;
  return p;
}

Graph graph() {
  Graph g;
  g.params = {param("words.weight", {10, 4}), param("norm.running_mean", {4}, true),
              param("head.weight", {3, 4}), param("head.bias", {3})};
  return g;
}

const std::vector<KnownTensor> saved = {
    {"words.weight", {10, 4}},   {"optimizer/0/words.weight", {10, 4}},
    {"norm.running_mean", {4}},  {"head.weight", {5, 4}},
    {"head.bias", {3}},          {"old.weight", {2}}};

std::string refusal(const InitConfig& init, const std::vector<KnownTensor>& known = saved) {
  try {
    choose_tensors(graph(), init, known);
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::usage);
    return e.what();
  }
  return "";
}

InitConfig all_of(const std::string& from) {
  InitConfig init;
  init.from = from;
  return init;
}

TEST(WarmStart, PatternsAreThoseOfAShell) {
  EXPECT_TRUE(matches("conv3.weight", "conv*"));
  EXPECT_TRUE(matches("conv3.weight", "conv?.weight"));
  EXPECT_FALSE(matches("conv3.weight", "conv"));
  EXPECT_FALSE(matches("conv33.weight", "conv?.weight"));
}

TEST(WarmStart, NamesWhatIsTakenLeftAndNotUsed) {
  InitConfig init;
  init.fresh = {"head.*"};
  const WarmStart chosen = choose_tensors(graph(), init, saved);
  EXPECT_THAT(chosen.taken, ElementsAre("words.weight", "norm.running_mean"));
  EXPECT_THAT(chosen.fresh, ElementsAre("head.weight", "head.bias"));
  EXPECT_THAT(chosen.unused, ElementsAre("old.weight"));
}

TEST(WarmStart, LoadLimitsWhatIsTaken) {
  InitConfig init;
  init.load = {"words.*", "head.bias"};
  EXPECT_THAT(choose_tensors(graph(), init, saved).taken, ElementsAre("words.weight", "head.bias"));
}

TEST(WarmStart, AnotherShapeIsNamedWithBothAndTheRemedy) {
  const std::string text = refusal(all_of("runs/a"));
  EXPECT_THAT(text, HasSubstr("'head.weight'"));
  EXPECT_THAT(text, HasSubstr("[3, 4]"));
  EXPECT_THAT(text, HasSubstr("[5, 4]"));
  EXPECT_THAT(text, HasSubstr("init.fresh"));
}

TEST(WarmStart, AMissingTensorIsNamed) {
  EXPECT_THAT(refusal(all_of("runs/a"), {saved[0]}), HasSubstr("no tensor 'norm.running_mean'"));
}

TEST(WarmStart, APatternOfNothingIsRefused) {
  InitConfig init;
  init.fresh = {"haed.*"};
  EXPECT_THAT(refusal(init), HasSubstr("init.fresh: \"haed.*\""));
  init = {};
  init.load = {"*", "x"};
  EXPECT_THAT(refusal(init), HasSubstr("init.load: \"x\""));
}

TEST(Freeze, MarksWhatThePatternsName) {
  Graph g = graph();
  InitConfig init;
  init.freeze = {"words.*", "norm.*"};
  freeze_parameters(g, init);
  EXPECT_TRUE(g.params[0].frozen && g.params[1].frozen);
  EXPECT_FALSE(g.params[2].frozen || g.params[3].frozen);
}

TEST(Freeze, RefusesAPatternOfNothingAndAllOfTheModel) {
  Graph g = graph();
  InitConfig init;
  init.freeze = {"x*"};
  EXPECT_THROW(freeze_parameters(g, init), Error);
  init.freeze = {"words*", "head*"};
  EXPECT_THROW(freeze_parameters(g, init), Error);   // running statistics alone are left
}

}  // namespace
}  // namespace cohort
