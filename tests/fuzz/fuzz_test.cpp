// Mutated input of every reader: a fixed number of cases from fixed seeds. Only Error may come out.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "base/rng.h"
#include "data/recipe.h"
#include "data/shard_command.h"
#include "data/shard_set.h"
#include "fields/base64.h"
#include "fields/csv.h"
#include "fields/idx.h"
#include "fields/image.h"
#include "model/model_config.h"
#include "serve/preprocess.h"
#include "store/files.h"
#include "train/sweep.h"

namespace cohort {
namespace {

// Flips, inserts, removes, repeats or cuts at one to four places.
std::string mutate(std::string text, Stream& random) {
  for (i64 edits = 1 + random.below(4); edits > 0 && !text.empty(); --edits) {
    const std::size_t at = static_cast<std::size_t>(random.below(static_cast<i64>(text.size())));
    const std::size_t length = static_cast<std::size_t>(1 + random.below(8));
    const char byte = static_cast<char>(random.below(256));
    switch (random.below(6)) {
      case 0: text[at] = byte; break;
      case 1: text[at] = static_cast<char>(text[at] ^ (1 << random.below(8))); break;
      case 2: text.insert(at, length, byte); break;
      case 3: text.erase(at, length); break;
      case 4: text.insert(at, text.substr(at, length)); break;
      default: if (random.below(4) == 0) text.resize(at); break;
    }
  }
  return text;
}

// Runs `use` on `cases` mutations; at least some of them must be refused where `refuses`.
void fuzz(const std::string& good, i64 cases, bool refuses,
          const std::function<void(const std::string&)>& use) {
  i64 errors = 0;
  Stream random(mix_key(7, name_key(good)));
  for (i64 i = 0; i < cases; ++i) {
    const std::string bad = mutate(good, random);
    SCOPED_TRACE(testing::Message() << "case " << i);
    try {
      use(bad);
    } catch (const Error& error) {
      EXPECT_STRNE(error.what(), "");
      ++errors;
    } catch (const std::exception& other) {
      ADD_FAILURE() << "not an Error: " << other.what();
    }
  }
  if (refuses) {
    EXPECT_GT(errors, 0);
  }
}

std::string scratch(const std::string& name) {
  const std::string folder = testing::TempDir() + "fuzz_" + name;
  real_files().remove(folder);
  real_files().make_folder(folder);
  return folder;
}

std::string data_file(const std::string& name) {
  const char* folder = std::getenv("COHORT_TEST_DATA");
  if (folder == nullptr || !real_files().exists(std::string(folder) + "/" + name)) return "";
  return real_files().read(std::string(folder) + "/" + name);
}

std::string recipe_text(const std::string& folder) {
  return "root: " + folder + "\noutput: " + folder +
         "/set\norder: keep\nrows_per_block: 2\nsources: [{path: a.csv}]\nfields:\n"
         "  - {name: seq, kind: numbers}\n  - {name: y, kind: label, classes: 3}\n";
}

std::string small_set(const std::string& name) {
  const std::string folder = scratch(name);
  write_atomically(real_files(), folder + "/a.csv", "seq,y\n1 2.5,0\n4,2\n3,1\n");
  write_atomically(real_files(), folder + "/r.yaml", recipe_text(folder));
  shard(folder + "/r.yaml", {});
  return folder + "/set";
}

// Without the syncs of write_atomically.
void put(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

void open_and_verify(const std::string& path) { ShardSet::open(path)->verify(); }

TEST(Fuzz, Csv) {
  fuzz("a,b,c\r\n1,\"x\"\"y\nz\",\xc3\xa9\n\"\",,3\n", 20000, false, [](const std::string& text) {
    for (bool quotes : {true, false}) {
      std::size_t bytes = 0;
      CsvParser parser(',', quotes, [&](const CsvRecord& record) {
        for (const std::string& cell : record.cells) bytes += valid_utf8(cell) ? cell.size() : 0;
      });
      parser.feed(text);
      parser.finish();
      EXPECT_LE(bytes, text.size());
    }
  });
}

TEST(Fuzz, Idx) {
  const std::string path = scratch("idx") + "/a.idx";
  std::string good("\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x03", 16);
  good += "abcdefghijkl";
  fuzz(good, 500, true, [&](const std::string& bytes) {
    put(path, bytes);
    const IdxArray array = read_idx(path);
    EXPECT_EQ(count(array.shape), static_cast<i64>(array.bytes.size()));
  });
}

TEST(Fuzz, Pictures) {
  for (const char* name : {"pngsuite/basn3p08.png", "pngsuite/basi6a16.png",
                           "cifar10-jpeg/train/airplane/0000.jpg"}) {
    const std::string good = data_file(name);
    if (good.empty()) GTEST_SKIP() << "COHORT_TEST_DATA has no " << name;
    fuzz(good, 1500, true, [](const std::string& bytes) { decode_image(bytes, 3); });
  }
}

TEST(Fuzz, ManifestBytes) {
  const std::string set = small_set("manifest"), path = set + "/manifest.json";
  fuzz(real_files().read(path), 400, true, [&](const std::string& text) {
    put(path, text);
    open_and_verify(set);
  });
}

TEST(Fuzz, ManifestValuesUnderAGoodChecksum) {
  const std::string set = small_set("values"), path = set + "/manifest.json";
  const nlohmann::json good = nlohmann::json::parse(real_files().read(path));
  const nlohmann::json flat = good.flatten();
  const auto write = [&](nlohmann::json facts) {
    facts.erase("manifest_checksum");
    facts["manifest_checksum"] = to_hex(hash_text(facts.dump()));
    put(path, facts.dump() + "\n");
  };
  write(good);
  ASSERT_TRUE(ShardSet::open(set)->verify().empty());  // the checksum made here is the right one
  const std::vector<nlohmann::json> values{nullptr, -1, 0, 7, 1e300, "x", "", true,
                                           std::numeric_limits<i64>::max(), nlohmann::json::array(),
                                           nlohmann::json::object()};
  for (auto it = flat.begin(); it != flat.end(); ++it) {
    for (const nlohmann::json& value : values) {
      SCOPED_TRACE(it.key() + " = " + value.dump());
      nlohmann::json bad = good;
      bad[nlohmann::json::json_pointer(it.key())] = value;
      write(bad);
      try {
        open_and_verify(set);
      } catch (const Error& error) {
        EXPECT_STRNE(error.what(), "");
      } catch (const std::exception& other) {
        ADD_FAILURE() << "not an Error: " << other.what();
      }
    }
  }
}

TEST(Fuzz, ShardFile) {
  const std::string set = small_set("shard"), path = set + "/train-00000.h5";
  const std::string good = real_files().read(path);
  fuzz(good, 400, true, [&](const std::string& bytes) {
    std::string same_size = bytes;
    same_size.resize(good.size());
    put(path, same_size);
    open_and_verify(set);
  });
}

TEST(Fuzz, Recipe) {
  fuzz(recipe_text("raw"), 3000, true, [](const std::string& text) {
    Recipe recipe;
    Binder::read(Document::parse(text, "r.yaml"), recipe);
  });
}

// What is accepted reads back equal, and its points can be made.
TEST(Fuzz, Sweep) {
  const std::string good =
      "name: s\nconfig: base.yaml\nset: [a.b=1]\nmethod: random\ntrials: 4\nseed: 3\n"
      "objective: {metric: rmse, of: last}\nkeys:\n  a: {choice: [1, x]}\n"
      "  b: {log_uniform: [1e-4, 1]}\n  c: {integer: [-2, 3]}\n  d: {uniform: [0, 1], points: 2}\n";
  fuzz(good, 3000, true, [](const std::string& text) {
    const SweepSpec spec = SweepSpec::parse(Document::parse(text, "s.yaml"));
    EXPECT_EQ(make_point(spec, count_points(spec) - 1).values.size(), spec.keys.size());
    const std::string resolved = spec.text();
    EXPECT_EQ(SweepSpec::parse(Document::parse(resolved, "again.yaml")).text(), resolved);
  });
}

// What is accepted reads back equal.
TEST(Fuzz, ModelWithBlocks) {
  const std::string good =
      "inputs: {image: {}}\n"
      "blocks:\n"
      "  a: {parameters: [n], layers: [{conv2d: {filters: $n*2, kernel: 3}}, {add: {from: [conv2d0, "
      "input]}}]}\n"
      "  b: {parameters: [n], layers: [{use: {block: a, with: {n: $n}}}, {flatten: {from: input}}]}\n"
      "layers:\n"
      "  - use: {block: b, name: s, repeat: 3, from: image, with: {n: 4}}\n"
      "  - use: {block: a, from: s, with: {n: 5}}\n"
      "  - dense: {units: 1}\n"
      "loss: {mse: {target: y}}\n";
  fuzz(good, 3000, true, [](const std::string& text) {
    ModelConfig model, again;
    Binder::read(Document::parse(text, "m.yaml"), model);
    const std::string resolved = Binder::write(model);
    Binder::read(Document::parse(resolved, "again.yaml"), again);
    EXPECT_EQ(Binder::write(again), resolved);
  });
}

// A set with a field of every kind, and a graph that reads them all.
std::shared_ptr<ShardSet> serving_set() {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();   // several run at once
  const std::string folder = scratch(std::string("serve_") + test->name());
  real_files().make_folder(folder + "/tree/a");
  write_atomically(real_files(), folder + "/tree/a/1.png",
                   encode_png({3, 2, 3, "abcdefghijklmnopqr"}));
  write_atomically(real_files(), folder + "/t.csv",
                   "name,xy,ids,text,n,who\na,1 2 3 4,3 5,It's so,2,ann\n");
  write_atomically(
      real_files(), folder + "/r.yaml",
      "root: " + folder + "\noutput: " + folder +
          "/set\nsources: [{path: tree, format: image_folder, size: [4, 3], resize: true}]\n"
          "joins: [{on: label, key: name, table: {path: t.csv}}]\nfields:\n"
          "  - {name: image, kind: image}\n  - {name: xy, kind: numbers, width: 2, log1p: true}\n"
          "  - {name: ids, kind: ids, part: history}\n  - {name: text, kind: tokens}\n"
          "  - {name: n, kind: number, columns: [n], one_hot: [who]}\n"
          "  - {name: k, kind: id, column: n, classes: 3}\n  - {name: label, kind: label}\n");
  shard(folder + "/r.yaml", {});
  return ShardSet::open(folder + "/set");
}

Graph serving_graph(const ShardSet& set) {
  Graph graph;
  for (const Field& field : set.fields()) {
    Input input{field.name, field.dtype, field.shape, field.ragged, field.ragged ? 3 : 0,
                static_cast<i64>(graph.values.size())};
    if (field.ragged) input.shape.insert(input.shape.begin(), 3);
    graph.values.push_back({field.name, input.shape, field.classes > 0, -1, 0});
    graph.inputs.push_back(input);
  }
  graph.target = static_cast<i64>(graph.values.size()) - 1;
  return graph;
}

nlohmann::json random_json(Stream& random, const nlohmann::json& good, int depth) {
  switch (random.below(depth > 5 ? 9 : 12)) {
    case 0: return nullptr;
    case 1: return random.below(2) == 0;
    case 2: return random.below(7) - 3;
    case 3: return std::numeric_limits<i64>::min() + random.below(2);
    case 4: return std::numeric_limits<u64>::max();
    case 5: return random.below(2) == 0 ? 1e308 : -random.normal();
    case 6: return std::string(static_cast<std::size_t>(random.below(9)),
                               "a 1,.\0\xff\xc3="[random.below(10)]);
    case 7: return good;
    case 8: return good.is_string() ? mutate(good.get<std::string>(), random) : "";
    case 9: return nlohmann::json::object({{"a", random_json(random, good, depth + 1)}});
    default: break;
  }
  nlohmann::json list = nlohmann::json::array();
  for (i64 n = random.below(5); n > 0; --n) list.push_back(random_json(random, good, depth + 1));
  return list;
}

// The rows of a batch that serving makes: whatever comes, an Error or a whole row.
TEST(Fuzz, RawRow) {
  const auto set = serving_set();
  const Graph graph = serving_graph(*set);
  const Preprocess preprocess = Preprocess::of(*set, graph);
  const nlohmann::json good = preprocess.raw_row(set->samples().at(0));
  i64 accepted = 0, refused = 0;
  const auto fill = [&](const nlohmann::json& raw) {
    Batch batch = preprocess.empty(graph.inputs, 2);
    try {
      preprocess.fill(batch, graph.inputs, 1, raw);
      ++accepted;
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), Exit::data);
      EXPECT_LT(std::string(error.what()).size(), 1000u);
      ++refused;
    }
    for (const BatchColumn& column : batch.columns) {
      for (const i32 length : column.lengths) EXPECT_TRUE(length >= 0 && length <= 3) << length;
    }
  };
  fill(good);
  ASSERT_EQ(accepted, 1);
  Stream random(mix_key(11, 3));
  for (i64 i = 0; i < 20000; ++i) {
    nlohmann::json raw = good;
    auto at = raw.begin();
    std::advance(at, random.below(static_cast<i64>(raw.size())));
    *at = random_json(random, *at, 0);
    fill(raw);
    if (i % 10 == 0) fill(random_json(random, good, 0));
  }
  fuzz(good.dump(), 5000, false, [&](const std::string& text) {
    const nlohmann::json raw = nlohmann::json::parse(text, nullptr, false);
    if (!raw.is_discarded()) fill(raw);
  });
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(refused, 1000);
}

// What is accepted reads back equal and makes rows.
TEST(Fuzz, PreprocessText) {
  const auto set = serving_set();
  const Graph graph = serving_graph(*set);
  const Preprocess whole = Preprocess::of(*set, graph);
  const nlohmann::json raw = whole.raw_row(set->samples().at(0));
  const auto use = [&](const std::string& text) {
    const Preprocess parsed = Preprocess::parse(text, "preprocess.json");
    EXPECT_EQ(Preprocess::parse(parsed.text(), "again").text(), parsed.text());
    Batch batch = parsed.empty(graph.inputs, 1);
    parsed.fill(batch, graph.inputs, 0, raw);
  };
  fuzz(whole.text(), 6000, true, use);
  const nlohmann::json good = nlohmann::json::parse(whole.text()), flat = good.flatten();
  Stream random(mix_key(11, 4));
  for (auto it = flat.begin(); it != flat.end(); ++it) {
    if (it.key().starts_with("/about")) continue;
    for (int i = 0; i < 12; ++i) {
      nlohmann::json bad = good;
      bad[nlohmann::json::json_pointer(it.key())] = random_json(random, it.value(), 0);
      SCOPED_TRACE(it.key());
      try {
        use(bad.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
      } catch (const Error& error) {
        EXPECT_STRNE(error.what(), "");
      }
    }
  }
}

}  // namespace
}  // namespace cohort
