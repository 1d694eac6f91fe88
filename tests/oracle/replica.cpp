#include "replica.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "base/error.h"
#include "data/row_union.h"
#include "model/fuse.h"

namespace cohort::testing {
namespace {

template <class T>
std::vector<double> widen(const std::vector<char>& raw) {
  std::vector<T> narrow(raw.size() / sizeof(T));
  std::memcpy(narrow.data(), raw.data(), narrow.size() * sizeof(T));
  return {narrow.begin(), narrow.end()};
}

}  // namespace

Graph graph_from(const std::string& model, const std::vector<Field>& fields, bool fused) {
  ModelConfig config;
  Binder::read(Document::parse(model, "model"), config);
  Graph graph = build_graph(config, fields, {});
  return fused ? fuse(std::move(graph)) : graph;
}

std::vector<double> read(Device& device, const View& view) {
  std::vector<char> raw(static_cast<std::size_t>(view.bytes()));
  device.copy_out(raw.data(), view.data, view.bytes());
  if (view.dtype == DType::f64) return widen<double>(raw);
  return view.dtype == DType::f32 ? widen<float>(raw) : widen<i32>(raw);
}

void write(Device& device, const View& view, const std::vector<double>& values) {
  if (view.count() != static_cast<i64>(values.size())) throw std::runtime_error("sizes differ");
  if (view.dtype == DType::f64) {
    device.copy_in(view.data, values.data(), view.bytes());
  } else {
    const std::vector<float> narrow(values.begin(), values.end());
    device.copy_in(view.data, narrow.data(), view.bytes());
  }
}

std::string difference(const std::vector<double>& a, const std::vector<double>& b, double tolerance,
                       double floor) {
  if (a.size() != b.size()) return fmt::format("{} elements, expected {}", a.size(), b.size());
  double largest = floor;
  for (double x : b) largest = std::max(largest, std::abs(x));
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!(std::abs(a[i] - b[i]) <= tolerance * largest))
      return fmt::format("[{}] is {:.17g}, expected {:.17g} (off by {:.3g}, largest {:.3g})", i,
                         a[i], b[i], std::abs(a[i] - b[i]), largest);
  }
  return "";
}

std::string difference(const Values& a, const Values& b, double tolerance, double floor) {
  std::string text;
  if (a.size() != b.size()) return "not the same names";
  for (const auto& [name, expected] : b) {
    if (!a.count(name)) return "no " + name;
    const std::string found = difference(a.at(name), expected, tolerance, floor);
    if (!found.empty()) text += name + found + "\n";
  }
  return text;
}

std::vector<SparseRows> sparse_rows(const Graph& graph, const Batch& batch, Communicator& channel) {
  std::vector<SparseRows> all;
  for (i64 column : sparse_inputs(graph)) {
    const std::vector<u8>& data = batch.columns[static_cast<std::size_t>(column)].data;
    std::vector<i32> ids(data.size() / 4);
    std::memcpy(ids.data(), data.data(), data.size());
    RowUnion rows = agree_rows(channel, ids);
    all.push_back({std::move(rows.rows), std::move(rows.local)});
  }
  return all;
}

std::string test_name(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

Replica::Replica(Device& device, const Graph& graph, const PlanConfig& config)
    : device_(device), graph_(graph) {
  state_ = std::make_unique<ModelState>(device, graph, row_capacities(graph, config.global_batch),
                                        config.train);
  if (config.optimizer.ema > 0) state_->keep_average();
  state_->initialise(config.seed);
  plan_ = std::make_unique<Plan>(device, graph, *state_, config);
}

Values Replica::tensors() const {
  Values values;
  for (const NamedView& t : state_->tensors()) values[t.name] = read(device_, t.view);
  return values;
}

void Replica::restore(const Values& tensors) {
  for (const NamedView& t : state_->tensors()) write(device_, t.view, tensors.at(t.name));
}

Values Replica::gradients() const {
  Values values;
  for (std::size_t p = 0; p < graph_.params.size(); ++p) {
    const Param& param = graph_.params[p];
    if (!param.sparse) values[param.name] = read(device_, state_->grad(static_cast<i64>(p)));
  }
  for (const TableState& table : state_->tables) {
    const Param& param = graph_.params[static_cast<std::size_t>(table.param)];
    const std::vector<double> segment = read(device_, table.grad), rows = read(device_, table.rows);
    std::vector<double> full(static_cast<std::size_t>(count(param.shape)), 0.0);
    const i64 dim = param.shape[1];
    for (i64 k = 0; k < table.active; ++k) {
      const auto row = static_cast<i64>(rows[static_cast<std::size_t>(k)]);
      std::copy_n(segment.begin() + k * dim, dim, full.begin() + row * dim);
    }
    values[param.name] = full;
  }
  return values;
}

}  // namespace cohort::testing
