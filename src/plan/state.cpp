#include "plan/state.h"

#include "base/error.h"
#include "model/init.h"

namespace cohort {
namespace {

View arena(Device& device, i64 elements) {
  View view{nullptr, device.real(), {elements}};
  view.data = device.allocate(view.bytes());
  return view;
}

View table(Device& device, i64 rows, i64 dim) {
  View view{nullptr, device.real(), {rows, dim}};
  view.data = device.allocate(view.bytes());
  return view;
}

}  // namespace

ModelState::ModelState(Device& device, const Graph& graph, const std::vector<i64>& row_capacity,
                       bool train)
    : device_(device), graph_(graph), train_(train) {
  const std::size_t n = graph.params.size();
  segment_.assign(n, -1);
  table_.assign(n, -1);
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    for (i64 p : node->params) {
      const Param& param = graph.params[static_cast<std::size_t>(p)];
      if (param.sparse) {
        TableState t;
        t.param = p;
        t.capacity = train ? row_capacity[static_cast<std::size_t>(p)] : 0;
        table_[static_cast<std::size_t>(p)] = static_cast<i64>(tables.size());
        tables.push_back(t);
      } else {
        segment_[static_cast<std::size_t>(p)] = layout_.add(param.name, param.shape);
      }
    }
  }
  decision = static_cast<Decision*>(device.allocate(sizeof(Decision)));
  write_decision(first_decision());
  params = arena(device, layout_.size());
  if (train) {
    grads = arena(device, layout_.size());
    slot0 = arena(device, layout_.size());
    slot1 = arena(device, layout_.size());
  }
  for (TableState& t : tables) {
    const Shape& shape = graph.params[static_cast<std::size_t>(t.param)].shape;
    t.weight = table(device, shape[0], shape[1]);
    if (!train) continue;
    t.slot0 = table(device, shape[0], shape[1]);
    t.slot1 = table(device, shape[0], shape[1]);
    t.grad = table(device, t.capacity, shape[1]);
  }
}

View ModelState::part(const View& whole, i64 param) const {
  const Segment& s =
      layout_.segments()[static_cast<std::size_t>(segment_[static_cast<std::size_t>(param)])];
  char* base = static_cast<char*>(whole.data);
  return View{base ? base + s.offset * size_of(whole.dtype) : nullptr, whole.dtype, s.shape};
}

View ModelState::weight(i64 param) const {
  const i64 t = table_[static_cast<std::size_t>(param)];
  if (t >= 0) return tables[static_cast<std::size_t>(t)].weight;
  const bool mean = averaged_ && !graph_.params[static_cast<std::size_t>(param)].running;
  return part(mean ? average : params, param);
}

View ModelState::grad(i64 param) const {
  const i64 t = table_[static_cast<std::size_t>(param)];
  return t >= 0 ? tables[static_cast<std::size_t>(t)].grad : part(grads, param);
}

void ModelState::keep_average() { average = arena(device_, layout_.size()); }

void ModelState::restart_average() {
  if (average.data) device_.copy(average.data, params.data, params.bytes());
}

ModelState ModelState::averaged() const {
  ModelState other = *this;
  other.averaged_ = average.data != nullptr;
  return other;
}

void ModelState::initialise(u64 seed) {
  for (std::size_t p = 0; p < graph_.params.size(); ++p) {
    const std::vector<float> values = initial_values(graph_.params[p], seed);
    const View to = weight(static_cast<i64>(p));
    if (to.dtype == DType::f32) {
      device_.copy_in(to.data, values.data(), to.bytes());
    } else {
      const std::vector<double> wide(values.begin(), values.end());
      device_.copy_in(to.data, wide.data(), to.bytes());
    }
  }
  restart_average();
  if (!train_) return;
  for (const View& slot : {slot0, slot1}) device_.zero(slot.data, slot.bytes());
  for (const TableState& t : tables) {
    device_.zero(t.slot0.data, t.slot0.bytes());
    device_.zero(t.slot1.data, t.slot1.bytes());
  }
  write_decision(first_decision());
}

Decision ModelState::first_decision() const {
  Decision decision;
  if (device_.activation() == DType::f16) decision.loss_scale = 32768;
  return decision;
}

Decision ModelState::read_decision() const {
  Decision value;
  device_.copy_out(&value, decision, sizeof(value));
  return value;
}

void ModelState::write_decision(const Decision& value) {
  device_.copy_in(decision, &value, sizeof(value));
}

std::vector<NamedView> ModelState::tensors() const {
  std::vector<NamedView> all;
  for (std::size_t p = 0; p < graph_.params.size(); ++p) {
    const std::string& name = graph_.params[p].name;
    const i64 index = static_cast<i64>(p);
    all.push_back({name, weight(index)});
    if (!train_ || graph_.params[p].running) continue;
    const i64 t = table_[p];
    for (int k = 0; k < 2; ++k) {
      const std::string slot = "optimizer/" + std::to_string(k) + "/" + name;
      if (t >= 0) {
        const TableState& state = tables[static_cast<std::size_t>(t)];
        all.push_back({slot, k == 0 ? state.slot0 : state.slot1});
      } else {
        all.push_back({slot, part(k == 0 ? slot0 : slot1, index)});
      }
    }
    if (average.data && t < 0) all.push_back({average_name(name), part(average, index)});
  }
  return all;
}

HostTensors ModelState::copy_to_host() const {
  HostTensors host;
  host.views = tensors();
  for (NamedView& named : host.views) {
    std::vector<u8>& bytes =
        host.bytes.emplace_back(static_cast<std::size_t>(named.view.bytes()));
    device_.copy_out(bytes.data(), named.view.data, named.view.bytes());
    named.view.data = bytes.data();
  }
  return host;
}

void ModelState::copy_from_host(const HostTensors& host) {
  const std::vector<NamedView> own = tensors();
  COHORT_CHECK(own.size() == host.views.size(), "tensors of another model");
  for (std::size_t k = 0; k < own.size(); ++k)
    device_.copy_in(own[k].view.data, host.views[k].view.data, own[k].view.bytes());
}

std::string average_name(const std::string& param) { return "optimizer/average/" + param; }

}  // namespace cohort
