#include "op_case.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/rng.h"

namespace cohort::test {
namespace {

using Numbers = std::vector<double>;

Shape with_rows(i64 rows, const Shape& shape) {
  Shape full{rows};
  full.insert(full.end(), shape.begin(), shape.end());
  return full;
}

View upload(Device& device, const Numbers& values, DType type, const Shape& shape) {
  View view{nullptr, type, shape};
  view.data = device.allocate(std::max<i64>(view.bytes(), 64));
  const std::vector<char> raw = from_doubles(type, values);
  device.copy_in(view.data, raw.data(), view.bytes());
  return view;
}

Numbers download(Device& device, const View& view) {
  std::vector<char> raw(static_cast<std::size_t>(view.bytes()));
  device.copy_out(raw.data(), view.data, view.bytes());
  return to_doubles(view.dtype, raw.data(), view.count());
}

std::size_t size(i64 n) { return static_cast<std::size_t>(n); }

bool is_loss(const OpCase& c) { return std::holds_alternative<Loss>(c.op); }
bool is_ingest(const OpCase& c) { return std::holds_alternative<Ingest>(c.op); }
bool holds_ids(const OpCase& c, std::size_t k) { return c.ids > 0 && k + 1 == c.in.size(); }

i64 out_shrink(const OpCase& c) {
  const auto* conv = std::get_if<Conv1d>(&c.op);
  return c.shrink + (conv ? conv->width - 1 : 0);
}

std::vector<char> defined(const OpCase& c, const Shape& shape, i64 shrink) {
  const i64 n = count(shape);
  std::vector<char> mask(size(c.rows * n), 0);
  const bool sequence = !c.lengths.empty() && !shape.empty();
  for (i64 i = 0; i < c.rows * n; ++i) {
    bool in = i / n < c.valid;
    if (in && sequence) {
      const Value value{"", shape, false, 0, shrink};
      const i64 steps = valid_steps(value, c.lengths[size(i / n)]);
      in = i % n / (n / shape[0]) < steps;
    }
    mask[size(i)] = in;
  }
  return mask;
}

// Whether the result is still a sequence.
bool out_is_sequence(const OpCase& c) {
  if (std::holds_alternative<MaxOverTime>(c.op)) return false;
  if (const auto* conv = std::get_if<Conv1d>(&c.op)) return !conv->max_over_time;
  if (const auto* cell = std::get_if<Recurrent>(&c.op)) return cell->every_step;
  return true;
}

Graph graph_for(const OpCase& c) {
  Graph graph;
  Node node{is_loss(c) ? "loss" : "layer", c.op, {}, {}, {}, "case"};
  const i64 lengths = c.lengths.empty() ? -1 : 0;
  for (std::size_t k = 0; k < c.in.size(); ++k) {
    if (!is_ingest(c)) node.in.push_back(static_cast<i64>(k));
    graph.values.push_back({"in", c.in[k], holds_ids(c, k), lengths, c.shrink});
  }
  node.out = {static_cast<i64>(c.in.size())};
  graph.values.push_back({"out", c.out, is_ingest(c) && c.ids > 0,
                          out_is_sequence(c) ? lengths : -1, out_shrink(c)});
  for (std::size_t p = 0; p < c.params.size(); ++p) {
    Param param;
    param.name = "p" + std::to_string(p);
    param.shape = c.params[p];
    node.params.push_back(static_cast<i64>(p));
    graph.params.push_back(param);
  }
  graph.nodes.push_back(node);
  return graph;
}

struct Slots {
  Numbers slots;                  // per id
  i64 capacity = 0;
};

Slots slots_for(const OpCase& c, const OpData& data) {
  std::map<double, i64> seen;
  for (double id : data.in[0])
    if (id >= 0) seen.emplace(id, 0);
  Slots result;
  for (auto& [id, slot] : seen) slot = result.capacity++;
  for (double id : data.in[0])
    result.slots.push_back(id < 0 ? -1 : static_cast<double>(seen[id]));
  (void)c;
  return result;
}

template <class T>
const T* in_device(Device& device, const T& value) {
  void* data = device.allocate(sizeof(T));
  device.copy_in(data, &value, sizeof(T));
  return static_cast<const T*>(data);
}

constexpr double started = 0.5;   // what accumulated gradients hold before

struct Runner {
  Device& device;
  const OpCase& c;
  const OpData& data;
  Graph graph = graph_for(c);
  Call call{};

  void bind() {
    Scalars scalars;
    scalars.valid = c.valid;
    scalars.epoch = 2;
    call.global_batch = c.rows;
    call.training = c.training;
    call.seed = 3;
    call.node = &graph.nodes[0];
    call.graph = &graph;
    call.rows = c.rows;
    call.scalars = in_device(device, scalars);
    call.decision = in_device(device, Decision{});
    Numbers rows(size(c.rows)), ids(size(c.rows));
    for (i64 r = 0; r < c.rows; ++r) {
      rows[size(r)] = static_cast<double>(r);
      ids[size(r)] = static_cast<double>(1000 + 7 * r);
    }
    call.position = upload(device, rows, DType::i32, {c.rows});
    call.row_id = upload(device, ids, DType::i64, {c.rows});
    if (is_loss(c)) call.weight = upload(device, data.weight, device.real(), {c.rows});
    View lengths;
    if (!c.lengths.empty())
      lengths = upload(device, Numbers(c.lengths.begin(), c.lengths.end()), DType::i32, {c.rows});
    for (std::size_t k = 0; k < c.in.size(); ++k) {
      DType type = holds_ids(c, k) ? DType::i32 : device.activation();
      if (is_ingest(c)) type = c.raw;
      call.in.push_back(upload(device, data.in[k], type, with_rows(c.rows, c.in[k])));
      call.lengths.push_back(lengths);
    }
    for (std::size_t p = 0; p < c.params.size(); ++p)
      call.param.push_back(upload(device, data.param[p], device.real(), c.params[p]));
    bind_out();
  }

  void bind_out() {
    if (is_loss(c)) {
      call.out = {upload(device, {0, 0}, DType::f64, {2})};
      return;
    }
    const DType type = is_ingest(c) && c.ids > 0 ? DType::i32 : device.activation();
    const i64 n = c.rows * count(c.out);
    call.out = {upload(device, Numbers(size(n), 0), type, with_rows(c.rows, c.out))};
  }

  void bind_gradients() {
    for (std::size_t p = 0; p < c.params.size(); ++p) {
      Shape shape = c.params[p];
      if (const auto* table = std::get_if<Embedding>(&c.op); table && table->sparse) {
        const Slots slots = slots_for(c, data);
        shape[0] = std::max<i64>(slots.capacity, 1);
        call.slots = upload(device, slots.slots, DType::i32, with_rows(c.rows, c.in[0]));
      }
      call.d_param.push_back(
          upload(device, Numbers(size(count(shape)), started), device.real(), shape));
    }
    for (std::size_t k = 0; k < c.in.size(); ++k) {
      const Shape shape = with_rows(c.rows, c.in[k]);
      View view{nullptr, device.activation(), shape};
      if (!holds_ids(c, k) && !(is_loss(c) && k > 0))
        view = upload(device, Numbers(size(count(shape)), started), device.activation(), shape);
      call.d_in.push_back(view);
      call.accumulate.push_back(c.accumulate);
    }
    if (!is_loss(c))
      call.d_out = {upload(device, data.d_out, device.activation(), with_rows(c.rows, c.out))};
  }

  void run(Pass pass, const Needs& needs) {
    call.pass = pass;
    for (int phase = c.training ? 0 : needs.phases - 1; phase < needs.phases; ++phase) {
      call.phase = phase;
      device.compile(call)->run();
    }
  }

  OpResult all() {
    bind();
    bind_gradients();
    Call shapes = call;
    const Needs forward = device.needs(shapes);
    shapes.pass = Pass::backward;
    const Needs backward = device.needs(shapes);
    const auto bytes = [&](i64 n) {
      return View{device.allocate(std::max<i64>(n, 64)), DType::u8, {n}};
    };
    call.saved = bytes(forward.saved);
    call.scratch = bytes(std::max(forward.scratch, backward.scratch));
    if (!forward.sync.empty())
      call.sync = View{device.allocate(count(forward.sync) * 8), DType::f64, forward.sync};
    run(Pass::forward, forward);
    OpResult result;
    result.out = download(device, call.out[0]);
    if (is_ingest(c) || !c.training) return result;
    run(Pass::backward, forward);
    for (const View& view : call.d_in) {
      result.d_in.push_back(view.data ? download(device, view) : Numbers{});
      if (c.accumulate)
        for (double& v : result.d_in.back()) v -= started;
    }
    for (const View& view : call.d_param) {
      result.d_param.push_back(download(device, view));
      for (double& v : result.d_param.back()) v -= started;
    }
    return result;
  }
};

std::string differ(const std::string& what, const Numbers& a, const Numbers& b,
                   const std::vector<char>& mask, double tolerance) {
  if (a.size() != b.size()) return fmt::format("{}: {} against {} elements\n", what, a.size(), b.size());
  double top = 1;
  for (std::size_t i = 0; i < b.size(); ++i)
    if (mask.empty() || mask[i]) top = std::max(top, std::abs(b[i]));
  for (std::size_t i = 0; i < b.size(); ++i) {
    if (!mask.empty() && !mask[i]) continue;
    if (!(std::abs(a[i] - b[i]) <= tolerance * top))
      return fmt::format("{}[{}]: {} but the reference gives {} (largest {})\n", what, i, a[i],
                         b[i], top);
  }
  return "";
}

bool is_product(const Op& op) {
  return std::holds_alternative<Dense>(op) || std::holds_alternative<Recurrent>(op) ||
         std::holds_alternative<Conv1d>(op) || std::holds_alternative<Conv2d>(op);
}

void clear_padding(const OpCase& c, OpData& data) {
  const std::vector<char> mask = defined_in(c, 0);
  for (std::size_t i = 0; i < mask.size(); ++i)
    if (!mask[i]) data.in[0][i] = 0;
  for (double& d : data.d_out) d = std::isnan(d) ? 0 : d;
}

}  // namespace

OpData data_for(const OpCase& c) {
  OpData data;
  Stream stream(mix_key(name_key(c.name), 17));
  const auto number = [&] { return static_cast<double>(static_cast<float>(stream.normal())); };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (std::size_t k = 0; k < c.in.size(); ++k) {
    const i64 n = count(c.in[k]);
    Numbers values;
    const auto mask = defined_in(c, k);
    for (i64 i = 0; i < c.rows * n; ++i) {
      double v = number();
      const bool padding = i / n >= c.valid;
      if (holds_ids(c, k)) v = padding ? -1 : static_cast<double>(stream.below(c.ids + 1) - 1);
      else if (is_ingest(c) && c.raw == DType::u8) v = static_cast<double>(stream.below(256));
      else if (is_ingest(c) && c.raw == DType::i32) v = static_cast<double>(stream.below(50));
      else if (padding) v = nan;
      else if (!mask[size(i)]) v = 7;
      values.push_back(v);
    }
    data.in.push_back(values);
  }
  for (std::size_t p = 0; p < c.params.size(); ++p) {
    Numbers values;
    for (i64 i = 0; i < count(c.params[p]); ++i)
      values.push_back(p == 3 ? 1.5 : 0.5 * number());
    data.param.push_back(values);
  }
  const auto mask = is_loss(c) ? std::vector<char>() : defined_out(c);
  for (i64 i = 0; !is_loss(c) && i < c.rows * count(c.out); ++i) {
    const double v = number();
    data.d_out.push_back(i / count(c.out) >= c.valid ? nan : mask[size(i)] ? v : 0);
  }
  for (i64 r = 0; r < c.rows; ++r) data.weight.push_back(r < c.valid ? 0.5 + static_cast<double>(r) : nan);
  return data;
}

std::vector<char> defined_in(const OpCase& c, std::size_t k) {
  return defined(c, c.in[k], c.shrink);
}

std::vector<char> defined_out(const OpCase& c) {
  if (is_loss(c)) return {1, 1};
  OpCase plain = c;
  if (!out_is_sequence(c)) plain.lengths.clear();
  return defined(plain, c.out, out_shrink(c));
}

OpResult run_case(Device& device, const OpCase& c, const OpData& data) {
  return Runner{device, c, data}.all();
}

double objective(const OpCase& c, const OpData& data) {
  const auto device = make_reference_device();
  const OpResult result = run_case(*device, c, data);
  if (is_loss(c)) return result.out[0];
  const auto mask = defined_out(c);
  double sum = 0;
  for (std::size_t i = 0; i < mask.size(); ++i)
    if (mask[i]) sum += result.out[i] * data.d_out[i];
  return sum;
}

OpData data_for(const OpCase& c, const Device& device, bool zero_padding) {
  OpData data = data_for(c);
  if (zero_padding && is_product(c.op)) clear_padding(c, data);
  const DType type = device.activation();
  const auto round = [&](Numbers& values) {
    values = to_doubles(type, from_doubles(type, values).data(), static_cast<i64>(values.size()));
  };
  if (type == device.real()) return data;
  for (std::size_t k = 0; k < data.in.size(); ++k)
    if (!holds_ids(c, k) && !is_ingest(c)) round(data.in[k]);
  for (Numbers& values : data.param) round(values);
  round(data.d_out);
  return data;
}

std::string compare(Device& device, const OpCase& c, double tolerance, bool zero_padding) {
  const auto judge = make_reference_device();
  const OpData data = data_for(c, device, zero_padding);
  const OpResult got = run_case(device, c, data), want = run_case(*judge, c, data);
  std::string report = differ("out", got.out, want.out, defined_out(c), tolerance);
  for (std::size_t k = 0; k < want.d_in.size(); ++k)
    if (!want.d_in[k].empty())
      report += differ(fmt::format("d_in {}", k), got.d_in[k], want.d_in[k], defined_in(c, k),
                       tolerance);
  for (std::size_t p = 0; p < want.d_param.size(); ++p)
    report += differ(fmt::format("d_param {}", p), got.d_param[p], want.d_param[p], {}, tolerance);
  return report.empty() ? "" : c.name + ":\n" + report;
}

}  // namespace cohort::test
