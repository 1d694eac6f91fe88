#include <vector>

#include "device/reference/reference_impl.h"

namespace cohort::reference {
namespace {

// saved: per row and step [gates*H activated gates, H cell, H state].
struct Walk {
  const Call& c;
  const Recurrent& op;
  i64 units = op.units;
  i64 gates = (op.cell == Cell::lstm ? 4 : 1) * units;
  i64 features = last(c.in[0].shape), steps = c.in[0].shape[1];
  i64 record = gates + 2 * units;

  double* at(i64 r, i64 t) const {
    return reinterpret_cast<double*>(c.saved.data) + (r * steps + t) * record;
  }
  const double* input(i64 r, i64 t) const { return real(c.in[0]) + (r * steps + t) * features; }
};

void forward_step(const Walk& w, i64 r, i64 t) {
  double* now = w.at(r, t);
  const double* before = t > 0 ? w.at(r, t - 1) : nullptr;
  const bool lstm = w.op.cell == Cell::lstm;
  for (i64 g = 0; g < w.gates; ++g) {
    double sum = real(w.c.param[2])[g];
    for (i64 f = 0; f < w.features; ++f)
      sum += real(w.c.param[0])[g * w.features + f] * w.input(r, t)[f];
    for (i64 h = 0; before && h < w.units; ++h)
      sum += real(w.c.param[1])[g * w.units + h] * before[w.gates + w.units + h];
    const bool candidate = !lstm || g / w.units == 2;
    now[g] = activate(candidate ? Activation::tanh : Activation::sigmoid, sum);
  }
  const i64 H = w.units;
  for (i64 h = 0; h < H; ++h) {
    double& cell = now[w.gates + h];
    double& state = now[w.gates + H + h];
    if (!lstm) {
      state = now[h];
      continue;
    }
    cell = (before ? now[H + h] * before[w.gates + h] : 0) + now[h] * now[2 * H + h];
    state = now[3 * H + h] * std::tanh(cell);
  }
}

// Turns d state (and d cell, updated to the step before) into d of the gates before activation.
void gate_gradients(const Walk& w, i64 r, i64 t, std::vector<double>& d_state,
                    std::vector<double>& d_cell, std::vector<double>& d_gate) {
  const i64 H = w.units;
  const double* now = w.at(r, t);
  for (i64 h = 0; h < H; ++h) {
    const auto s = [&](i64 k) { return static_cast<std::size_t>(k * H + h); };
    if (w.op.cell == Cell::tanh) {
      d_gate[s(0)] = d_state[s(0)] * slope(Activation::tanh, now[h]);
      continue;
    }
    const double i = now[h], f = now[H + h], g = now[2 * H + h], o = now[3 * H + h];
    const double tanh_cell = std::tanh(now[w.gates + h]);
    const double before = t > 0 ? w.at(r, t - 1)[w.gates + h] : 0;
    const double dc = d_cell[s(0)] + d_state[s(0)] * o * (1 - tanh_cell * tanh_cell);
    d_gate[s(0)] = dc * g * i * (1 - i);
    d_gate[s(1)] = dc * before * f * (1 - f);
    d_gate[s(2)] = dc * i * (1 - g * g);
    d_gate[s(3)] = d_state[s(0)] * tanh_cell * o * (1 - o);
    d_cell[s(0)] = dc * f;
  }
}

void spread_gates(const Walk& w, i64 r, i64 t, const std::vector<double>& d_gate,
                  std::vector<double>& d_state) {
  const Call& c = w.c;
  const double* before = t > 0 ? w.at(r, t - 1) + w.gates + w.units : nullptr;
  double* d_in = c.d_in[0].data ? real(c.d_in[0]) + (r * w.steps + t) * w.features : nullptr;
  std::fill(d_state.begin(), d_state.end(), 0.0);
  for (i64 g = 0; g < w.gates; ++g) {
    const double d = d_gate[static_cast<std::size_t>(g)];
    real(c.d_param[2])[g] += d;
    for (i64 f = 0; f < w.features; ++f) {
      real(c.d_param[0])[g * w.features + f] += d * w.input(r, t)[f];
      if (d_in) d_in[f] += d * real(c.param[0])[g * w.features + f];
    }
    for (i64 h = 0; before && h < w.units; ++h) {
      real(c.d_param[1])[g * w.units + h] += d * before[h];
      d_state[static_cast<std::size_t>(h)] += d * real(c.param[1])[g * w.units + h];
    }
  }
}

}  // namespace

void forward(const Call& c, const Recurrent& op) {
  const Walk w{c, op};
  std::fill_n(real(c.out[0]), c.out[0].count(), 0.0);
  for (i64 r = 0; r < valid_rows(c); ++r) {
    const i64 valid = steps_in(c, 0, r);
    for (i64 t = 0; t < valid; ++t) {
      forward_step(w, r, t);
      if (!op.every_step && t + 1 < valid) continue;
      const i64 to = op.every_step ? r * w.steps + t : r;
      std::copy_n(w.at(r, t) + w.gates + w.units, w.units, real(c.out[0]) + to * w.units);
    }
  }
}

void backward(const Call& c, const Recurrent& op) {
  const Walk w{c, op};
  begin_gradient(c, 0);
  const auto units = static_cast<std::size_t>(w.units);
  for (i64 r = 0; r < valid_rows(c); ++r) {
    std::vector<double> d_state(units, 0.0), d_cell(units, 0.0);
    std::vector<double> d_gate(static_cast<std::size_t>(w.gates));
    const i64 valid = steps_in(c, 0, r);
    for (i64 t = valid - 1; t >= 0; --t) {
      const i64 from = op.every_step ? r * w.steps + t : r;
      if (op.every_step || t + 1 == valid) {
        for (std::size_t h = 0; h < units; ++h)
          d_state[h] += real(c.d_out[0])[from * w.units + static_cast<i64>(h)];
      }
      gate_gradients(w, r, t, d_state, d_cell, d_gate);
      spread_gates(w, r, t, d_gate, d_state);
    }
  }
}

}  // namespace cohort::reference
