#include "serve/tower_rows.h"

#include <cstring>
#include <set>
#include <variant>

#include "base/error.h"
#include "data/eval_reader.h"
#include "serve/index.h"

namespace cohort {
namespace {

constexpr i64 rows_at_a_time = 256;

i64 row_bytes(const Input& input) { return count(input.shape) * size_of(input.dtype); }

TowerRows empty_rows(const Graph& graph, const Tower& tower) {
  TowerRows rows;
  rows.ids = ids_of(graph, tower);
  rows.known.assign(at(rows.ids), 0);
  for (const i64 k : tower.inputs) {
    const Input& input = graph.inputs[at(k)];
    BatchColumn column;
    column.data.assign(at(rows.ids * row_bytes(input)), 0);
    if (input.ragged) column.lengths.assign(at(rows.ids), 0);
    rows.columns.push_back(std::move(column));
  }
  return rows;
}

std::vector<Input> inputs_of(const Graph& graph, const Tower& tower) {
  std::vector<Input> inputs;
  for (const i64 k : tower.inputs) inputs.push_back(graph.inputs[at(k)]);
  return inputs;
}

std::size_t key_column(const Tower& tower) {
  std::size_t column = 0;
  while (tower.inputs[column] != tower.key) ++column;
  return column;
}

void take_rows(TowerRows& rows, const Batch& batch, const std::vector<Input>& inputs,
               std::size_t key) {
  for (i64 r = 0; r < batch.valid; ++r) {
    i32 id = -1;
    std::memcpy(&id, batch.columns[key].data.data() + r * 4, 4);
    if (id < 0 || id >= rows.ids || rows.known[at(id)]) continue;
    rows.known[at(id)] = 1;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      const i64 bytes = row_bytes(inputs[k]);
      const BatchColumn& from = batch.columns[k];
      if (bytes > 0)
        std::memcpy(rows.columns[k].data.data() + id * bytes, from.data.data() + r * bytes,
                    at(bytes));
      if (inputs[k].ragged) rows.columns[k].lengths[at(id)] = from.lengths[at(r)];
    }
  }
}

// `to` gets the bytes of a tensor that must have this type and shape.
template <class T>
void copy_tensor(const std::map<std::string, View>& tensors, const std::string& name,
                 const View& wanted, std::vector<T>& to, const std::string& path) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) fail(Exit::storage, "{}: no tensor \"{}\"; export again", path, name);
  const View& view = found->second;
  if (view.dtype != wanted.dtype || view.shape != wanted.shape)
    fail(Exit::storage, "{}: tensor {}: expected {} {}, got {} {}; export again", path, name,
         name_of(wanted.dtype), to_string(wanted.shape), name_of(view.dtype),
         to_string(view.shape));
  to.resize(at(view.bytes()) / sizeof(T));
  if (view.bytes() > 0) std::memcpy(to.data(), view.data, at(view.bytes()));
}

View stored(const Input& input, i64 ids) {
  View view{nullptr, input.dtype, {ids}};
  view.shape.insert(view.shape.end(), input.shape.begin(), input.shape.end());
  return view;
}

}  // namespace

i64 ids_of(const Graph& graph, const Tower& tower) {
  const i64 value = graph.inputs[at(tower.key)].value;
  for (const Node& node : graph.nodes)
    if (const auto* op = std::get_if<Embedding>(&node.op); op && node.in.at(0) == value)
      return op->rows;
  return 0;
}

std::vector<NamedView> TowerRows::tensors(const Graph& graph, const Tower& tower) {
  std::vector<NamedView> all = {{"known", {known.data(), DType::u8, {ids}}}};
  for (std::size_t k = 0; k < columns.size(); ++k) {
    const Input& input = graph.inputs[at(tower.inputs[k])];
    View view = stored(input, ids);
    view.data = columns[k].data.data();
    all.push_back({"features/" + input.field, view});
    if (input.ragged)
      all.push_back({"lengths/" + input.field, {columns[k].lengths.data(), DType::i32, {ids}}});
  }
  return all;
}

TowerRows TowerRows::from(const std::map<std::string, View>& tensors, const Graph& graph,
                          const Tower& tower, const std::string& path) {
  TowerRows rows = empty_rows(graph, tower);
  const View flags{nullptr, DType::u8, {rows.ids}}, lengths{nullptr, DType::i32, {rows.ids}};
  copy_tensor(tensors, "known", flags, rows.known, path);
  for (std::size_t k = 0; k < rows.columns.size(); ++k) {
    const Input& input = graph.inputs[at(tower.inputs[k])];
    copy_tensor(tensors, "features/" + input.field, stored(input, rows.ids), rows.columns[k].data,
                path);
    if (input.ragged)
      copy_tensor(tensors, "lengths/" + input.field, lengths, rows.columns[k].lengths, path);
  }
  return rows;
}

TowerRows gather_rows(const std::shared_ptr<ShardSet>& shards, const Graph& graph,
                      const Tower& tower) {
  TowerRows rows = empty_rows(graph, tower);
  const std::vector<Input> inputs = inputs_of(graph, tower);
  const std::size_t key = key_column(tower);
  std::set<std::string> done;
  for (const ShardInfo& shard : shards->shards()) {
    if (!done.insert(shard.split).second) continue;
    const RowReader reader(shards, shard.split, inputs, 2);
    Batch batch;
    for (const EvalBlock& block : eval_blocks(reader.rows(), rows_at_a_time, 0, 1)) {
      reader.read_rows(batch, block, rows_at_a_time);
      take_rows(rows, batch, inputs, key);
    }
  }
  return rows;
}

}  // namespace cohort
