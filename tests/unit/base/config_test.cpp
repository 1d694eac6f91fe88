#include "base/config.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>

#include "base/error.h"
#include "base/rng.h"

namespace cohort {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Part {
  i64 units = 1;
  std::string label;
  bool operator==(const Part&) const = default;
};
void bind(Binder& b, Part& c) {
  b.key("units", c.units, at_least(1), "How many.");
  b.key("label", c.label, any(), "What it is called.");
}

struct Choice {
  std::string kind = "dense";
  i64 units = 0;
  double rate = 0;
  bool operator==(const Choice&) const = default;
};
void bind(Binder& b, Choice& c) {
  b.tagged({"dense", "dropout", "flatten"}, c.kind, "One of these.", [&](Binder& inner) {
    if (c.kind == "dense") inner.required("units", c.units, at_least(1), "How many.");
    if (c.kind == "dropout") inner.key("rate", c.rate, below_one(), "Share dropped.");
  });
}

struct Everything {
  bool flag = false;
  i64 count = 3;
  u64 seed = 0;
  double rate = 0.5;
  std::string kind = "constant", text;
  std::optional<i64> limit;
  std::optional<double> clip = 1.0;
  std::optional<std::string> note;
  std::vector<i64> ids;
  std::vector<double> weights;
  std::vector<std::string> words;
  Part part;
  std::optional<Part> extra;
  std::vector<Part> parts;
  std::vector<std::pair<std::string, Part>> named;
  std::vector<Choice> choices;
  bool operator==(const Everything&) const = default;
};
void bind(Binder& b, Everything& c) {
  b.key("flag", c.flag, any(), "A switch.");
  b.key("count", c.count, between(-5, 1e18), "A count.");
  b.key("seed", c.seed, any(), "A seed.");
  b.key("learning_rate", c.rate, above(0), "A rate.");
  b.key("kind", c.kind, one_of({"constant", "cosine"}), "A shape.");
  b.key("text", c.text, any(), "A text.");
  b.key("limit", c.limit, at_least(0), "A limit.");
  b.key("clip", c.clip, above(0), "A clip.");
  b.key("note", c.note, any(), "A note.");
  b.key("ids", c.ids, at_least(0), "Ids.");
  b.key("weights", c.weights, any(), "Weights.");
  b.key("words", c.words, any(), "Words.");
  b.group("part", c.part, "A part.");
  b.optional_group("extra", c.extra, "A part or none.");
  b.list("parts", c.parts, "Parts.");
  b.named("named", c.named, "Parts with names.");
  b.list("choices", c.choices, "Choices.");
}

Everything read(const std::string& text, const std::vector<std::string>& overrides = {}) {
  Document document = Document::parse(text, "a.yaml");
  for (const std::string& assignment : overrides) document.override_key(assignment);
  Everything all;
  Binder::read(document, all);
  return all;
}

// The message of the usage error that reading must give.
std::string refusal(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    read(text, overrides);
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::usage);
    return e.what();
  }
  ADD_FAILURE() << "accepted: " << text;
  return "";
}

TEST(Config, ReadsEveryType) {
  const Everything c = read(
      "flag: true\ncount: -5\nseed: 18446744073709551615\nlearning_rate: 1e-3\nkind: cosine\n"
      "text: \"10\"\nlimit: 0\nclip: null\nids: [1, 2]\nweights: [1, -.5]\nwords: [a, \"b c\"]\n"
      "part: {units: 4}\nextra: {label: x}\nparts: [{units: 2}, {}]\n"
      "named:\n  z: {units: 9}\n  a: {}\nchoices: [{dropout: {rate: 0.25}}, {flatten: }]\n");
  EXPECT_TRUE(c.flag);
  EXPECT_EQ(c.count, -5);
  EXPECT_EQ(c.seed, ~u64{0});
  EXPECT_EQ(c.rate, 1e-3);
  EXPECT_EQ(c.text, "10");
  EXPECT_EQ(c.limit, 0);
  EXPECT_EQ(c.clip, std::nullopt);
  EXPECT_EQ(c.note, std::nullopt);
  EXPECT_THAT(c.ids, ElementsAre(1, 2));
  EXPECT_THAT(c.weights, ElementsAre(1, -0.5));
  EXPECT_THAT(c.words, ElementsAre("a", "b c"));
  EXPECT_EQ(c.extra->label, "x");
  EXPECT_THAT(c.parts, ElementsAre(Part{2, ""}, Part{1, ""}));
  ASSERT_EQ(c.named.size(), 2u);
  EXPECT_EQ(c.named[0], (std::pair<std::string, Part>{"z", {9, ""}}));  // in file order
  EXPECT_EQ(c.choices[0], (Choice{"dropout", 0, 0.25}));
  EXPECT_EQ(c.choices[1].kind, "flatten");
}

TEST(Config, AnEmptyFileKeepsTheDefaults) { EXPECT_EQ(read("# nothing\n"), Everything{}); }

TEST(Config, UnknownKeysNameTheirPlaceAndTheNearest) {
  EXPECT_EQ(refusal("count: 1\nlerning_rate: 2\n"),
            "a.yaml:2:1: unknown key 'lerning_rate'; did you mean 'learning_rate'?");
  EXPECT_THAT(refusal("part:\n  unit: 2\n"), HasSubstr("a.yaml:2:3: unknown key 'part.unit'"));
  EXPECT_THAT(refusal("part: {zzzzzz: 2}\n"), HasSubstr("expected one of: units, label"));
  EXPECT_THAT(refusal("kind: cosin\n"), HasSubstr("did you mean 'cosine'"));
  EXPECT_THAT(refusal("choices: [{dens: {}}]"), HasSubstr("did you mean 'dense'"));
}

TEST(Config, WrongValuesNameWhatWasExpectedAndGot) {
  EXPECT_EQ(refusal("count: abc\n"),
            "a.yaml:1:8: count: expected an integer that fits 64 bits, got 'abc'");
  EXPECT_THAT(refusal("parts:\n- {units: 0}\n"),
              testing::AllOf(HasSubstr("a.yaml:2:11"), HasSubstr("parts[0].units"),
                             HasSubstr(">= 1"), HasSubstr("'0'")));
  for (const char* bad : {"count: 9223372036854775808",
                          "count: 1.5",
                          "count: \"1\"",
                          "count: [1]",
                          "count: 1e3",
                          "seed: -1",
                          "seed: 18446744073709551616",
                          "flag: yes",
                          "flag: 1",
                          "learning_rate: .nan",
                          "learning_rate: nan",
                          "learning_rate: inf",
                          "learning_rate: 0",
                          "learning_rate: 1e999",
                          "ids: 3",
                          "ids: [1, -1]",
                          "ids: [a]",
                          "part: 3",
                          "part: [1]",
                          "parts: {a: 1}",
                          "parts: [3]",
                          "named: [1]",
                          "choices: [{}]",
                          "choices: [{dense: {units: 1}, flatten: {}}]",
                          "choices: [{dense: {}}]",
                          "choices: [{dropout: {rate: 1}}]",
                          "kind: {}"})
    EXPECT_THAT(refusal(bad), HasSubstr("a.yaml:1:")) << bad;
}

TEST(Config, DuplicateKeysAreRefused) {
  EXPECT_EQ(refusal("count: 1\ncount: 2\n"), "a.yaml:2:1: key 'count' is given twice; remove one");
  EXPECT_THAT(refusal("part: {units: 1, units: 2}\n"), HasSubstr("given twice"));
}

TEST(Config, BrokenYamlIsAUsageErrorWithItsPlace) {
  for (const char* bad :
       {"a: [1, 2", "a: b: c", "\tcount: 1", "count: *nobody", "- 1", "just text", "{[a]: 1}",
        "a: \"x", "count: 1\n---\ncount: 2\n", "part: &a {units: 1, label: *a}\nextra: *b"})
    EXPECT_THAT(refusal(bad), HasSubstr("a.yaml")) << bad;
  EXPECT_THAT(refusal(std::string("count: 1\n\x04\nflag: 3", 18)), HasSubstr("a.yaml:2:1"));
  EXPECT_THAT(refusal(std::string("c\0unt: 1", 8)), HasSubstr("0x00"));
}

TEST(Config, NestingAndAliasBombsEnd) {
  EXPECT_THAT(refusal("a: " + std::string(100, '[') + std::string(100, ']')), HasSubstr("nested"));
  refusal("a: " + std::string(100000, '['));
  std::string bomb = "a0: [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string last = "*b" + std::to_string(i - 1);
    if (i == 1) bomb = "a0: &b0 [x, x, x, x, x, x, x, x, x, x]\n";
    bomb += "a" + std::to_string(i) + ": &b" + std::to_string(i) + " [" + last;
    for (int k = 0; k < 9; ++k) bomb += ", " + last;
    bomb += "]\n";
  }
  EXPECT_THAT(refusal(bomb), HasSubstr("nodes"));
  std::string deep = "a";
  for (int i = 0; i < 100000; ++i) deep += ".a";
  EXPECT_THAT(refusal("", {deep + "=1"}), HasSubstr("nested"));
}

TEST(Config, OverridesReplaceAddAndAddressLists) {
  const std::string text = "parts: [{units: 2}, {units: 3}]\npart: {units: 5, label: a}\n";
  const Everything c = read(text, {"parts.1.units=7", "part.label=b=c", "extra.units=9",
                                   "ids=[4, 5]", "choices=[{dense: {units: 3}}]"});
  EXPECT_EQ(c.parts[0].units, 2);
  EXPECT_EQ(c.parts[1].units, 7);
  EXPECT_EQ(c.part, (Part{5, "b=c"}));
  EXPECT_EQ(c.extra->units, 9);
  EXPECT_THAT(c.ids, ElementsAre(4, 5));
  EXPECT_EQ(c.choices[0].units, 3);
}

TEST(Config, OverridesThatAreWrongSayCommandLine) {
  EXPECT_EQ(refusal("", {"part.units=0"}),
            "command line: part.units=0: part.units: expected >= 1, got '0'");
  EXPECT_THAT(refusal("", {"part.unts=4"}), HasSubstr("command line: part.unts=4: unknown key"));
  for (const char* bad : {"novalue", "=3", "parts.0.units=1", "count=[", "count.deeper=1"})
    EXPECT_THAT(refusal("count: 2\nparts: []", {bad}), HasSubstr("command line: ")) << bad;
}

std::string random_text(Stream& s) {
  static const std::string letters = "aZ09 :-#'\"\\\n\t\r,[]{}&*!|>%@`~.?=\x01\x7f";
  static const std::vector<std::string> words = {"null", "Null", "~",   "true", "1e5", "",
                                                 "-",    "中文", "😀 é", " x ",  "---", "0x10"};
  if (s.below(3) == 0) return words[static_cast<std::size_t>(s.below(12))];
  std::string text;
  for (i64 n = s.below(8); n > 0; --n)
    text += letters[static_cast<std::size_t>(s.below(static_cast<i64>(letters.size())))];
  return text;
}

Part random_part(Stream& s) { return {1 + s.below(1000), random_text(s)}; }

Everything random_config(Stream& s) {
  Everything c;
  c.flag = s.below(2) == 1;
  c.count = s.below(1000000000000) - 5;
  c.seed = s.next_u64();
  c.rate = std::exp2(s.normal() * 100);
  c.kind = s.below(2) == 1 ? "cosine" : "constant";
  c.text = random_text(s);
  if (s.below(2)) c.limit = s.below(10);
  c.clip = s.below(2) ? std::optional<double>(s.uniform() + 1e-9) : std::nullopt;
  if (s.below(2)) c.note = random_text(s);
  for (i64 n = s.below(4); n > 0; --n) c.ids.push_back(s.below(1 << 30));
  for (i64 n = s.below(4); n > 0; --n) c.weights.push_back(s.normal());
  for (i64 n = s.below(4); n > 0; --n) c.words.push_back(random_text(s));
  c.part = random_part(s);
  if (s.below(2)) c.extra = random_part(s);
  for (i64 n = s.below(3); n > 0; --n) c.parts.push_back(random_part(s));
  for (i64 n = s.below(3); n > 0; --n)
    c.named.emplace_back(std::to_string(n) + random_text(s), random_part(s));
  for (i64 n = s.below(4); n > 0; --n)
    c.choices.push_back(n == 1   ? Choice{"dense", 1 + s.below(9), 0}
                        : n == 2 ? Choice{"dropout", 0, s.uniform()}
                                 : Choice{"flatten", 0, 0});
  return c;
}

TEST(Config, WhatIsWrittenReadsBackEqual) {
  for (u64 key = 0; key < 500; ++key) {
    Stream s(key);
    const Everything c = random_config(s);
    const std::string text = Binder::write(c);
    Everything back;
    ASSERT_NO_THROW(back = read(text)) << text;
    ASSERT_EQ(back, c) << text;
    ASSERT_EQ(Binder::write(back), text);
  }
}

// Lists and maps whose items write no key of their own.
struct Hollow {
  std::vector<std::pair<std::string, Choice>> named = {};
  std::vector<Choice> list;
};
void bind(Binder& b, Hollow& c) {
  b.named("named", c.named, "");
  b.list("list", c.list, "");
}

TEST(Config, EmptyItemsSurviveWriting) {
  Hollow c;
  c.named.emplace_back("a.b", Choice{"flatten", 0, 0});
  c.list = {{"flatten", 0, 0}, {"flatten", 0, 0}};
  Hollow back;
  Binder::read(Document::parse(Binder::write(c), "w"), back);
  EXPECT_EQ(back.list, c.list);
  EXPECT_EQ(back.named, c.named);
}

// A struct that comes with items: a file names all of them anew.
struct Filled {
  std::vector<std::pair<std::string, Part>> named = {{"a", {7, "x"}}, {"b", {8, "y"}}};
  std::vector<Part> list = {{7, "x"}, {8, "y"}};
  bool operator==(const Filled&) const = default;
};
void bind(Binder& b, Filled& c) {
  b.named("named", c.named, "");
  b.list("list", c.list, "");
}

TEST(Config, ListsAndMapsInTheFileReplaceDefaults) {
  const auto filled = [](const std::string& text) {
    Filled c;
    Binder::read(Document::parse(text, "a.yaml"), c);
    return c;
  };
  const Part fresh;
  EXPECT_EQ(filled(""), Filled());
  EXPECT_EQ(filled("list: [{}]\nnamed: {c: {}}"), (Filled{{{"c", fresh}}, {fresh}}));
  EXPECT_EQ(filled("list: []\nnamed: {}"), (Filled{{}, {}}));
  EXPECT_EQ(filled(Binder::write(Filled{{}, {}})), (Filled{{}, {}}));
}

TEST(Config, DescribesEveryKeyWithTypeRuleAndDefault) {
  const std::vector<KeyDoc> docs = Binder::describe<Everything>();
  const auto find = [&](const std::string& path) {
    for (const KeyDoc& doc : docs)
      if (doc.path == path) return doc;
    ADD_FAILURE() << "no key " << path;
    return KeyDoc{};
  };
  const KeyDoc count = find("count");
  EXPECT_EQ(count.type, "integer");
  EXPECT_EQ(count.default_value, "3");
  EXPECT_EQ(count.text, "A count.");
  EXPECT_EQ(find("kind").rule, "one of: constant, cosine");
  EXPECT_EQ(find("part.units").rule, ">= 1");
  EXPECT_EQ(find("extra.units").type, "integer");
  EXPECT_EQ(find("named.<name>.label").text, "What it is called.");
  find("parts[].units");
  EXPECT_EQ(find("choices[].dense.units").default_value, "required");
  find("choices[].dropout.rate");
  find("choices[].flatten");
}

TEST(Config, ADocumentAsJson) {
  EXPECT_EQ(Document::parse("a: [1, -0.5, 1e-3, 007, 0x1f, .inf, true, \"true\", a b, \"\", {}, []]\n"
                            "b: {c: null, \"d\\\"\\t\": 18446744073709551615}\n", "t").json(),
            R"({"a":[1,-0.5,1e-3,"007","0x1f",".inf",true,"true","a b","",{},[]],)"
            R"("b":{"c":null,"d\"\u0009":18446744073709551615}})");
}

TEST(Config, FilesThatCannotBeReadAreUsageErrors) {
  EXPECT_THROW(Document::load("no/such/file.yaml"), Error);
  EXPECT_THROW(Document::load(testing::TempDir()), Error);  // a folder
  const std::string path = testing::TempDir() + "cohort_config_test.yaml";
  std::ofstream(path) << "count: 12\n";
  Everything c;
  Binder::read(Document::load(path), c);
  EXPECT_EQ(c.count, 12);
}

}  // namespace
}  // namespace cohort
