// preprocess.json: text and back.
#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "fields/tokens.h"
#include "serve/preprocess_impl.h"

namespace cohort {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;
constexpr i64 kMostElements = i64{1} << 31;   // of a row; the length of a sequence

bool is_number(const std::string& kind) { return kind == "number" || kind == "numbers"; }
bool is_ragged(const std::string& kind) {
  return kind == "numbers" || kind == "ids" || kind == "tokens";
}

// For those who write a reader of their own.
json about() {
  return {
      {"raw_row",
       "A JSON object that holds the columns of all inputs and no others; a picture lies under its "
       "field's name."},
      {"number",
       "((log1p ? log(1 + x) : x) + offset) * scale in float64, rounded to float32; the numbers of "
       "columns in order, then for every one_hot column a 1 for its name and 0 for the others. A "
       "name that is not listed is an error."},
      {"numbers",
       "A sequence: a list, or a text of numbers between white space; width numbers make one "
       "element."},
      {"id",
       "Index of the text in the vocabulary, exactly as it is; without one the whole number. What "
       "is not in the vocabulary or in [0, classes) is an error."},
      {"white space",
       "What has the Unicode property White_Space: U+0009-000D 0020 0085 00A0 1680 2000-200A 2028 2029 "
       "202F 205F 3000."},
      {"ids", "A sequence of such: a list, or a text of words between white space, lower-cased."},
      {"tokens",
       "A text, lower-cased (Unicode, root locale), cut into words; a list is taken as words. "
       "words = unicode: at the word boundaries of UAX 29 (ICU, root locale), white space dropped, "
       "punctuation kept as words; words = space: at white space. Index in the vocabulary, "
       "unknown_id for others."},
      {"image",
       "base64 of a JPEG or PNG file, data:...;base64, before it or not; to 8-bit grey or RGB, "
       "uint8 [height, width, channels]. PNG samples as stored, no gamma, no colour profile: 16 "
       "bits by the high byte; then transparent pixels over black, round(v * alpha / 255); then "
       "RGB to grey by (19595 R + 38470 G + 7471 B + 32768) >> 16. JPEG to grey: its Y. resize: "
       "bilinear, pixel centres at i + 0.5, edges repeated, rounded half up; none: another size is "
       "an error."},
      {"sequences",
       "The last max_length elements are kept; shorter ones are padded behind with padding. "
       "<field>_lengths holds the number of elements kept."},
      {"normalization",
       "(x * scale - mean[c]) * inv_std[c], c over the last dimension. It is the first thing in "
       "model.onnx: do not do it again."},
      {"target",
       "What a prediction stands for, in float64: x = prediction / inv_std[c] + mean[c], c over "
       "the last dimension, where there are means; x = x / normalization.scale / scale - offset; "
       "the value is x, or exp(x) - 1 where log1p. It is the output `value` of model.onnx."},
      {"recipe",
       "How raw rows come from raw data, as `cohort shard` read it, with all defaults. The rows "
       "of `sources` (their `columns`, or those of the header; `lines` gives `text`), then "
       "`joins`: the columns of the row of `table` whose `key` is the row's `on`. `group`: the "
       "rows of one `key` make one, each of `columns` in order of `time` joined by spaces, and "
       "`deltas`, the times since the row before. `aggregate`: counts of a `user`'s rows by "
       "periods of `period` (`time` divided by it, rounded down), from the user's first to the "
       "last of the data; a raw row's `events` are the counts of the `history` periods before "
       "the one to be told, fewer at first, oldest first, between spaces; `target` is that one's "
       "count. `fields` name the columns that they read; a raw row has those of inputs alone. "
       "What else stands there (splits, orders, paths, where words were counted) made the "
       "training data and changes no answer."}};
}

json constants_of(const Ingest& ingest) {
  return {{"scale", ingest.scale}, {"mean", ingest.mean}, {"inv_std", ingest.inv_std}};
}

Ingest constants_from(const json& constants) {
  return {constants.at("scale").get<double>(), constants.at("mean").get<std::vector<double>>(),
          constants.at("inv_std").get<std::vector<double>>()};
}

json rule_of(const InputRule& input, const Field& field, bool resize) {
  const FieldConfig& config = input.config;
  const std::string& kind = config.kind;
  json rule = {{"name", input.name}, {"field", field.name}, {"kind", kind},
               {"columns", columns_of(config)}, {"dtype", name_of(field.dtype)},
               {"element_shape", field.shape}};
  if (is_number(kind)) {
    rule.update({{"log1p", config.log1p}, {"offset", config.offset}, {"scale", config.scale}});
    if (kind == "numbers") rule["width"] = config.width;
    for (const OneHot& column : field.one_hot) {
      rule["one_hot"].push_back({{"column", column.column}, {"names", column.names}});
    }
  } else if (kind == "image") {
    rule.update({{"resize", resize ? "bilinear" : "none"},
                 {"order", field.shape[2] == 1 ? "height, width, grey" : "height, width, RGB"}});
  } else {
    rule["classes"] = field.classes;
    if (!field.vocabulary.empty()) rule["vocabulary"] = field.vocabulary;
    if (kind == "tokens") rule.update({{"words", config.words}, {"unknown_id", 0}});
    rule["part"] = config.part;
  }
  if (is_ragged(kind)) {
    rule.update({{"max_length", input.max_length}, {"keeps", "last"},
                 {"padding", is_number(kind) ? 0 : -1}, {"lengths", field.name + "_lengths"}});
  }
  if (is_number(kind) || kind == "image") {
    rule["normalization"] = constants_of(input.ingest);
    rule["normalization"]["in_model"] = true;
  }
  return rule;
}

i64 integer(const json& object, const char* key) {
  const json& value = object.at(key);
  if (!value.is_number_integer()) {
    fail(Exit::storage, "'{}': expected a whole number", key);
  }
  return value.get<i64>();
}

InputRule rule_from(const json& rule, bool& resize) {
  InputRule input;
  input.name = rule.at("name").get<std::string>();
  FieldConfig& config = input.config;
  config.name = rule.at("field").get<std::string>();
  config.kind = rule.at("kind").get<std::string>();
  const auto columns = rule.at("columns").get<std::vector<std::string>>();
  if (config.kind == "number") {
    config.columns = columns;
    for (const json& column : rule.value("one_hot", json::array())) {
      config.one_hot.push_back(column.at("column").get<std::string>());
    }
  } else if (columns.size() != (config.kind == "image" ? 0U : 1U)) {
    fail(Exit::storage, "'columns': {}, expected one", columns.size());
  } else if (!columns.empty()) {
    config.column = columns[0];
  }
  if (is_number(config.kind)) {
    config.log1p = rule.at("log1p").get<bool>();
    config.offset = rule.at("offset").get<double>();
    config.scale = rule.at("scale").get<double>();
    if (config.kind == "numbers") config.width = integer(rule, "width");
  } else if (config.kind == "image") {
    resize = rule.at("resize").get<std::string>() == "bilinear";
  } else {
    config.part = rule.at("part").get<std::string>();
    if (!rule.contains("vocabulary")) config.classes = integer(rule, "classes");
    if (config.kind == "tokens") config.words = rule.at("words").get<std::string>();
  }
  if (is_ragged(config.kind)) input.max_length = integer(rule, "max_length");
  if (rule.contains("normalization")) input.ingest = constants_from(rule.at("normalization"));
  return input;
}

TargetRule target_from(const json& rule) {
  const TargetRule target = {rule.at("field").get<std::string>(), rule.at("log1p").get<bool>(),
                             rule.at("offset").get<double>(), rule.at("scale").get<double>(),
                             constants_from(rule.at("normalization"))};
  if (!target.reversible()) fail(Exit::storage, "target: no way back");
  return target;
}

// Of any field: sizes that cannot overflow.
std::string problem_of_field(const Field& field) {
  i64 elements = 1;
  for (const i64 extent : field.shape) {
    if (extent < 1 || extent > kMostElements / elements) {
      return "elements: expected 1 to " + std::to_string(kMostElements);
    }
    elements *= extent;
  }
  if (field.classes < 0 || field.classes > std::numeric_limits<i32>::max()) {
    return "classes: expected 0 to 2147483647";
  }
  return field.name.empty() ? "name: expected one" : "";
}

}  // namespace

std::string Preprocess::text() const {
  const State& s = *state_;
  json inputs = json::array(), words = json::array();
  for (const InputRule& input : s.inputs) {
    inputs.push_back(rule_of(input, *s.field_named(input.config.name), s.resize));
  }
  for (const Vocabulary& v : s.vocabularies) {
    words.push_back({{"name", v.name}, {"entries", v.entries}});
  }
  json all = {{"format", "cohort-preprocess"}, {"version", kVersion}, {"about", about()},
              {"icu", s.icu},                  {"inputs", inputs},    {"fields", s.fields},
              {"vocabularies", words},         {"recipe", json::parse(s.recipe)}};
  if (s.target) {
    all["target"] = {{"field", s.target->field}, {"log1p", s.target->log1p},
                     {"offset", s.target->offset}, {"scale", s.target->scale},
                     {"normalization", constants_of(s.target->ingest)}};
  }
  return all.dump(1) + "\n";
}

Preprocess Preprocess::parse(const std::string& text, const std::string& path) {
  auto state = std::make_unique<State>();
  std::string problem;
  try {
    const json all = json::parse(text);
    if (all.at("format") != "cohort-preprocess" || integer(all, "version") != kVersion) {
      fail(Exit::storage, "expected format cohort-preprocess, version {}", kVersion);
    }
    state->icu = all.at("icu").get<std::string>();
    state->recipe = all.value("recipe", json::object()).dump();
    state->fields = all.at("fields").get<std::vector<Field>>();
    for (const json& v : all.at("vocabularies")) {
      state->vocabularies.push_back({v.at("name").get<std::string>(),
                                     v.at("entries").get<std::vector<std::string>>()});
    }
    for (const json& rule : all.at("inputs")) {
      state->inputs.push_back(rule_from(rule, state->resize));
    }
    if (all.contains("target")) state->target = target_from(all.at("target"));
    problem = state->problem();
  } catch (const Error& error) {
    problem = error.what();
  } catch (const json::exception& error) {
    problem = error.what();
  }
  if (!problem.empty()) {
    fail(Exit::storage, "{}: {}: not made by this version of the program: export again", path,
         problem);
  }
  const auto by_words = [](const InputRule& input) {
    return input.config.kind == "tokens" && input.config.words == "unicode";
  };
  if (state->icu != icu_version() &&
      std::any_of(state->inputs.begin(), state->inputs.end(), by_words)) {
    log::warn("{}: words were cut by ICU {}, this program has {}: rare characters may be cut "
              "elsewhere", path, state->icu, icu_version());
  }
  state->finish();
  return Preprocess(std::move(state));
}

std::string Preprocess::State::problem() const {
  std::set<std::string> names;
  for (const Field& field : fields) {
    const std::string problem = problem_of_field(field);
    if (!problem.empty()) return "field '" + field.name + "': " + problem;
    if (!names.insert(field.name).second) return "field '" + field.name + "' comes twice";
    const Vocabulary* words = words_of_field(field);
    if (field.vocabulary.empty()) continue;
    if (words == nullptr) return "no vocabulary '" + field.vocabulary + "'";
    if (static_cast<i64>(words->entries.size()) != field.classes) {
      return fmt::format("vocabulary '{}' has {} entries, field '{}' has {} classes", words->name,
                         words->entries.size(), field.name, field.classes);
    }
  }
  if (inputs.empty()) return "no inputs";
  for (const InputRule& input : inputs) {
    const std::string problem = problem_of(input);
    if (!problem.empty()) return "input '" + input.name + "': " + problem;
  }
  return "";
}

std::string Preprocess::State::problem_of(const InputRule& input) const {
  const FieldConfig& config = input.config;
  const std::string& kind = config.kind;
  const Field* field = field_named(config.name);
  if (field == nullptr) return "no field '" + config.name + "'";
  const bool ragged = is_ragged(kind), number = is_number(kind), image = kind == "image";
  const auto one_of = [](const std::string& text, std::initializer_list<const char*> known) {
    return std::find(known.begin(), known.end(), text) != known.end();
  };
  if (!one_of(kind, {"number", "numbers", "id", "ids", "label", "tokens", "image"})) {
    return "kind '" + kind + "' is not known";
  }
  if (config.part == "next") return "part: next is what a model answers, not what it is given";
  if (!one_of(config.part, {"all", "history"})) return "part '" + config.part + "' is not known";
  if (!one_of(config.words, {"unicode", "space"})) return "words '" + config.words + "'";
  Shape shape;
  if (kind == "numbers") shape = {config.width};
  if (kind == "number") {
    shape = {static_cast<i64>(config.columns.empty() && config.one_hot.empty()
                                  ? 1 : config.columns.size())};
    if (field->one_hot.size() != config.one_hot.size()) return "one_hot: other columns";
    for (std::size_t i = 0; i < config.one_hot.size(); ++i) {
      if (field->one_hot[i].column != config.one_hot[i]) return "one_hot: other columns";
      shape[0] += static_cast<i64>(field->one_hot[i].names.size());
    }
  }
  if (image) {
    shape = field->shape;
    if (shape.size() != 3 || (shape[2] != 1 && shape[2] != 3) || shape[0] * shape[1] > 1 << 26) {
      return "expected pictures of 1 or 3 channels and at most 2^26 pixels";
    }
  }
  const DType dtype = image ? DType::u8 : number ? DType::f32 : DType::i32;
  if (field->dtype != dtype || field->ragged != ragged || field->shape != shape) {
    return fmt::format("field '{}' is {}{} {}, expected {}{} {}", field->name,
                       field->ragged ? "ragged " : "", name_of(field->dtype),
                       to_string(field->shape), ragged ? "ragged " : "", name_of(dtype),
                       to_string(shape));
  }
  if (!number && !image && field->classes < 1) return "expected classes";
  if (!number && !image && field->vocabulary.empty() && config.classes != field->classes) {
    return "other classes than the field";
  }
  if (ragged && (input.max_length < 1 || input.max_length > kMostElements)) return "max_length";
  if (!std::isfinite(config.offset) || !std::isfinite(config.scale)) return "offset or scale";
  return "";
}

const Vocabulary* Preprocess::State::words_of_field(const Field& field) const {
  for (const Vocabulary& words : vocabularies) {
    if (!field.vocabulary.empty() && words.name == field.vocabulary) return &words;
  }
  return nullptr;
}

}  // namespace cohort
