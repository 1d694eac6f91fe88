#include "serve/preprocess.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/text.h"
#include "data/eval_reader.h"
#include "data/make_fields.h"
#include "fields/tokens.h"
#include "serve/preprocess_impl.h"
#include "serve/raw_values.h"

namespace cohort {
namespace {

using nlohmann::json;

// Only its Ingest node and the loss read it.
bool only_target(const Graph& graph, const Input& input) {
  if (input.value != graph.target) return false;
  return std::none_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
    return !std::holds_alternative<Loss>(node.op) &&
           std::find(node.in.begin(), node.in.end(), input.value) != node.in.end();
  });
}

Ingest ingest_of(const Graph& graph, i64 value) {
  for (const Node& node : graph.nodes) {
    if (const Ingest* op = std::get_if<Ingest>(&node.op)) {
      if (!node.out.empty() && node.out[0] == value) return *op;
    }
  }
  return {};
}

Recipe recipe_of(const ShardSet& shards) {
  Recipe recipe;
  if (shards.recipe().empty()) {
    fail(Exit::data, "{}: no recipe in its manifest, so what its rows were made of is not known: "
         "make the set by cohort shard", shards.path());
  }
  try {
    Binder::read(Document::parse(shards.recipe(), "recipe"), recipe);
  } catch (const Error& error) {
    fail(Exit::data, "{}/manifest.json: {}: shard the data again", shards.path(), error.what());
  }
  return recipe;
}

const FieldConfig& config_of(const ShardSet& shards, const Recipe& recipe,
                             const std::string& field) {
  for (const FieldConfig& config : recipe.fields) {
    if (config.name != field) continue;
    if (!config.one_hot.empty() && shards.field(field).one_hot.size() != config.one_hot.size()) {
      fail(Exit::data, "{}: field '{}': the names of its one_hot columns were not kept when the "
           "set was made: shard the data again", shards.path(), field);
    }
    return config;
  }
  fail(Exit::data, "{}: field '{}' is not in the set's recipe: shard the data again",
       shards.path(), field);
}

bool has_mse(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    const auto* loss = std::get_if<Loss>(&node.op);
    return loss && loss->kind == LossKind::mse;
  });
}

std::string kind_of_column(const FieldConfig& config) {
  if (config.kind == "tokens") return "text";
  return config.kind == "label" ? "id" : config.kind;
}

}  // namespace

std::optional<TargetRule> target_rule(const ShardSet& shards, const Graph& graph) {
  const Recipe recipe = recipe_of(shards);
  for (const Input& input : graph.inputs) {
    if (input.value != graph.target) continue;
    const FieldConfig& config = config_of(shards, recipe, input.field);
    const bool numbers = config.kind == "number" || config.kind == "numbers";
    const TargetRule rule = {config.name, config.log1p, config.offset, config.scale,
                             ingest_of(graph, input.value)};
    if (numbers && config.one_hot.empty() && rule.reversible()) return rule;
  }
  return std::nullopt;
}

Preprocess::Preprocess(std::unique_ptr<State> state) : state_(std::move(state)) {}
Preprocess::Preprocess(Preprocess&&) noexcept = default;
Preprocess::~Preprocess() = default;

Preprocess Preprocess::of(const ShardSet& shards, const Graph& graph) {
  auto state = std::make_unique<State>();
  const Recipe recipe = recipe_of(shards);
  state->icu = icu_version();
  for (const SourceConfig& source : recipe.sources) state->resize |= source.resize;
  std::set<std::string> words;
  for (const Input& input : graph.inputs) {
    const Field& field = shards.field(input.field);
    const auto known = [&](const Field& other) { return other.name == field.name; };
    if (std::none_of(state->fields.begin(), state->fields.end(), known)) {
      state->fields.push_back(field);
    }
    if (!field.vocabulary.empty()) words.insert(field.vocabulary);
    if (only_target(graph, input)) continue;
    state->inputs.push_back({graph.values[static_cast<std::size_t>(input.value)].name,
                             input.max_length, config_of(shards, recipe, field.name),
                             ingest_of(graph, input.value)});
  }
  if (has_mse(graph)) state->target = target_rule(shards, graph);
  state->recipe = Document::parse(shards.recipe(), "recipe").json();
  for (const Vocabulary& vocabulary : shards.vocabularies()) {
    if (words.count(vocabulary.name) > 0) state->vocabularies.push_back(vocabulary);
  }
  const std::string problem = state->problem();
  if (!problem.empty()) {
    fail(Exit::data, "{}: {}: shard the data again", shards.path(), problem);
  }
  state->finish();
  return Preprocess(std::move(state));
}

// The rest follows from inputs, fields and vocabularies.
void Preprocess::State::finish() {
  for (const InputRule& input : inputs) {
    const FieldConfig& config = input.config;
    const auto made = [&](const FieldMaker& maker) { return maker.config().name == config.name; };
    if (std::any_of(makers.begin(), makers.end(), made)) continue;
    const Field& field = *field_named(config.name);
    makers.emplace_back(config, field, words_of_field(field));
    if (config.kind == "image") add_column(config.name, "image", config);
    for (const std::string& name : columns_of(config)) {
      add_column(name, kind_of_column(config), config);
    }
    for (const std::string& name : config.one_hot) add_column(name, "id", config);
  }
}

void Preprocess::State::add_column(const std::string& name, const std::string& kind,
                                   const FieldConfig& config) {
  const auto known = [&](const Column& column) { return column.name == name; };
  if (std::none_of(columns.begin(), columns.end(), known)) {
    columns.push_back({name, kind, config.name});
  }
}

const Field* Preprocess::State::field_named(const std::string& name) const {
  for (const Field& field : fields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

void Preprocess::limit_pixels(i64 most) { state_->most_pixels = most; }

const std::optional<TargetRule>& Preprocess::target() const { return state_->target; }
const std::vector<Field>& Preprocess::fields() const { return state_->fields; }
const std::vector<Vocabulary>& Preprocess::vocabularies() const { return state_->vocabularies; }
const std::vector<Preprocess::Column>& Preprocess::columns() const { return state_->columns; }

json Preprocess::raw_row(const SampleRow& sample) const {
  const json columns = json::parse(sample.columns);
  json raw = json::object();
  for (const Column& column : state_->columns) {
    const auto found = columns.find(column.name);
    if (found == columns.end()) {
      fail(Exit::data, "row {} of samples.jsonl has no column '{}': shard the data again",
           sample.row, column.name);
    }
    raw[column.name] = *found;
  }
  for (const FieldMaker& maker : state_->makers) {
    const FieldConfig& config = maker.config();
    if (config.part != "history") continue;
    const std::string name = columns_of(config)[0];
    std::vector<std::string> words = words_of(config, columns.at(name).get<std::string>());
    if (!words.empty()) words.pop_back();
    // A text cannot be put together from its words again.
    raw[name] = config.kind == "tokens" ? json(words) : json(join(words, " "));
  }
  return raw;
}

Batch Preprocess::empty(const std::vector<Input>& inputs, i64 rows) const {
  Batch batch;
  const std::size_t n = static_cast<std::size_t>(rows);
  batch.capacity = rows;
  batch.row_ids.assign(n, -1);
  batch.positions.assign(n, -1);
  batch.blocks.assign(n, -1);
  for (const Input& input : inputs) {
    const Field* field = state_->field_named(input.field);
    const bool ids = field != nullptr && field->classes > 0 && field->dtype != DType::u8;
    clear_column(batch.columns.emplace_back(), input, ids && state_->maker_of(input.field), rows);
  }
  return batch;
}

const FieldMaker* Preprocess::State::maker_of(const std::string& field) const {
  for (const FieldMaker& maker : makers) {
    if (maker.config().name == field) return &maker;
  }
  return nullptr;
}

namespace {

constexpr std::size_t kMost = 300;   // characters of a value in a message

void check_keys(const json& raw, const std::vector<Preprocess::Column>& columns) {
  if (!raw.is_object()) {
    fail(Exit::data, "raw row: expected an object of columns, got {}", describe(raw));
  }
  const auto has = [&](const auto& column) { return raw.contains(column.name); };
  if (raw.size() == columns.size() && std::all_of(columns.begin(), columns.end(), has)) return;
  std::vector<std::string> names;
  for (const auto& column : columns) names.push_back(column.name);
  for (const auto& item : raw.items()) {
    if (std::find(names.begin(), names.end(), item.key()) != names.end()) continue;
    const std::string near = nearest(item.key(), names);
    fail(Exit::data, "column '{}': not known, expected [{}]{}", clipped(item.key(), kMost),
         clipped(join(names, ", "), kMost), near.empty() ? "" : ": did you mean '" + near + "'?");
  }
  for (const auto& column : columns) {
    if (!raw.contains(column.name)) {
      fail(Exit::data, "column '{}': expected {}, got no such column", column.name,
           expected_of(column.kind));
    }
  }
}

std::vector<u8> numbers_of(const FieldMaker& maker, const json& raw, std::string& column) {
  std::vector<std::string> names = columns_of(maker.config()), cells;
  for (const std::string& name : names) {
    column = name;
    cells.push_back(number_cell(raw.at(name)));
  }
  for (const std::string& name : maker.config().one_hot) {
    column = name;
    names.push_back(name);
    cells.push_back(name_cell(raw.at(name)));
  }
  try {
    return maker.make_numbers(cells);
  } catch (const BadCell& bad) {
    column = names.at(bad.cell);
    throw;
  }
}

// A value's elements; `column` is the one looked at, for messages.
std::vector<u8> elements_of(const FieldMaker& maker, const json& raw, const PictureRule& pictures,
                            std::string& column) {
  const FieldConfig& config = maker.config();
  const auto value = [&](const std::string& name) -> const json& {
    column = name;
    return raw.at(name);
  };
  if (config.kind == "image") return picture_of(value(config.name), maker.field().shape, pictures);
  if (config.kind == "number") return numbers_of(maker, raw, column);
  const json& given = value(columns_of(config)[0]);
  if (config.kind == "id" || config.kind == "label") return maker.make_words({name_cell(given)});
  const std::vector<std::string> words = sequence_cells(given, config);
  if (words.empty() && config.part == "history") throw BadCell{"expected at least one element"};
  return maker.make_words(words);
}

}  // namespace

void Preprocess::fill(Batch& batch, const std::vector<Input>& inputs, i64 row,
                      const json& raw) const {
  COHORT_CHECK(batch.columns.size() == inputs.size() && row >= 0 && row < batch.capacity,
               "a batch of these inputs with this row");
  check_keys(raw, state_->columns);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const FieldMaker* maker = state_->maker_of(inputs[i].field);
    if (maker == nullptr) continue;  // the target
    std::string column;
    std::vector<u8> bytes;
    try {
      bytes = elements_of(*maker, raw, {state_->resize, state_->most_pixels}, column);
    } catch (const BadCell& bad) {
      fail(Exit::data, "column '{}': {}", column, clipped(bad.reason, kMost));
    } catch (const Error& error) {
      fail(Exit::data, "column '{}': {}", column, clipped(error.what(), kMost));
    }
    const Field& field = maker->field();
    const i64 element = count(field.shape) * size_of(field.dtype);
    const i64 room = count(inputs[i].shape) * size_of(inputs[i].dtype);
    if (field.ragged != inputs[i].ragged ||
        room != element * (field.ragged ? inputs[i].max_length : 1)) {
      fail(Exit::storage, "field '{}': preprocess.json makes {} {}, the model reads {} {}: export "
           "again", field.name, name_of(field.dtype), to_string(field.shape),
           name_of(inputs[i].dtype), to_string(inputs[i].shape));
    }
    const i64 elements = static_cast<i64>(bytes.size()) / element;
    const Range kept = kept_elements(inputs[i], elements);
    put_row(batch.columns[i], inputs[i], row, bytes.data() + kept.begin * element,
            (kept.end - kept.begin) * element);
  }
}

namespace {

// The bytes of one row's field; nothing where a column does not suit it. May throw BadCell.
std::vector<u8> staged(const FieldMaker& maker, const std::vector<const RawColumn*>& columns,
                       std::size_t row) {
  if (maker.config().kind != "number") {
    if (columns.size() != 1 || columns[0]->words.empty()) return {};
    return maker.make_words({columns[0]->words[row]});
  }
  std::vector<double> values;
  for (const RawColumn* column : columns) {
    if (column->numbers.empty()) return {};
    values.push_back(column->numbers[row]);
  }
  return maker.make_numbers(values);
}

}  // namespace

std::vector<std::vector<u8>> Preprocess::stage(const std::vector<Input>& inputs,
                                               const std::vector<RawColumn>& columns,
                                               i64 rows) const {
  if (columns.size() != state_->columns.size()) return {};
  std::vector<std::vector<u8>> all(static_cast<std::size_t>(rows));
  for (const Input& input : inputs) {
    const FieldMaker* maker = state_->maker_of(input.field);
    if (maker == nullptr) continue;  // the target
    const std::string& kind = maker->config().kind;
    if ((kind != "number" && kind != "id" && kind != "label") || !maker->config().one_hot.empty())
      return {};
    std::vector<const RawColumn*> mine;
    for (const std::string& name : columns_of(maker->config())) {
      const auto found = std::find_if(columns.begin(), columns.end(),
                                      [&](const RawColumn& c) { return c.name == name; });
      if (found == columns.end()) return {};
      mine.push_back(&*found);
    }
    const auto size = static_cast<std::size_t>(count(input.shape) * size_of(input.dtype));
    try {
      for (std::size_t r = 0; r < all.size(); ++r) {
        const std::vector<u8> bytes = staged(*maker, mine, r);
        if (bytes.size() != size) return {};
        all[r].insert(all[r].end(), bytes.begin(), bytes.end());
      }
    } catch (const BadCell&) {
      return {};
    }
  }
  return all;
}

}  // namespace cohort
