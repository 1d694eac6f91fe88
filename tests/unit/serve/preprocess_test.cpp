// What serving makes of a raw row is what training read from the shard set, bit for bit.
#include "serve/preprocess.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/demo.h"
#include "fields/base64.h"
#include "fields/image.h"
#include "store/files.h"
#include "unit/serve/preprocess_set.h"

namespace cohort {
namespace {

using nlohmann::json;
using testing::HasSubstr;

// Fills every kept row and compares with the set's; twice, the second time through text.
void expect_rows_as_trained(const ShardSet& set, const Graph& graph, const std::string& split) {
  const auto samples = set.samples();
  ASSERT_EQ(samples.size(), static_cast<std::size_t>(std::min<i64>(set.rows(split), 256)));
  const Preprocess made = Preprocess::of(set, graph);
  const Preprocess parsed = Preprocess::parse(made.text(), "preprocess.json");
  EXPECT_EQ(parsed.text(), made.text());
  const RowReader reader(ShardSet::open(set.path()), split, graph.inputs, 1000);
  Batch trained;
  reader.read_rows(trained, {0, 0, reader.rows()}, reader.rows());
  for (const SampleRow& sample : samples) {
    EXPECT_EQ(sample.split, split);
    const auto at = std::find(trained.row_ids.begin(), trained.row_ids.end(), sample.row);
    ASSERT_NE(at, trained.row_ids.end()) << sample.row;
    for (const Preprocess* preprocess : {&made, &parsed}) {
      Batch served = preprocess->empty(graph.inputs, 2);
      preprocess->fill(served, graph.inputs, 1, preprocess->raw_row(sample));
      for (std::size_t i = 0; i + 1 < graph.inputs.size(); ++i) {
        ASSERT_EQ(row_of(served, i, 1), row_of(trained, i, at - trained.row_ids.begin()))
            << graph.inputs[i].field << " of " << sample.columns;
      }
      EXPECT_THAT(served.columns.back().data, testing::Each(0));  // the target
    }
  }
}

class PreprocessDemo : public testing::TestWithParam<const char*> {};

TEST_P(PreprocessDemo, RowsAsTrained) {
  const std::string folder = test_folder(), name = GetParam();
  std::vector<std::string> overrides{"output=" + folder + "/set"};
  if (name == "images") {
    if (!real_files().exists("/usr/share/datasets/fashion-mnist")) {
      GTEST_SKIP() << "the package dataset-fashion-mnist is not installed";
    }
  } else {
    make_demo(folder, 1);
    overrides.push_back("root=" + folder);
  }
  shard(std::string(COHORT_SOURCE_DIR) + "/shards/demo-" + name + ".yaml", overrides);
  const auto set = ShardSet::open(folder + "/set");
  EXPECT_TRUE(set->verify().empty());
  expect_rows_as_trained(*set, graph_of(*set), "test");
  expect_rows_as_trained(*set, graph_of(*set, 3), "test");
}

INSTANTIATE_TEST_SUITE_P(All, PreprocessDemo,
                         testing::Values("behavior", "next-event", "recommend", "recommend-mlp",
                                         "sentiment", "images"));

std::shared_ptr<ShardSet> joined_set(const std::string& folder) {
  put_file(folder + "/a.csv", "user,n,y\nann,1,0\nbob,2.5,1\nann,1e3,1\ncleo,0,0\n");
  put_file(folder + "/users.csv", "id,job,\xc3\xa2ge\nann,nurse,30\nbob,,41.5\ncleo,smith,7\n");
  return make_set(folder,
                  "sources: [{path: a.csv}]\n"
                  "joins: [{on: user, key: id, table: {path: users.csv}}]\n"
                  "hold_out: [{to: test, fraction: 0.5}]\nfields:\n"
                  "  - {name: user, kind: id}\n"
                  "  - {name: about, kind: number, columns: [\xc3\xa2ge, n], one_hot: [job], "
                  "log1p: true, offset: -1, scale: 0.3}\n"
                  "  - {name: y, kind: label, classes: 2}\n");
}

TEST(Preprocess, JoinsNamesAndNumbersAsTrained) {
  const auto set = joined_set(test_folder());
  EXPECT_EQ(set->field("about").shape, (Shape{5}));
  ASSERT_EQ(set->field("about").one_hot.size(), 1u);
  EXPECT_EQ(set->field("about").one_hot[0].names, (std::vector<std::string>{"", "nurse", "smith"}));
  expect_rows_as_trained(*set, graph_of(*set), set->rows("test") > 0 ? "test" : "train");
}

TEST(Preprocess, SequencesOfEventsAsTrained) {
  const std::string folder = test_folder();
  std::string events = "who,item,time\n";
  for (int i = 0; i < 400; ++i) {
    events += fmt::format("{},{},{}\n", i * 7 % 31, i % 3 == 0 ? "Aa" : std::to_string(i % 11), i);
  }
  put_file(folder + "/a.csv", events);
  const auto set = make_set(folder,
                            "sources: [{path: a.csv}]\ngroup: {key: who, time: time, columns: "
                            "[item]}\nhold_out: [{to: validation, fraction: 0.3, by: who}]\n"
                            "fields:\n"
                            "  - {name: deltas, kind: numbers, log1p: true, scale: 0.1}\n"
                            "  - {name: items, kind: ids, column: item, part: history}\n"
                            "  - {name: next, kind: ids, column: item, part: next}\n");
  expect_rows_as_trained(*set, graph_of(*set), "validation");
  expect_rows_as_trained(*set, graph_of(*set, 2), "validation");
}

TEST(Preprocess, PicturesAsTrained) {
  const std::string folder = test_folder();
  const char* data = std::getenv("COHORT_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "COHORT_TEST_DATA is not set: no JPEG";
  const std::string jpegs = std::string(data) + "/cifar10-jpeg/train/airplane";
  if (!real_files().exists(jpegs)) GTEST_SKIP() << jpegs << " is not there";
  const auto names = real_files().list(jpegs);
  for (std::size_t i = 0; i < 8; ++i) {
    put_file(folder + "/tree/plane/" + names.at(i), real_files().read(jpegs + "/" + names[i]));
    std::string pixels;
    for (std::size_t k = 0; k < 20 * 30 * 3; ++k) pixels += static_cast<char>(k * (i + 3) % 251);
    put_file(folder + fmt::format("/tree/noise/{}.png", i), encode_png({20, 30, 3, pixels}));
  }
  put_file(folder + "/kinds.csv", "name,wings\nplane,2\nnoise,0\n");
  for (const int channels : {1, 3}) {
    const auto set = make_set(
        folder, fmt::format("sources: [{{path: tree, format: image_folder, size: [32, 24], resize: "
                            "true, channels: {}}}]\n"
                            "joins: [{{on: label, key: name, table: {{path: kinds.csv}}}}]\n"
                            "fields:\n"
                            "  - {{name: image, kind: image}}\n  - {{name: wings}}\n"
                            "  - {{name: label, kind: label}}\n", channels));
    expect_rows_as_trained(*set, graph_of(*set), "train");
  }
}

// The error of a raw row, without its code.
std::string error_of(const Preprocess& preprocess, const Graph& graph, const json& raw) {
  Batch batch = preprocess.empty(graph.inputs, 1);
  try {
    preprocess.fill(batch, graph.inputs, 0, raw);
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), Exit::data);
    return error.what();
  }
  return "accepted";
}

TEST(Preprocess, ErrorsNameColumnExpectedAndGot) {
  const auto set = joined_set(test_folder());
  const Graph graph = graph_of(*set);
  const Preprocess preprocess = Preprocess::of(*set, graph);
  const json good = {{"user", "ann"}, {"\xc3\xa2ge", 30}, {"n", "1.0"}, {"job", "smith"}};
  EXPECT_EQ(error_of(preprocess, graph, good), "accepted");
  const auto with = [&](const char* name, const json& value) {
    json raw = good;
    raw[name] = value;
    return error_of(preprocess, graph, raw);
  };
  EXPECT_EQ(with("user", "999"), "column 'user': '999' was not in training");
  EXPECT_EQ(with("user", 999), "column 'user': '999' was not in training");
  EXPECT_EQ(with("user", 1.5), "column 'user': expected a text or a whole number, got 1.5");
  EXPECT_EQ(with("user", nullptr), "column 'user': expected a text or a whole number, got null");
  EXPECT_EQ(with("job", "cook"), "column 'job': 'cook' was not in training");
  EXPECT_EQ(with("n", "x"), "column 'n': 'x' is not a finite number");
  EXPECT_EQ(with("n", -2), "column 'n': value is not a finite float");
  EXPECT_EQ(with("n", 1e300), "accepted");  // log1p
  EXPECT_EQ(with("n", json::array({1})), "column 'n': expected a number, got a list of 1");
  EXPECT_EQ(with("n", std::nan("")), "column 'n': 'nan' is not a finite number");
  EXPECT_EQ(with("usr", 1), "column 'usr': not known, expected [user, \xc3\xa2ge, n, job]: did you "
                            "mean 'user'?");
  EXPECT_EQ(with("user", std::string(1, '\0')), "column 'user': holds a zero byte");
  EXPECT_EQ(with("user", "\xff"), "column 'user': not UTF-8");
  EXPECT_EQ(error_of(preprocess, graph, json::array()),
            "raw row: expected an object of columns, got a list of 0");
  json without = good;
  without.erase("job");
  EXPECT_EQ(error_of(preprocess, graph, without),
            "column 'job': expected a text or a whole number, got no such column");
  EXPECT_LT(with("user", std::string(100000, 'x')).size(), 400u);
}

TEST(Preprocess, SequencesAsTextAndAsLists) {
  const std::string folder = test_folder();
  put_file(folder + "/a.csv", "ids,xy,text,y\n3 Q 5,1 2 3 4,\"It's, so\",1\n5 3,1 2,so so so,0\n");
  const auto set = make_set(folder,
                            "sources: [{path: a.csv, split: train}]\nmax_bad_fraction: 0\nfields:\n"
                            "  - {name: ids, kind: ids}\n  - {name: xy, kind: numbers, width: 2}\n"
                            "  - {name: text, kind: tokens}\n"
                            "  - {name: y, kind: label, classes: 2}\n");
  const Graph graph = graph_of(*set);
  const Preprocess preprocess = Preprocess::of(*set, graph);
  const auto filled = [&](const json& raw) {
    Batch batch = preprocess.empty(graph.inputs, 1);
    preprocess.fill(batch, graph.inputs, 0, raw);
    return row_of(batch, 0, 0) + row_of(batch, 1, 0) + row_of(batch, 2, 0);
  };
  const json good = {{"ids", "3 q"}, {"xy", "1 2 3 4"}, {"text", "It's so, never"}};
  const std::string expected = filled(good);
  const auto with = [&](const char* name, const json& value) {
    json raw = good;
    raw[name] = value;
    return raw;
  };
  for (const json& raw : {with("ids", {3, "Q"}), with("xy", {1, "2", 3.0, 4}),
                          with("xy", json::array({{1, 2}, {3, 4}})),
                          with("text", {"it's", "so", ",", "unheard"})}) {
    EXPECT_EQ(filled(raw), expected) << raw.dump();
  }
  const auto error = [&](const json& raw) { return error_of(preprocess, graph, raw); };
  EXPECT_EQ(error(with("ids", {3, 4})), "column 'ids': '4' was not in training");
  EXPECT_EQ(error(with("ids", {3, nullptr})),
            "column 'ids': element 1: expected a text or a whole number, got null");
  EXPECT_EQ(error(with("ids", {"3 q"})),
            "column 'ids': element 0: '3 q': expected one word an element, got 2");
  EXPECT_EQ(error(with("xy", {1, 2, 3})), "column 'xy': 3 numbers, expected a multiple of 2");
  EXPECT_EQ(error(with("xy", json::array({{1, 2, 3}}))),
            "column 'xy': element 0: expected a list of 2 numbers, got a list of 3");
  EXPECT_EQ(error(with("xy", json::array({json::array({json::array({1}), 2})}))),
            "column 'xy': element 0: expected a number, got a list of 1");
  EXPECT_EQ(error(with("text", 7)), "column 'text': expected a text, got 7");
  EXPECT_EQ(error(with("text", {7})), "column 'text': element 0: expected a word, got 7");
  EXPECT_EQ(error(with("text", "")), "accepted");
}

TEST(Preprocess, PicturesThatAreNone) {
  const std::string folder = test_folder();
  const std::string picture = encode_png({2, 3, 1, "abcdef"});
  put_file(folder + "/tree/x/a.png", picture);
  const auto set = make_set(folder,
                            "sources: [{path: tree, format: image_folder, channels: 1}]\nfields:\n"
                            "  - {name: image, kind: image}\n  - {name: label, kind: label}\n");
  const Graph graph = graph_of(*set);
  Preprocess preprocess = Preprocess::of(*set, graph);
  const auto error = [&](const json& value) {
    return error_of(preprocess, graph, {{"image", value}});
  };
  EXPECT_EQ(error(to_base64(picture)), "accepted");
  EXPECT_EQ(error("data:image/png;base64," + to_base64(picture)), "accepted");
  EXPECT_THAT(error("data:image/png," + to_base64(picture)), HasSubstr("expected data:...;base64"));
  EXPECT_THAT(error("%"), HasSubstr("column 'image': not base64"));
  EXPECT_THAT(error("abc"), HasSubstr("column 'image': not base64"));
  EXPECT_THAT(error("abcd"), HasSubstr("column 'image': neither JPEG nor PNG"));
  EXPECT_THAT(error(to_base64(picture.substr(0, 40))), HasSubstr("column 'image': damaged PNG"));
  EXPECT_EQ(error(to_base64(encode_png({3, 2, 1, "abcdef"}))),
            "column 'image': expected a picture of 2 x 3 pixels, got 3 x 2");
  EXPECT_THAT(error(5), HasSubstr("expected the base64 of a JPEG or PNG file, got 5"));
  EXPECT_THAT(error(to_base64(encode_png({1100, 1000, 1, std::string(1100000, 'x')}))),
              HasSubstr("picture of 1100 x 1000 pixels, expected 1 to 1048576"));
  preprocess.limit_pixels(7);
  EXPECT_THAT(error(to_base64(encode_png({4, 2, 1, "abcdefgh"}))),
              HasSubstr("picture of 4 x 2 pixels, expected 1 to 7"));
  preprocess.limit_pixels(1);   // the model's own size is always taken
  EXPECT_EQ(error(to_base64(picture)), "accepted");
}

TEST(Preprocess, SetsWithoutWhatServingNeedsAreRefused) {
  const std::string folder = test_folder();
  const auto set = joined_set(folder);
  class Old : public ShardSet {
   public:
    explicit Old(const ShardSet& set) : set_(set), fields_(set.fields()) {
      for (Field& field : fields_) field.one_hot.clear();
    }
    const std::string& path() const override { return set_.path(); }
    const std::vector<Field>& fields() const override { return fields_; }
    const std::vector<Vocabulary>& vocabularies() const override { return set_.vocabularies(); }
    const std::vector<ShardInfo>& shards() const override { return set_.shards(); }
    std::vector<Block> blocks(const std::string& s) const override { return set_.blocks(s); }
    bool shuffled() const override { return true; }
    std::string fingerprint() const override { return ""; }
    std::string recipe() const override { return recipe_; }
    Column read(const Block& b, i64 f) const override { return set_.read(b, f); }
    std::vector<i64> row_ids(const Block& b) const override { return set_.row_ids(b); }
    std::vector<std::string> verify() const override { return {}; }
    std::string recipe_;

   private:
    const ShardSet& set_;
    std::vector<Field> fields_;
  } old(*set);
  for (const auto& [recipe, message] :
       {std::pair<std::string, const char*>{"", "no recipe in its manifest"},
        {set->recipe(), "field 'about': the names of its one_hot columns were not kept"},
        {"output: [", "manifest.json: recipe"}}) {
    old.recipe_ = recipe;
    try {
      Preprocess::of(old, graph_of(*set));
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), Exit::data);
      EXPECT_THAT(error.what(), HasSubstr(message));
    }
  }
}

// Two numbers, of which `target` is what the loss compares with.
std::shared_ptr<ShardSet> target_set(const std::string& target) {
  const std::string folder = test_folder();
  put_file(folder + "/a.csv", "x,y,z\n1,0,4\n2,20.5,0\n3,1e6,1\n");
  return make_set(folder, "sources: [{path: a.csv}]\nfields:\n  - {name: x, kind: number}\n  - " +
                              target + "\n");
}

Graph mse_graph(const ShardSet& set) {
  Graph graph = graph_of(set);
  graph.nodes.back().op = Loss{LossKind::mse};
  return graph;
}

// Whatever the recipe and the model make of it before it is compared with.
void expect_way_back(const ShardSet& set, const Ingest& ingest, const std::string& rule) {
  const double raw[] = {0, 20.5, 1e6};
  Graph graph = mse_graph(set);
  for (Node& node : graph.nodes)
    if (!node.out.empty() && node.out[0] == graph.target) node.op = ingest;
  const Preprocess made = Preprocess::of(set, graph);
  const Preprocess read = Preprocess::parse(made.text(), "p.json");
  ASSERT_TRUE(made.target() && read.target()) << rule;
  EXPECT_EQ(read.target()->field, "y");
  const Block block = set.blocks("train").at(0);
  const Column stored = set.read(block, 1);
  const std::vector<i64> ids = set.row_ids(block);
  ASSERT_EQ(ids.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    float value = 0;
    std::memcpy(&value, stored.values.data() + 4 * i, 4);
    double predicted = value * ingest.scale;
    if (!ingest.mean.empty()) predicted = (predicted - ingest.mean[0]) * ingest.inv_std[0];
    const double expected = raw[ids[i]];
    EXPECT_NEAR(read.target()->raw_of({predicted}).at(0), expected, 1e-5 * (1 + expected)) << rule;
    EXPECT_EQ(made.target()->raw_of({predicted}), read.target()->raw_of({predicted})) << rule;
  }
}

TEST(Preprocess, ATargetIsTakenBackToItsRawValue) {
  for (const char* rule : {"log1p: true, offset: -1, scale: 0.3", "offset: -1, scale: 0.25",
                           "scale: -3", "log1p: true", ""}) {
    const auto set = target_set(fmt::format("{{name: y, kind: number, {}}}", rule));
    const Field& y = set->field("y");
    for (const Ingest& ingest : {Ingest{}, Ingest{-0.5, {}, {}},
                                 Ingest{2, {2 * y.stats.mean[0]}, {0.5 / y.stats.stddev[0]}}})
      expect_way_back(*set, ingest, rule);
  }
}

TEST(Preprocess, NoWayBackWhereThereIsNone) {
  const auto scaled = target_set("{name: y, kind: number, scale: 0}");
  EXPECT_FALSE(Preprocess::of(*scaled, mse_graph(*scaled)).target());
  const auto flat = target_set("{name: y, kind: number}");
  Graph level = mse_graph(*flat);
  for (Node& node : level.nodes)
    if (!node.out.empty() && node.out[0] == level.target) node.op = Ingest{0, {}, {}};
  EXPECT_FALSE(Preprocess::of(*flat, level).target());
  const auto numbers = target_set("{name: y, kind: number}");
  Graph graph = mse_graph(*numbers);
  graph.nodes.back().op = Loss{LossKind::bce};
  EXPECT_FALSE(Preprocess::of(*numbers, graph).target());
  json text = json::parse(Preprocess::of(*numbers, mse_graph(*numbers)).text());
  text.erase("target");   // of a bundle made before there was one
  EXPECT_FALSE(Preprocess::parse(text.dump(), "p.json").target());
}

TEST(Preprocess, TellsHowRawRowsAreMadeOfRawData) {
  const std::string folder = test_folder();
  put_file(folder + "/a.csv", "who,when\nann,0\nann,86400\nann,86401\nbob,5\n");
  const auto set = make_set(folder,
                            "sources: [{path: a.csv}]\naggregate: {user: who, time: when, history: 3, "
                            "idle: false, test: 0, validation: 0}\nfields:\n"
                            "  - {name: events, kind: numbers, log1p: true}\n"
                            "  - {name: target, kind: number, scale: 0.5}\n");
  const Preprocess made = Preprocess::of(*set, mse_graph(*set));
  const json told = json::parse(made.text());
  const json& recipe = told.at("recipe");
  EXPECT_EQ(recipe.at("aggregate").at("history"), 3);
  EXPECT_EQ(recipe.at("aggregate").at("period"), 86400);
  EXPECT_EQ(recipe.at("aggregate").at("idle"), false);
  EXPECT_EQ(recipe.at("aggregate").at("user"), "who");
  EXPECT_EQ(recipe.at("sources")[0].at("path"), "a.csv");
  EXPECT_EQ(recipe.at("fields")[1].at("scale"), 0.5);
  EXPECT_EQ(recipe.at("fields")[0].at("log1p"), true);
  EXPECT_THAT(told.at("about").at("recipe").get<std::string>(), HasSubstr("`aggregate`: counts"));
  EXPECT_EQ(Preprocess::parse(made.text(), "p.json").text(), made.text());
}

TEST(Preprocess, DamagedTextIsRefused) {
  const auto set = joined_set(test_folder());
  const json good = json::parse(Preprocess::of(*set, graph_of(*set)).text());
  const json flat = good.flatten();
  i64 refused = 0;
  for (auto it = flat.begin(); it != flat.end(); ++it) {
    if (it.key().starts_with("/about")) continue;
    for (const json& value : std::vector<json>{nullptr, -1, 1e300, "x", json::array(), true}) {
      json bad = good;
      bad[json::json_pointer(it.key())] = value;
      try {
        const Preprocess parsed = Preprocess::parse(bad.dump(), "p.json");
        EXPECT_EQ(Preprocess::parse(parsed.text(), "p.json").text(), parsed.text());
      } catch (const Error& error) {
        EXPECT_EQ(error.exit_code(), Exit::storage) << error.what();
        EXPECT_THAT(error.what(), HasSubstr("p.json: "));
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 100);
  const auto numbers = target_set("{name: y, kind: number}");
  const json rule = json::parse(Preprocess::of(*numbers, mse_graph(*numbers)).text());
  for (const auto& [key, value] : std::initializer_list<std::pair<const char*, json>>{
           {"scale", 0}, {"scale", "1"}, {"offset", nullptr}, {"log1p", 1}, {"field", 3},
           {"normalization", {{"scale", 0}, {"mean", json::array()}, {"inv_std", json::array()}}},
           {"normalization", {{"scale", 1}, {"mean", {1}}, {"inv_std", json::array()}}},
           {"normalization", {{"scale", 1}, {"mean", {1}}, {"inv_std", {0}}}}}) {
    json bad = rule;
    bad["target"][key] = value;
    EXPECT_THROW(Preprocess::parse(bad.dump(), "p.json"), Error) << key << " " << value;
  }
  for (const char* text : {"", "{", "[]", "{}", "\xff", "null"}) {
    EXPECT_THROW(Preprocess::parse(text, "p.json"), Error) << text;
  }
}

}  // namespace
}  // namespace cohort
