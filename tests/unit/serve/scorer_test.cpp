#include <gmock/gmock.h>

#include <cmath>
#include <thread>

#include "device/cpu_thread.h"
#include "serve/item_index.h"
#include "unit/serve/tiny.h"

namespace cohort {
namespace {

using nlohmann::json;

void expect_equal(const Answer& a, const Answer& b, double most) {
  ASSERT_EQ(a.error, b.error);
  ASSERT_EQ(a.output.size(), b.output.size());
  for (std::size_t k = 0; k < a.output.size(); ++k) EXPECT_NEAR(a.output[k], b.output[k], most);
  for (std::size_t k = 0; k < a.probabilities.size(); ++k)
    EXPECT_NEAR(a.probabilities[k], b.probabilities[k], most);
}

TEST(Scorer, ARowIsAnsweredAloneAsAmongOthers) {
  for (const Tiny& tiny : {make_two_tower("alone"), make_next("alone_next", 8)}) {
    Scorer together(tiny.bundle("b"), {2, 32}), alone(tiny.bundle("c"), {1, 1});
    const std::vector<json> rows = tiny.raw_rows();
    ASSERT_GT(rows.size(), 9u);
    const std::vector<Answer> answers = together.score(rows);
    for (std::size_t r = 0; r < rows.size(); ++r)
      expect_equal(alone.score({rows[r]}).at(0), answers[r], 1e-6);
  }
}

TEST(Scorer, RoomForLongerRowsChangesNoAnswer) {
  const Tiny narrow = make_next("narrow", 8), wide = make_next("wide", 40);
  Scorer a(narrow.bundle("b"), {1, 4}), b(wide.bundle("b"), {1, 4});
  const std::vector<json> rows = narrow.raw_rows();
  const std::vector<Answer> left = a.score(rows), right = b.score(rows);
  for (std::size_t r = 0; r < rows.size(); ++r) expect_equal(left[r], right[r], 1e-6);
}

TEST(Scorer, AnswersTheLastStepOfTheRow) {
  Graph graph;
  graph.values = {{"logits", {3, 2}, false, 0, 0}};
  graph.prediction = 0;
  graph.nodes.push_back({"loss", Loss{LossKind::cross_entropy}, {}, {}, {}, ""});
  const double steps[] = {1, 2, 3, 5, 7, 7};
  EXPECT_THAT(answer_of(graph, steps, 2).output, testing::ElementsAre(3, 5));
  EXPECT_NEAR(answer_of(graph, steps, 2).probabilities[1], 1 / (1 + std::exp(-2.0)), 1e-15);
  EXPECT_THAT(answer_of(graph, steps, 9).output, testing::ElementsAre(7, 7));
  EXPECT_THAT(answer_of(graph, steps, 0).output, testing::ElementsAre(0, 0));
}

TEST(Scorer, BadRowsAreToldAndTheOthersAnswered) {
  const Tiny tiny = make_two_tower("bad_rows");
  Scorer scorer(tiny.bundle("b"), {1, 2});
  const json good = tiny.raw_rows().at(0);
  json bad = good;
  bad["u0"] = "many";
  const auto answers = scorer.score({good, bad, json::array(), good, json::object(), good});
  for (const std::size_t r : {1, 2, 4}) {
    EXPECT_NE(answers[r].error, "") << r;
    EXPECT_TRUE(answers[r].output.empty());
  }
  EXPECT_THAT(answers[1].error, testing::HasSubstr("u0"));
  for (const std::size_t r : {3, 5}) expect_equal(answers[r], answers[0], 1e-6);
  EXPECT_TRUE(json::parse(json_text(scorer.bundle(), answers[1])).contains("error"));
  const json told = json::parse(json_text(scorer.bundle(), answers[0]));
  EXPECT_DOUBLE_EQ(told.at("logit").get<double>(), answers[0].output[0]);
  EXPECT_DOUBLE_EQ(told.at("probability").get<double>(), answers[0].probabilities[0]);
}

TEST(Scorer, RoomForManyRowsIsTakenWhenTheyCome) {
  const Tiny tiny = make_two_tower("room");
  Scorer little(tiny.bundle("b"), {1, 1}), large(tiny.bundle("c"), {1, i64{1} << 50});
  std::vector<json> rows;
  while (rows.size() < 40) rows.push_back(tiny.raw_rows().at(rows.size() % 3));
  const std::vector<Answer> answers = large.score(rows);   // more than the plans for few rows
  for (std::size_t r = 0; r < rows.size(); ++r)
    expect_equal(answers[r], little.score({rows[r]}).at(0), 1e-6);
}

TEST(Scorer, RowsThatNobodyWaitsForAreNotMadeReady) {
  const Tiny tiny = make_two_tower("unwanted");
  Scorer scorer(tiny.bundle("b"), {1, 2});
  const std::vector<json> rows(5, tiny.raw_rows().at(0));
  const auto answers = scorer.score(rows, [](std::size_t row) { return row < 3; });
  for (std::size_t r = 0; r < 5; ++r) EXPECT_EQ(answers[r].output.empty(), r < 3) << r;
  expect_equal(answers[4], scorer.score({rows[4]}).at(0), 1e-6);
}

TEST(Scorer, ItsHalvesAnswerAsTheWhole) {
  const Tiny tiny = make_two_tower("halves");
  const auto bundle = tiny.bundle("b");
  Scorer scorer(bundle, {1, 4});
  std::vector<json> rows = tiny.raw_rows();
  rows.resize(6, rows.at(0));
  rows[1]["u0"] = "many";
  EXPECT_EQ(scorer.prepare(rows), (std::vector<std::size_t>{0, 2, 3, 4}));
  const std::vector<Answer> whole = Scorer(bundle, {1, 4}).score(rows);
  for (int again = 0; again < 2; ++again) {
    const std::vector<Answer> halves = scorer.answer_prepared();
    ASSERT_EQ(halves.size(), 4u);
    for (const std::size_t k : {0, 1, 2, 3}) expect_equal(halves[k], whole[k == 0 ? 0 : k + 1], 0);
  }
}

TEST(Scorer, ScorersOfSeveralThreadsShareWeights) {
  const Tiny tiny = make_two_tower("shared");
  const auto bundle = tiny.bundle("b");
  const std::vector<json> rows = tiny.raw_rows();
  const std::vector<Answer> expected = Scorer(bundle, {1, 8}).score(rows);
  const auto weights = load_weights(*bundle, 1);
  std::vector<std::thread> threads;
  std::vector<std::vector<Answer>> found(4);
  for (std::size_t k = 0; k < found.size(); ++k)
    threads.emplace_back([&, k] {
      prepare_cpu_thread();
      Scorer scorer(bundle, {1, 8}, weights);
      for (int again = 0; again < 20; ++again) found[k] = scorer.score(rows);
    });
  for (std::thread& thread : threads) thread.join();
  for (const auto& answers : found) {
    ASSERT_EQ(answers.size(), expected.size());
    for (std::size_t r = 0; r < answers.size(); ++r) expect_equal(answers[r], expected[r], 0);
  }
}

TEST(Scorer, GoldenRowsMustBeAnsweredAlike) {
  const Tiny tiny = make_two_tower("golden");
  for (const double shift : {0.0, 9e-6, 2e-5}) {
    BundleContent content = tiny.content();
    double& p = content.golden.at(3).probabilities.at(0);
    p += shift;
    const std::string folder = tiny.folder + "/shifted";
    real_files().remove(folder);
    if (shift < 1e-5) {
      EXPECT_EQ(write_bundle(real_files(), folder, content).size(), 64u);
      continue;
    }
    try {
      write_bundle(real_files(), folder, content);
      FAIL() << "a bundle that answers otherwise was written";
    } catch (const Error& e) {
      EXPECT_EQ(e.exit_code(), Exit::storage);
      EXPECT_THAT(e.what(), testing::HasSubstr(fmt::format("row {}", content.golden[3].row_id)));
    }
    EXPECT_FALSE(real_files().exists(folder));
    for (const std::string& name : real_files().list(tiny.folder))
      EXPECT_THAT(name, testing::Not(testing::HasSubstr(".tmp-")));
  }
}

TEST(Scorer, AUserAloneIsCompletedAndGetsTheBestItems) {
  const Tiny tiny = make_two_tower("top");
  Scorer scorer(tiny.bundle("b"), {1, 3});
  const auto answers = scorer.top({{{"user", "u3"}}, {{"user", "u3"}, {"u0", 1.5}},
                                   {{"user", "nobody"}}, {{"u0", 1.5}}}, 3);
  ASSERT_EQ(answers[0].error, "");
  ASSERT_EQ(answers[0].items.size(), 3u);
  EXPECT_NE(answers[2].error, "");
  EXPECT_NE(answers[3].error, "");
  std::vector<json> pairs;
  for (int i = 0; i < 5; ++i) pairs.push_back({{"user", "u3"}, {"item", fmt::format("i{}", i)}});
  const std::vector<Answer> scores = scorer.score(pairs);
  std::vector<std::pair<double, std::string>> order;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    ASSERT_EQ(scores[i].error, "");
    order.emplace_back(-scores[i].output.at(0), fmt::format("i{}", i));
  }
  std::sort(order.begin(), order.end());
  for (std::size_t k = 0; k < 3; ++k) {
    EXPECT_EQ(answers[0].items[k].item, order[k].second);
    EXPECT_NEAR(answers[0].items[k].score, -order[k].first, 1e-5);
    EXPECT_EQ(answers[1].items.at(k).item, order[k].second);
  }
  const Tiny other = make_next("top_next", 8);
  Scorer none(other.bundle("b"), {1, 3});
  EXPECT_THROW(none.top({json::object()}, 3), Error);
}

TEST(Scorer, PredictionsAreToldInTheUnitsOfTheRawDataToo) {
  const Tiny tiny = make_two_tower("stars", true);
  Scorer scorer(tiny.bundle("b"), {1, 3});
  const std::vector<Answer> answers = scorer.score(tiny.raw_rows());
  ASSERT_GT(answers.size(), 3u);
  for (const Answer& answer : answers) {
    ASSERT_EQ(answer.error, "");
    EXPECT_THAT(answer.value, testing::ElementsAre(answer.output.at(0) / 0.25 + 1));
    const json told = json::parse(json_text(scorer.bundle(), answer));
    EXPECT_EQ(told.at("prediction"), json(answer.output));
    EXPECT_EQ(told.at("value"), json(answer.value));
  }
  const TopAnswer top = scorer.top({{{"user", "u3"}}}, 2).at(0);
  ASSERT_EQ(top.items.size(), 2u);
  const json told = json::parse(json_text(scorer.bundle(), top));
  for (std::size_t k = 0; k < 2; ++k) {
    EXPECT_EQ(top.items[k].value, top.items[k].score / 0.25 + 1);
    EXPECT_EQ(told.at("items")[k].at("value"), json(*top.items[k].value));
    EXPECT_FALSE(told.at("items")[k].contains("probability"));
  }
  const Tiny clicks = make_two_tower("clicks");
  Scorer none(clicks.bundle("b"), {1, 3});
  EXPECT_TRUE(none.score({clicks.raw_rows().at(0)}).at(0).value.empty());
  EXPECT_FALSE(none.top({{{"user", "u3"}}}, 2).at(0).items.at(0).value);
}

TEST(Scorer, TheBestItemsAreThoseOfThePredictionBehindTheDot) {
  const Tiny tiny = make_two_tower("tail", true, "    - dropout: {rate: 0.5}\n"
                                                 "    - activation: {kind: tanh}\n"
                                                 "    - activation: {kind: sigmoid}\n");
  Scorer scorer(tiny.bundle("b"), {1, 3});
  ASSERT_TRUE(scorer.bundle().towers());
  EXPECT_THAT(scorer.bundle().towers()->towers.tail,
              testing::ElementsAre(Activation::tanh, Activation::sigmoid));
  for (const char* user : {"u0", "u3", "u6"}) {
    const TopAnswer top = scorer.top({{{"user", user}}}, 9).at(0);
    ASSERT_EQ(top.items.size(), 5u);
    double before = 1;
    for (const TopItem& item : top.items) {
      const Answer answer = scorer.score({{{"user", user}, {"item", item.item}}}).at(0);
      ASSERT_EQ(answer.error, "");
      EXPECT_NEAR(item.score, answer.output.at(0), 1e-6);
      EXPECT_NEAR(item.value.value(), answer.value.at(0), 1e-5);
      EXPECT_LE(item.score, before);
      before = item.score;
    }
  }
}

TEST(Scorer, AModelWithADotAndNoTowersSaysWhy) {
  const auto why = [](const Graph& graph) {
    std::string text;
    EXPECT_FALSE(find_towers(graph, &text));
    return text;
  };
  const Tiny dense = make_two_tower("why_dense", false, "    - dense: {name: last, units: 1}\n");
  EXPECT_EQ(why(dense.graph), "layer 'last' (dense) stands behind the dot, expected activations alone");
  EXPECT_FALSE(dense.bundle("b")->towers());
  Graph keyless = make_two_tower("why_key").graph;
  for (Node& node : keyless.nodes)
    if (node.name == "it") node.op = Dense{};
  EXPECT_EQ(why(keyless), "the second vector comes from no embedding of one id");
  EXPECT_EQ(why(make_next("why_next", 8).graph), "");
}

// Steps of two numbers, the target among the inputs: normalised, and its logarithm.
TEST(Scorer, ValuesOfManyUnitsAtTheLastStep) {
  std::string csv = "x,y\n";
  for (int r = 0; r < 20; ++r) {
    std::string steps;
    for (int k = 0; k <= r % 4; ++k) steps += fmt::format("{} {} ", r + k, 100 * k + 1);
    csv += steps + "," + steps + "\n";
  }
  const Tiny tiny = make_tiny("units", csv,
                              "  - {name: x, kind: numbers, width: 2}\n"
                              "  - {name: y, kind: numbers, width: 2, log1p: true, scale: 0.5}\n",
                              "  inputs: {x: {max_length: 3}, y: {max_length: 3, normalize: standard, "
                              "scale: 4}}\n"
                              "  layers:\n    - rnn: {from: x, units: 3, output: every}\n"
                              "    - dense: {units: 2}\n  loss: {mse: {target: y}}\n");
  Scorer scorer(tiny.bundle("b"), {1, 3});
  EXPECT_EQ(scorer.bundle().manifest().at("outputs")[1].at("name"), "value");
  const json target = json::parse(tiny.preprocess->text()).at("target");
  const json& constants = target.at("normalization");
  EXPECT_NE(constants.at("mean")[0], constants.at("mean")[1]);
  for (const Answer& answer : scorer.score(tiny.raw_rows())) {
    ASSERT_EQ(answer.value.size(), 2u);
    for (std::size_t c = 0; c < 2; ++c) {
      const double x = answer.output[c] / constants.at("inv_std")[c].get<double>() +
                       constants.at("mean")[c].get<double>();
      EXPECT_NEAR(answer.value[c], std::expm1(x / 4 / 0.5), 1e-9 * (1 + std::abs(answer.value[c])));
    }
  }
  Answer huge{{1, 2}, {}, {HUGE_VAL, 3}, ""};
  EXPECT_EQ(json::parse(json_text(scorer.bundle(), huge)).at("value"), (json{nullptr, 3}));
}

TEST(ItemIndex, FindsWhatComparingWithAllFinds) {
  if (!have_faiss()) GTEST_SKIP() << "built without FAISS";
  const i64 dim = 8;
  for (const i64 items : {i64{300}, i64{51000}}) {
    std::vector<float> vectors(static_cast<std::size_t>(items * dim)), queries(20 * dim);
    u32 x = 1;
    const auto next = [&] { return static_cast<float>((x = x * 1664525 + 1013904223) >> 8) / (1 << 23) - 1; };
    for (float& v : vectors) v = next();
    for (float& v : queries) v = next();
    std::vector<u8> known(static_cast<std::size_t>(items), 1);
    known[5] = 0;
    const Items all{vectors.data(), known.data(), items, dim};
    const auto exact = make_exact_index(all);
    const auto index = open_faiss(build_faiss(all, queries), "index");
    EXPECT_THAT(index->describe(), testing::HasSubstr(items < 50000 ? "Flat" : "IVF"));
    EXPECT_GE(recall(*index, *exact, queries, 10), items < 50000 ? 1.0 : 0.99);
    const auto hits = exact->search(queries, items + 5).at(0);
    EXPECT_EQ(static_cast<i64>(hits.size()), items - 1);   // not the unknown one
    EXPECT_GE(hits.front().score, hits.back().score);
  }
  EXPECT_THROW(open_faiss("nonsense", "index"), Error);
}

}  // namespace
}  // namespace cohort
