#include "serve/scorer.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "serve/engine.h"
#include "serve/index.h"

namespace cohort {
namespace {

using nlohmann::json;

// Why a row has no answer; an error of the program or the system goes on.
std::string why(const Error& e) {
  if (e.exit_code() != Exit::data && e.exit_code() != Exit::usage) throw e;
  return e.what();
}

// Does `work`, which takes memory for rows of these inputs.
template <class Work>
auto with_memory(const std::vector<Input>& inputs, i64 rows, const Work& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    i64 bytes = 0;
    for (const Input& input : inputs) bytes += count(input.shape) * size_of(input.dtype);
    fail(Exit::usage, "no memory for {} rows at a time, each of {} bytes of inputs and the model's "
         "steps: lower --rows (cohort score) or --max-batch (cohort serve)", rows, bytes);
  }
}

}  // namespace

struct ScorerWeights {
  std::shared_ptr<EngineWeights> model, users;   // users: of two towers alone
};

std::shared_ptr<ScorerWeights> load_weights(const Bundle& bundle, int threads) {
  auto weights = std::make_shared<ScorerWeights>();
  const std::shared_ptr<Device> device = make_serving_device(threads);
  weights->model = std::make_shared<EngineWeights>(device, bundle.graph(), bundle.weights());
  if (bundle.towers())
    weights->users =
        std::make_shared<EngineWeights>(device, bundle.towers()->user, bundle.weights());
  return weights;
}

struct Scorer::State {
  State(std::shared_ptr<const Bundle> b, const ScorerOptions& o,
        const std::shared_ptr<ScorerWeights>& weights)
      : bundle(std::move(b)),
        rows(std::max<i64>(1, o.rows)),
        engine(weights->model, rows) {
    if (bundle->towers()) users = std::make_unique<Engine>(weights->users, rows);
  }

  // Of these fields, those that a raw row has no column of, so that stored features stand for them.
  // Ids are never among them, nor the target, which no raw row has.
  std::set<std::string> absent(const std::vector<Input>& inputs, const json& raw) const {
    const Graph& graph = bundle->graph();
    const TwoTowers& towers = bundle->towers()->towers;
    std::set<std::string> fields;
    for (const Input& input : inputs)
      if (input.value != graph.target) fields.insert(input.field);
    for (const i64 key : {towers.user.key, towers.item.key})
      fields.erase(graph.inputs[at(key)].field);
    for (const auto& column : bundle->preprocess().columns())
      if (raw.contains(column.name)) fields.erase(column.field);
    return fields;
  }

  void fill_staged(Batch& to, i64 row, const std::vector<u8>& bytes) const {
    const Graph& graph = bundle->graph();
    const u8* from = bytes.data();
    for (std::size_t k = 0; k < graph.inputs.size(); ++k) {
      const Input& input = graph.inputs[k];
      if (input.value == graph.target) continue;
      const i64 size = count(input.shape) * size_of(input.dtype);
      COHORT_CHECK(from + size <= bytes.data() + bytes.size(), "a staged row of these inputs");
      std::memcpy(to.columns[k].data.data() + row * size, from, at(size));
      from += size;
    }
    COHORT_CHECK(from == bytes.data() + bytes.size(), "a staged row of these inputs alone");
  }

  void fill(Batch& to, const std::vector<Input>& inputs, i64 row, const json& raw) const {
    if (raw.is_binary() && &to == &batch) return fill_staged(to, row, raw.get_binary());
    const bool all = raw.size() >= bundle->preprocess().columns().size();
    if (!bundle->towers() || !raw.is_object() || all)
      return bundle->preprocess().fill(to, inputs, row, raw);
    fill_stored(to, inputs, row, raw, absent(inputs, raw));
  }

  // The inputs that the row has, then the stored ones of the ids that it names.
  void fill_stored(Batch& to, const std::vector<Input>& inputs, i64 row, json raw,
                   const std::set<std::string>& missing) const {
    std::vector<Input> given;
    std::vector<std::size_t> homes;
    std::set<std::string> fields;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      if (missing.count(inputs[k].field)) continue;
      given.push_back(inputs[k]);
      homes.push_back(k);
      fields.insert(inputs[k].field);
    }
    for (const auto& column : bundle->preprocess().columns())   // not looked at, but expected there
      if (!fields.count(column.field) && !raw.contains(column.name)) raw[column.name] = nullptr;
    Batch one = bundle->preprocess().empty(given, 1);
    bundle->preprocess().fill(one, given, 0, raw);
    for (std::size_t k = 0; k < given.size(); ++k)
      copy_row(one.columns[k], 0, to.columns[homes[k]], row, given[k]);
    for (std::size_t k = 0; k < inputs.size(); ++k)
      if (missing.count(inputs[k].field)) copy_stored(to.columns[k], row, inputs[k], one, given);
  }

  static void copy_row(const BatchColumn& from, i64 from_row, BatchColumn& to, i64 to_row,
                       const Input& input) {
    const i64 bytes = count(input.shape) * size_of(input.dtype);
    if (bytes > 0)
      std::memcpy(to.data.data() + to_row * bytes, from.data.data() + from_row * bytes, at(bytes));
    if (input.ragged) to.lengths[at(to_row)] = from.lengths[at(from_row)];
  }

  void copy_stored(BatchColumn& to, i64 row, const Input& input, const Batch& one,
                   const std::vector<Input>& given) const {
    const Graph& graph = bundle->graph();
    const TowerData& t = *bundle->towers();
    for (const bool user : {true, false}) {
      const Tower& tower = user ? t.towers.user : t.towers.item;
      const TowerRows& stored = user ? t.users : t.items;
      for (std::size_t k = 0; k < tower.inputs.size(); ++k) {
        if (graph.inputs[at(tower.inputs[k])].field != input.field) continue;
        const Input& key = graph.inputs[at(tower.key)];
        const i64 id = id_in(one, given, key.field);
        if (id < 0 || id >= stored.ids || !stored.known[at(id)])
          fail(Exit::data, "the row has no column of field '{}', and this {} was in no row of the "
               "shard set; give its columns", input.field, key.field);
        return copy_row(stored.columns[k], id, to, row, input);
      }
    }
    fail(Exit::data, "the row has no column of field '{}'", input.field);
  }

  static i64 id_in(const Batch& batch, const std::vector<Input>& inputs, const std::string& field) {
    i32 id = -1;
    for (std::size_t k = 0; k < inputs.size(); ++k)
      if (inputs[k].field == field) std::memcpy(&id, batch.columns[k].data.data(), 4);
    return id;
  }

  // Room for that many rows, or for the most there may be.
  void grow(Batch& to, const std::vector<Input>& inputs, std::size_t wanted) const {
    const i64 needed = engine.capacity_of(std::min(rows, static_cast<i64>(wanted)));
    if (needed <= to.capacity) return;
    to = Batch{};
    to = with_memory(inputs, needed, [&] { return bundle->preprocess().empty(inputs, needed); });
  }

  struct RawRows {
    const std::vector<json>& rows;
    const Unwanted& unwanted;
  };
  // Fills rows from `next` on until the batch is full: which rows of `from` they are. `failed` is
  // told of a row that cannot be read, and why.
  template <class Failed>
  std::vector<std::size_t> fill_batch(Batch& to, const std::vector<Input>& inputs,
                                      const RawRows& from, std::size_t& next,
                                      const Failed& failed) const {
    const std::vector<json>& raw = from.rows;
    std::vector<std::size_t> taken;
    grow(to, inputs, raw.size() - next);
    for (; next < raw.size() && static_cast<i64>(taken.size()) < rows; ++next) {
      if (from.unwanted && from.unwanted(next)) {
        failed(next, "not answered: nobody waits for it any more");
        continue;
      }
      try {
        fill(to, inputs, static_cast<i64>(taken.size()), raw[next]);
        taken.push_back(next);
      } catch (const Error& e) {
        failed(next, why(e));
      }
    }
    to.valid = static_cast<i64>(taken.size());
    return taken;
  }

  i64 length_of(i64 row) const {
    const Graph& graph = bundle->graph();
    const i64 input = graph.values[at(graph.prediction)].lengths;
    return input < 0 ? 0 : batch.columns[at(input)].lengths[at(row)];
  }

  std::shared_ptr<const Bundle> bundle;
  i64 rows;
  Engine engine;
  Batch batch;                         // without room at first
  std::unique_ptr<Engine> users;
  Batch user_batch;
};

Scorer::Scorer(std::shared_ptr<const Bundle> bundle, const ScorerOptions& options,
               std::shared_ptr<ScorerWeights> weights) {
  if (!weights) weights = load_weights(*bundle, options.threads);
  state_ = std::make_unique<State>(std::move(bundle), options, weights);
}

Scorer::~Scorer() = default;

const Bundle& Scorer::bundle() const { return *state_->bundle; }

std::vector<Answer> Scorer::answer_prepared() {
  State& s = *state_;
  const Graph& graph = s.bundle->graph();
  const i64 width = count(graph.values[at(graph.prediction)].shape);
  const std::vector<double> predictions = with_memory(
      graph.inputs, s.batch.valid, [&] { return s.engine.predict(s.batch); });
  std::vector<Answer> answers;
  for (i64 row = 0; row < s.batch.valid; ++row)
    answers.push_back(answer_of(graph, predictions.data() + row * width, s.length_of(row)));
  if (const auto& target = s.bundle->preprocess().target())
    for (Answer& answer : answers) answer.value = target->raw_of(answer.output);
  return answers;
}

std::vector<std::size_t> Scorer::prepare(const std::vector<json>& rows) {
  std::size_t next = 0;
  return state_->fill_batch(state_->batch, state_->bundle->graph().inputs, {rows, {}}, next,
                            [](std::size_t, const std::string&) {});
}

std::vector<Answer> Scorer::score(const std::vector<json>& rows, const Unwanted& unwanted) {
  State& s = *state_;
  const Graph& graph = s.bundle->graph();
  std::vector<Answer> answers(rows.size());
  for (std::size_t next = 0; next < rows.size();) {
    const auto taken = s.fill_batch(s.batch, graph.inputs, {rows, unwanted}, next, [&](
        std::size_t r, const std::string& reason) { answers[r].error = reason; });
    if (taken.empty()) continue;
    std::vector<Answer> some = answer_prepared();
    for (std::size_t k = 0; k < taken.size(); ++k) answers[taken[k]] = std::move(some[k]);
  }
  return answers;
}

std::vector<TopAnswer> Scorer::top(const std::vector<json>& rows, i64 k,
                                   const Unwanted& unwanted) {
  State& s = *state_;
  const TowerData* towers = s.bundle->towers();
  if (!towers)
    fail(Exit::usage, "{}: the best items are asked of a model that is not two-tower; expected a "
         "model whose last layer is the dot of two vectors, each of one id, or activations of it",
         s.bundle->folder());
  const auto& target = s.bundle->preprocess().target();
  std::vector<TopAnswer> answers(rows.size());
  for (std::size_t next = 0; next < rows.size();) {
    const auto taken = s.fill_batch(s.user_batch, towers->user.inputs, {rows, unwanted}, next, [&](
        std::size_t r, const std::string& reason) { answers[r].error = reason; });
    if (taken.empty()) continue;
    const std::vector<double> vectors = with_memory(
        towers->user.inputs, s.user_batch.valid, [&] { return s.users->predict(s.user_batch); });
    const auto found = towers->index->search({vectors.begin(), vectors.end()}, k);
    for (std::size_t q = 0; q < taken.size(); ++q) {
      for (const Hit& hit : found.at(q)) {
        const bool named = hit.item < static_cast<i64>(towers->item_names.size());
        TopItem item = {named ? towers->item_names[at(hit.item)] : std::to_string(hit.item),
                        towers->towers.score_of(hit.score), std::nullopt};
        if (target) item.value = target->raw_of({item.score}).at(0);
        answers[taken[q]].items.push_back(std::move(item));
      }
    }
  }
  return answers;
}

}  // namespace cohort
