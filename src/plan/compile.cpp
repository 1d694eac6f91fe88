#include <algorithm>
#include <variant>

#include "base/error.h"
#include "base/text.h"
#include "plan/plan_impl.h"

namespace cohort {
namespace {

View allocate(Device& device, DType type, Shape shape) {
  View view{nullptr, type, std::move(shape)};
  view.data = device.allocate(std::max<i64>(view.bytes(), 64));
  return view;
}

Shape with_rows(i64 rows, const Shape& shape) {
  Shape full{rows};
  full.insert(full.end(), shape.begin(), shape.end());
  return full;
}

View at_offset(const View& arena, i64 offset, DType type, Shape shape) {
  return View{offset < 0 ? nullptr : arena.as<char>() + offset, type, std::move(shape)};
}

}  // namespace

Plan::Impl::Impl(Device& device_, const Graph& graph_, ModelState& state_,
                 const PlanConfig& config_)
    : device(device_), graph(graph_), state(state_), config(config_) {
  lay_out_staging();
  stage_inputs();
  compile_nodes();
  if (config.train) compile_update();
}

void Plan::Impl::lay_out_staging() {
  Staging& s = staging;
  const auto place = [&](i64 bytes) {
    const i64 at = s.bytes;
    s.bytes += (bytes + 63) / 64 * 64;
    return at;
  };
  s.scalars = place(sizeof(Scalars));
  s.word = place(word_size * 8);
  s.active = place(static_cast<i64>(state.tables.size()) * 8);
  s.row_id = place(config.rows * 8);
  s.position = place(config.rows * 4);
  for (const Input& input : graph.inputs)
    s.lengths.push_back(input.ragged ? place(config.rows * 4) : -1);
  const std::vector<i64> ids = sparse_inputs(graph);
  for (std::size_t t = 0; config.train && t < state.tables.size(); ++t) {
    const Input& input = graph.inputs[static_cast<std::size_t>(ids[t])];
    s.ids.push_back(config.rows * count(input.shape));
    s.slots.push_back(place(s.ids.back() * 4));
    s.rows.push_back(place(state.tables[t].capacity * 4));
  }
  s.fixed_bytes = s.bytes;
  for (const Input& input : graph.inputs)
    s.data.push_back(place(config.rows * count(input.shape) * size_of(input.dtype)));
}

void Plan::Impl::stage_inputs() {
  const i64 result_bytes = word_size * 8 + static_cast<i64>(sizeof(Decision) + sizeof(WorkClock));
  slots = device.make_slots(staging.bytes, result_bytes);
  fixed = slots.size() == 1 ? slots[0].device
                            : static_cast<char*>(device.allocate(staging.fixed_bytes));
  ingest.resize(slots.size());
  results = allocate(device, DType::u8, {result_bytes});
  loss = allocate(device, DType::f64, {2});
  for (std::size_t t = 0; config.train && t < state.tables.size(); ++t)
    state.tables[t].rows = View{fixed + staging.rows[t], DType::i32, {state.tables[t].capacity}};
}

View Plan::Impl::value_view(i64 value) const {
  const Value& v = graph.values[static_cast<std::size_t>(value)];
  return at_offset(arena, map.value.empty() ? -1 : map.value[static_cast<std::size_t>(value)],
                   v.integer ? DType::i32 : device.activation(), with_rows(config.rows, v.shape));
}

View Plan::Impl::gradient_view(i64 value) const {
  const Value& v = graph.values[static_cast<std::size_t>(value)];
  return at_offset(arena, map.gradient.empty() ? -1 : map.gradient[static_cast<std::size_t>(value)],
                   device.activation(), with_rows(config.rows, v.shape));
}

View Plan::Impl::lengths_of(i64 value) const {
  const i64 input = graph.values[static_cast<std::size_t>(value)].lengths;
  if (input < 0 || staging.lengths[static_cast<std::size_t>(input)] < 0) return View{};
  return View{fixed + staging.lengths[static_cast<std::size_t>(input)], DType::i32, {config.rows}};
}

Call Plan::Impl::bind(i64 index, Pass pass, const Needs& needs) const {
  const Node& node = graph.nodes[static_cast<std::size_t>(index)];
  Call call;
  call.node = &node;
  call.graph = &graph;
  call.pass = pass;
  call.training = config.train;
  call.rows = config.rows;
  call.global_batch = config.global_batch;
  call.seed = config.seed;
  call.scalars = reinterpret_cast<const Scalars*>(fixed + staging.scalars);
  call.decision = state.decision;
  call.row_id = View{fixed + staging.row_id, DType::i64, {config.rows}};
  call.position = View{fixed + staging.position, DType::i32, {config.rows}};
  for (i64 v : node.in) {
    call.in.push_back(value_view(v));
    call.lengths.push_back(lengths_of(v));
  }
  for (i64 v : node.out) call.out.push_back(value_view(v));
  if (std::holds_alternative<Loss>(node.op)) call.out = {loss};
  for (i64 p : node.params) {
    call.param.push_back(state.weight(p));
    if (config.train) call.d_param.push_back(state.grad(p));
  }
  call.saved = View{nullptr, DType::u8, {needs.saved}};
  if (!map.saved.empty() && map.saved[static_cast<std::size_t>(index)] >= 0)
    call.saved.data = arena.as<char>() + map.saved[static_cast<std::size_t>(index)];
  call.scratch = View{scratch.data, DType::u8, {needs.scratch}};
  return call;
}

void Plan::Impl::compile_nodes() {
  const i64 n = static_cast<i64>(graph.nodes.size());
  MemoryInputs in{&graph, config.rows, size_of(device.activation()), config.train, {}};
  i64 scratch_bytes = 0;
  for (i64 i = 0; i < n; ++i) {
    const Needs forward = device.needs(bind(i, Pass::forward, {}));
    in.saved_bytes.push_back(forward.saved);
    scratch_bytes = std::max(scratch_bytes, forward.scratch);
    if (!config.train) continue;
    Call call = bind(i, Pass::backward, forward);
    for (i64 v : call.node->in) call.d_in.push_back(gradient_view(v));
    for (i64 v : call.node->out) call.d_out.push_back(gradient_view(v));
    call.accumulate.assign(call.d_in.size(), false);
    scratch_bytes = std::max(scratch_bytes, device.needs(call).scratch);
  }
  map = place_memory(in);
  saved_bytes = in.saved_bytes;
  arena = allocate(device, DType::u8, {map.bytes});
  scratch = allocate(device, DType::u8, {scratch_bytes});
  for (i64 i = 0; i < n; ++i) compile_pass(i, Pass::forward);
  if (!config.train) return;
  cut_buckets();
  gradient_written.assign(graph.values.size(), 0);
  std::vector<i64> done(graph.params.size(), 0);
  for (i64 i = n - 1; i >= 0; --i) {
    if (map.runs_backward[static_cast<std::size_t>(i)]) compile_pass(i, Pass::backward);
    for (i64 p : graph.nodes[static_cast<std::size_t>(i)].params)
      done[static_cast<std::size_t>(p)] = static_cast<i64>(steps.size()) - 1;
  }
  mark_bucket_steps(done);
}

// True where some group of the batch has rows on two ranks: then the sums between the phases are
// reduced. The answer depends on the config alone, so every rank gives the same.
bool Plan::Impl::sync_spans_ranks(const Needs& needs) const {
  if (needs.sync.empty() || config.world == 1) return false;
  const i64 groups = needs.sync.at(0), batch = config.global_batch;
  for (int r = 1; r < config.world; ++r) {
    const i64 first = owned_positions(batch, r, config.world).begin;
    if ((first - 1) * groups / batch == first * groups / batch) return true;
  }
  return false;
}

void Plan::Impl::bind_gradients(Call& call) {
  const Node& node = *call.node;
  for (i64 v : node.in) {
    const bool wanted = map.needs_gradient[static_cast<std::size_t>(v)] != 0;
    View view = gradient_view(v);
    if (!wanted) view.data = nullptr;
    call.d_in.push_back(view);
    call.accumulate.push_back(wanted && gradient_written[static_cast<std::size_t>(v)] != 0);
    if (wanted) gradient_written[static_cast<std::size_t>(v)] = 1;
  }
  if (!std::holds_alternative<Loss>(node.op))
    for (i64 v : node.out) call.d_out.push_back(gradient_view(v));
  for (std::size_t t = 0; t < state.tables.size(); ++t)
    if (!node.params.empty() && state.tables[t].param == node.params[0])
      call.slots = View{fixed + staging.slots[t], DType::i32, call.in[0].shape};
}

void Plan::Impl::compile_pass(i64 index, Pass pass) {
  const Needs needs = device.needs(bind(index, Pass::forward, {}));
  Call call = bind(index, pass, needs);
  if (pass == Pass::backward) bind_gradients(call);
  call.scratch = View{scratch.data, DType::u8, {scratch.count()}};
  for (std::size_t k = 0; std::holds_alternative<Ingest>(call.node->op) && k < graph.inputs.size();
       ++k)
    if (graph.inputs[k].value == call.node->out.at(0))
      return compile_ingest(call, static_cast<i64>(k));
  const bool sync = !needs.sync.empty() && config.train;
  if (sync) call.sync = allocate(device, DType::f64, needs.sync);
  if (sync && config.micro_batches > 1)
    fail(Exit::usage, "{}: batch norm takes its statistics over groups of the global batch and "
         "cannot be split: expected train.accumulate 1, got {}; lower train.global_batch instead",
         call.node->place, config.micro_batches);
  for (int phase = config.train ? 0 : needs.phases - 1; phase < needs.phases; ++phase) {
    call.phase = phase;
    PlanStep step;
    step.kernel = device.compile(call);
    step.node = index;
    step.pass = pass;
    step.whole = phase + 1 == needs.phases;
    if (phase + 1 < needs.phases && sync_spans_ranks(needs)) step.sync = call.sync;
    steps.push_back(std::move(step));
    note(call);
  }
}

// Raw input k is read where it was sent to: a kernel for each slot.
void Plan::Impl::compile_ingest(Call call, i64 k) {
  const auto index = static_cast<std::size_t>(k);
  const Input& input = graph.inputs[index];
  if (staging.lengths[index] >= 0)
    call.lengths = {View{fixed + staging.lengths[index], DType::i32, {config.rows}}};
  for (std::size_t s = 0; s < slots.size(); ++s) {
    call.in = {View{slots[s].device + staging.data[index], input.dtype,
                    with_rows(config.rows, input.shape)}};
    ingest[s].push_back(device.compile(call));
  }
  note(call);
}

void Plan::Impl::note(const Call& call) {
  lines.push_back(fmt::format("{:4} {} {:<14} {:<20} {}", lines.size(),
                              call.pass == Pass::forward ? "fwd" : "bwd", kind_of(call.node->op),
                              call.node->name,
                              call.out.empty() ? "" : to_string(call.out[0].shape)));
}

}  // namespace cohort
