#include "train/parity.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/log.h"
#include "train/feed.h"
#include "train/session.h"

namespace cohort {
namespace {

// What rounding explains, as a share of the largest gradient.
double limit_of(const DeviceConfig& config) {
  if (config.kind != "cuda" || config.precision == "f32") return 1e-4;
  return config.precision == "tf32" ? 5e-3 : 5e-2;
}

// One replica of the model and what drives it.
struct Side {
  Side(Device& device_, const Session& session)
      : device(device_),
        graph(*session.graph),
        state(device, graph, row_capacities(graph, training_plan(session).global_batch), true) {}

  std::vector<double> read(const View& view) const {
    std::vector<char> raw(static_cast<std::size_t>(view.bytes()));
    device.copy_out(raw.data(), view.data, view.bytes());
    return to_doubles(view.dtype, raw.data(), view.count());
  }
  std::vector<double> gradient(i64 param) const {
    View view = state.grad(param);
    for (const TableState& table : state.tables)
      if (table.param == param) view.shape[0] = table.active;
    std::vector<double> values = read(view);
    const double scale = state.read_decision().loss_scale;   // once: it waits for the device
    for (double& v : values) v /= scale;
    return values;
  }

  Device& device;
  const Graph& graph;
  ModelState state;
  std::unique_ptr<Reducer> reducer;
  std::unique_ptr<Plan> plan;
};

// NaN where there is one.
double largest(const std::vector<double>& values) {
  double top = 0;
  for (double v : values)
    if (!std::isnan(top) && !(std::abs(v) <= top)) top = std::abs(v);
  return top;
}

// NaN where either side has one.
double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double top = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(a[i] - b[i]);
    if (!(d <= top)) top = d;
    if (std::isnan(d)) return d;
  }
  return top;
}

// The loss of a step. Where gradients overflow in float16 the loss scale is halved, as in training.
double run_gradients(Side& side, const FeedItem& item) {
  for (;;) {
    const double loss = side.plan->gradients(item.batch, item.sparse, side.reducer.get()).loss;
    Decision decision = side.state.read_decision();
    bool finite = true;
    for (std::size_t p = 0; p < side.graph.params.size() && decision.loss_scale > 1; ++p)
      finite = finite && std::isfinite(largest(side.gradient(static_cast<i64>(p))));
    if (finite) return loss;
    decision.loss_scale /= 2;
    side.state.write_decision(decision);
  }
}

struct Worst {
  double loss = 0;
  std::map<std::string, double> gradient, value;   // by parameter

  static void raise(double& to, double x) {
    if (std::isnan(x) || x > to) to = x;
  }
};

void compare_gradients(const Side& cpu, const Side& other, Worst& worst) {
  double top = 0;
  const auto each = [&](auto use) {
    for (std::size_t p = 0; p < cpu.graph.params.size(); ++p)
      if (!cpu.graph.params[p].running) use(cpu.graph.params[p].name, static_cast<i64>(p));
  };
  each([&](const std::string&, i64 p) { top = std::max(top, largest(cpu.gradient(p))); });
  each([&](const std::string& name, i64 p) {
    const double d = largest_difference(other.gradient(p), cpu.gradient(p));
    Worst::raise(worst.gradient[name], top > 0 ? d / top : d);
  });
}

void compare_values(const Side& cpu, const Side& other, Worst& worst) {
  for (std::size_t p = 0; p < cpu.graph.params.size(); ++p) {
    const std::vector<double> wanted = cpu.read(cpu.state.weight(static_cast<i64>(p)));
    const double top = largest(wanted);
    const double d =
        largest_difference(other.read(other.state.weight(static_cast<i64>(p))), wanted);
    Worst::raise(worst.value[cpu.graph.params[p].name], top > 0 ? d / top : d);
  }
}

Exit report(const Session& session, const Worst& worst, i64 steps) {
  const double limit = limit_of(session.experiment.device);
  auto top = std::max_element(worst.gradient.begin(), worst.gradient.end(), [](auto& a, auto& b) {
    return std::isnan(b.second) || a.second < b.second;
  });
  const bool good = worst.loss <= limit && top->second <= limit;
  if (session.ranks().rank() != 0) return good ? Exit::done : Exit::nonfinite;
  fmt::print("{}: {} steps on {} against the CPU\n{:<40} {:>10} {:>10}\n", session.experiment.name,
             steps, session.device->describe(), "tensor", "gradient", "values");
  for (const auto& [name, d] : worst.value)
    fmt::print("{:<40} {:>10} {:>10.2e}\n", name,
               worst.gradient.count(name) ? fmt::format("{:.2e}", worst.gradient.at(name)) : "-", d);
  fmt::print("loss {:.2e}; largest gradient difference {:.2e} ({}), limit {:.0e}: {}\n", worst.loss,
             top->second, top->first, limit, good ? "equal up to rounding" : "NOT EQUAL");
  if (!good)
    log::error("{}: the device's gradients differ from the CPU's by more than {} explains; run the "
               "device's tests (tests/gpu/acceptance.sh)", session.experiment.name,
               session.experiment.device.precision);
  return good ? Exit::done : Exit::nonfinite;
}

}  // namespace

Exit run_parity(World& world, const Experiment& experiment, i64 steps) {
  const Session session = open_session(world, experiment);
  const std::unique_ptr<Device> host = make_session_cpu(world, experiment.device);
  Side cpu(*host, session), other(*session.device, session);
  const PlanConfig config = training_plan(session);
  if (config.world > 1)
    cpu.reducer = std::make_unique<CollectiveQueue>(session.ranks().duplicate());
  other.reducer = make_reducer(session, {});
  for (Side* side : {&cpu, &other})
    side->plan = std::make_unique<Plan>(side->device, side->graph, side->state, config);
  cpu.state.initialise(config.seed);
  Feed feed({training_rows(session), 0, 0, steps, sparse_inputs(*session.graph)},
            session.ranks().duplicate());
  Worst worst;
  for (i64 step = 0; step < steps; ++step) {
    const FeedItem item = feed.next();
    other.state.copy_from_host(cpu.state.copy_to_host());
    Decision decision = other.state.first_decision();
    decision.updates = cpu.state.read_decision().updates;
    other.state.write_decision(decision);
    double loss[2];
    for (Side* side : {&cpu, &other})
      loss[side == &other] = run_gradients(*side, item);
    Worst::raise(worst.loss, std::abs(loss[1] - loss[0]) / std::max(1e-30, std::abs(loss[0])));
    compare_gradients(cpu, other, worst);
    const double rate = learning_rate_at(session.experiment.optimizer, step, steps);
    for (Side* side : {&cpu, &other})
      side->plan->step(item.batch, item.sparse, {}, side->reducer.get(), rate);
    compare_values(cpu, other, worst);
  }
  return report(session, worst, steps);
}

}  // namespace cohort
