#include <vector>

#include "device/reference/reference_impl.h"

namespace cohort::reference {
namespace {

// saved: per row and step [gates*H activated gates, H cell, H state]. The GRU's cell is what its
// reset gate multiplies: W_hn h + b_hn.
struct Walk {
  const Call& c;
  const Recurrent& op;
  i64 units = op.units;
  i64 gates = gates_of(op.cell) * units;
  i64 features = last(c.in[0].shape), steps = c.in[0].shape[1];
  i64 record = gates + 2 * units;

  double* at(i64 r, i64 t) const {
    return reinterpret_cast<double*>(c.saved.data) + (r * steps + t) * record;
  }
  double* cell(i64 r, i64 t) const { return at(r, t) + gates; }
  double* state(i64 r, i64 t) const { return at(r, t) + gates + units; }
  double state_before(i64 r, i64 t, i64 h) const { return t > 0 ? state(r, t - 1)[h] : 0; }
  const double* input(i64 r, i64 t) const { return real(c.in[0]) + (r * steps + t) * features; }
  double bias(i64 k) const { return real(c.param[2])[k]; }
  // Row g of the weights with the input, and with the state before.
  double from_input(i64 r, i64 t, i64 g) const {
    double sum = 0;
    for (i64 f = 0; f < features; ++f) sum += real(c.param[0])[g * features + f] * input(r, t)[f];
    return sum;
  }
  double from_state(i64 r, i64 t, i64 g) const {
    double sum = 0;
    for (i64 h = 0; h < units; ++h) sum += real(c.param[1])[g * units + h] * state_before(r, t, h);
    return sum;
  }
  double gate(i64 r, i64 t, i64 g, Activation kind) const {
    return activate(kind, from_input(r, t, g) + from_state(r, t, g) + bias(g));
  }
};

void tanh_step(const Walk& w, i64 r, i64 t) {
  for (i64 h = 0; h < w.units; ++h)
    w.state(r, t)[h] = w.at(r, t)[h] = w.gate(r, t, h, Activation::tanh);
}

void lstm_step(const Walk& w, i64 r, i64 t) {
  const i64 H = w.units;
  double* now = w.at(r, t);
  for (i64 g = 0; g < w.gates; ++g)
    now[g] = w.gate(r, t, g, g / H == 2 ? Activation::tanh : Activation::sigmoid);
  for (i64 h = 0; h < H; ++h) {
    const double before = t > 0 ? w.cell(r, t - 1)[h] : 0;
    w.cell(r, t)[h] = now[H + h] * before + now[h] * now[2 * H + h];
    w.state(r, t)[h] = now[3 * H + h] * std::tanh(w.cell(r, t)[h]);
  }
}

void gru_step(const Walk& w, i64 r, i64 t) {
  const i64 H = w.units;
  for (i64 h = 0; h < H; ++h) {
    const double reset = w.gate(r, t, h, Activation::sigmoid);
    const double update = w.gate(r, t, H + h, Activation::sigmoid);
    const double inner = w.from_state(r, t, 2 * H + h) + w.bias(3 * H + h);
    const double candidate =
        std::tanh(w.from_input(r, t, 2 * H + h) + w.bias(2 * H + h) + reset * inner);
    w.at(r, t)[h] = reset;
    w.at(r, t)[H + h] = update;
    w.at(r, t)[2 * H + h] = candidate;
    w.cell(r, t)[h] = inner;
    w.state(r, t)[h] = (1 - update) * candidate + update * w.state_before(r, t, h);
  }
}

// Gradients of one row on the way back through time.
struct Back {
  std::vector<double> d_state;   // of this step; then of the step before
  std::vector<double> d_cell;    // LSTM: as d_state
  std::vector<double> d_bias;    // of what each bias is added to; the GRU's last: W_hn h + b_hn
  explicit Back(const Walk& w)
      : d_state(size(w.units), 0.0),
        d_cell(size(w.units), 0.0),
        d_bias(size(biases_of(w.op.cell) * w.units)) {}
  static std::size_t size(i64 n) { return static_cast<std::size_t>(n); }
  // Turns d_state (and d_cell) into d_bias; d_state keeps what reaches the step before directly.
  void gates(const Walk& w, i64 r, i64 t) {
    for (i64 h = 0; h < w.units; ++h) {
      if (w.op.cell == Cell::tanh) tanh_unit(w, r, t, h);
      if (w.op.cell == Cell::lstm) lstm_unit(w, r, t, h);
      if (w.op.cell == Cell::gru) gru_unit(w, r, t, h);
    }
  }

 private:
  double& d(i64 k) { return d_bias[size(k)]; }
  void tanh_unit(const Walk& w, i64 r, i64 t, i64 h) {
    d(h) = d_state[size(h)] * slope(Activation::tanh, w.at(r, t)[h]);
    d_state[size(h)] = 0;
  }
  void lstm_unit(const Walk& w, i64 r, i64 t, i64 h) {
    const i64 H = w.units;
    const double* now = w.at(r, t);
    const double i = now[h], f = now[H + h], g = now[2 * H + h], o = now[3 * H + h];
    const double tanh_cell = std::tanh(w.cell(r, t)[h]);
    const double before = t > 0 ? w.cell(r, t - 1)[h] : 0;
    const double dh = d_state[size(h)];
    const double dc = d_cell[size(h)] + dh * o * (1 - tanh_cell * tanh_cell);
    d(h) = dc * g * i * (1 - i);
    d(H + h) = dc * before * f * (1 - f);
    d(2 * H + h) = dc * i * (1 - g * g);
    d(3 * H + h) = dh * tanh_cell * o * (1 - o);
    d_cell[size(h)] = dc * f;
    d_state[size(h)] = 0;
  }
  void gru_unit(const Walk& w, i64 r, i64 t, i64 h) {
    const i64 H = w.units;
    const double* now = w.at(r, t);
    const double reset = now[h], update = now[H + h], candidate = now[2 * H + h];
    const double dh = d_state[size(h)];
    const double d_sum = dh * (1 - update) * (1 - candidate * candidate);
    d(h) = d_sum * w.cell(r, t)[h] * reset * (1 - reset);
    d(H + h) = dh * (w.state_before(r, t, h) - candidate) * update * (1 - update);
    d(2 * H + h) = d_sum;
    d(3 * H + h) = d_sum * reset;
    d_state[size(h)] = dh * update;
  }
};

void spread_gates(const Walk& w, i64 r, i64 t, Back& back) {
  const Call& c = w.c;
  const i64 H = w.units;
  double* d_in = c.d_in[0].data ? real(c.d_in[0]) + (r * w.steps + t) * w.features : nullptr;
  for (std::size_t k = 0; k < back.d_bias.size(); ++k) real(c.d_param[2])[k] += back.d_bias[k];
  for (i64 g = 0; g < w.gates; ++g) {
    const double d = back.d_bias[Back::size(g)];
    for (i64 f = 0; f < w.features; ++f) {
      real(c.d_param[0])[g * w.features + f] += d * w.input(r, t)[f];
      if (d_in) d_in[f] += d * real(c.param[0])[g * w.features + f];
    }
    const bool inner = w.op.cell == Cell::gru && g / H == 2;
    const double e = inner ? back.d_bias[Back::size(g + H)] : d;
    for (i64 h = 0; h < H; ++h) {
      real(c.d_param[1])[g * H + h] += e * w.state_before(r, t, h);
      back.d_state[Back::size(h)] += e * real(c.param[1])[g * H + h];
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
      if (op.cell == Cell::tanh) tanh_step(w, r, t);
      if (op.cell == Cell::lstm) lstm_step(w, r, t);
      if (op.cell == Cell::gru) gru_step(w, r, t);
      if (!op.every_step && t + 1 < valid) continue;
      const i64 to = op.every_step ? r * w.steps + t : r;
      std::copy_n(w.state(r, t), w.units, real(c.out[0]) + to * w.units);
    }
  }
}

void backward(const Call& c, const Recurrent& op) {
  const Walk w{c, op};
  begin_gradient(c, 0);
  for (i64 r = 0; r < valid_rows(c); ++r) {
    Back back(w);
    const i64 valid = steps_in(c, 0, r);
    for (i64 t = valid - 1; t >= 0; --t) {
      const i64 from = op.every_step ? r * w.steps + t : r;
      if (op.every_step || t + 1 == valid) {
        for (i64 h = 0; h < w.units; ++h)
          back.d_state[Back::size(h)] += real(c.d_out[0])[from * w.units + h];
      }
      back.gates(w, r, t);
      spread_gates(w, r, t, back);
    }
  }
}

}  // namespace cohort::reference
