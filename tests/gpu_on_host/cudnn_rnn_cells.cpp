// The recurrent cells by their documented formulas, in float. With x the input, h and c the states
// before, h' and c' those after:
//   RNN   h' = f(Wx + bW + Rh + bR)
//   LSTM  i f o = sigmoid, g = tanh of (Wx + bW + Rh + bR); c' = f c + i g; h' = o tanh(c')
//   GRU   r z = sigmoid(Wx + bW + Rh + bR); n = tanh(Wx + bW + r (Rh + bR)); h' = (1 - z) n + z h
#include <algorithm>
#include <cmath>

#include "cudnn_rnn.h"

namespace hg {
namespace {

using Floats = std::vector<float>;

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  return (hash ^ value) * 0x100000001b3u + 0x9e3779b97f4a7c15u;
}

std::uint64_t shape_hash(const RnnCall& call) {
  std::uint64_t hash = 0;
  for (int value :
       {int(call.layer.mode), int(call.layer.bias), int(call.layer.type), call.layer.input,
        call.layer.hidden, call.x_data.steps, call.x_data.batch, int(call.x_data.layout)}) {
    hash = mix(hash, std::uint64_t(value));
  }
  for (int length : call.x_data.lengths) hash = mix(hash, std::uint64_t(length));
  return hash;
}

// Views into the reserve space.
struct Reserve {
  explicit Reserve(const RnnCall& call)
      : header(static_cast<ReserveHeader*>(call.reserve)),
        gates(reinterpret_cast<float*>(header + 1)),
        gate_width(std::size_t(call.layer.gates()) * call.layer.hidden),
        extra_width(std::size_t(call.layer.hidden)),
        extra(gates + call.cells() * gate_width),
        input_gradients(extra + call.cells() * extra_width),
        recurrent_gradients(input_gradients + call.cells() * gate_width),
        saved(call.cells() * (gate_width + extra_width)) {}

  std::uint64_t contents() const {
    std::uint64_t hash = 0;
    const auto* const words = reinterpret_cast<const std::uint32_t*>(gates);
    for (std::size_t i = 0; i < saved; ++i) hash = mix(hash, words[i]);
    return hash;
  }

  ReserveHeader* header;
  float* gates;
  std::size_t gate_width, extra_width;
  float *extra, *input_gradients, *recurrent_gradients;
  std::size_t saved;  // floats that forward wrote
};

void check_reserve(const RnnCall& call, ReserveHeader::Phase phase) {
  const Reserve reserve(call);
  if (reserve.header->magic != ReserveHeader::kMagic) {
    die("cudnnRNN backward: the reserve space is not that of a forward call in training mode");
  }
  if (reserve.header->shape != shape_hash(call)) {
    die("cudnnRNN backward: the reserve space is of another layer, shape or lengths");
  }
  if (reserve.header->contents != reserve.contents()) {
    die("cudnnRNN backward: the reserve space was written to since forward");
  }
  if (reserve.header->phase < phase) {
    die("cudnnRNNBackwardWeights_v8 before cudnnRNNBackwardData_v8");
  }
}

void check_lengths(const RnnCall& call) {
  if (!call.device_lengths) return;
  for (int b = 0; b < call.x_data.batch; ++b) {
    if (call.device_lengths[b] != call.x_data.lengths[std::size_t(b)]) {
      die("cudnnRNN: length %d of row %d on the device, %d in the descriptor",
          call.device_lengths[b], b, call.x_data.lengths[std::size_t(b)]);
    }
  }
}

// One layer's arithmetic on vectors of one row at one step.
class Cell {
 public:
  explicit Cell(const RnnCall& call) : call_(call), layer_(call.layer) {
    trash(call.workspace, call.workspace_bytes);
    check_lengths(call);
    if (!call.weights) return;
    weights_.resize(layer_.weight_count());
    for (std::size_t i = 0; i < weights_.size(); ++i)
      weights_[i] = load(layer_.type, call.weights, i);
    for (std::size_t i = 0; i < layer_.recurrent_matrix(layer_.gates()); ++i) {
      weights_[i] = operand(weights_[i]);
    }
  }

  // As a matrix product reads it.
  float operand(float value) const { return layer_.tf32 ? to_tf32(value) : value; }
  float rounded(float value) const {
    if (layer_.type == Number::f32) return value;
    float room = 0;
    store(layer_.type, &room, 0, value);
    return load(layer_.type, &room, 0);
  }
  Floats row(const void* p, std::size_t at, int width) const {
    Floats out(std::size_t(width), 0.0f);
    for (std::size_t i = 0; p && i < out.size(); ++i) out[i] = load(layer_.type, p, at + i);
    return out;
  }
  Floats state(const void* p, int b) const {
    return row(p, std::size_t(b) * layer_.hidden, layer_.hidden);
  }
  void put(void* p, std::size_t at, const Floats& values) const {
    for (std::size_t i = 0; p && i < values.size(); ++i) store(layer_.type, p, at + i, values[i]);
  }
  void put_state(void* p, int b, const Floats& values) const {
    put(p, std::size_t(b) * layer_.hidden, values);
  }
  Floats before(int step, int b) const {  // the hidden state that a step starts from
    if (step == 0) return state(call_.hx, b);
    return row(call_.y, call_.y_data.at(step - 1, b), layer_.hidden);
  }

  // Row k of gate g's products, biases included.
  float input_sum(int g, int k, const Floats& x) const {
    const float* const w = &weights_[layer_.input_matrix(g) + std::size_t(k) * layer_.input];
    float sum = layer_.biases() > 0 ? weights_[layer_.bias_vector(false, g) + std::size_t(k)] : 0;
    for (int i = 0; i < layer_.input; ++i) sum += w[i] * operand(x[std::size_t(i)]);
    return sum;
  }
  float recurrent_sum(int g, int k, const Floats& h) const {
    const float* const r = &weights_[layer_.recurrent_matrix(g) + std::size_t(k) * layer_.hidden];
    float sum = layer_.biases() == 2 ? weights_[layer_.bias_vector(true, g) + std::size_t(k)] : 0;
    for (int i = 0; i < layer_.hidden; ++i) sum += r[i] * operand(h[std::size_t(i)]);
    return sum;
  }
  // out += transposed matrices times the gradients at the gates
  void input_transposed(const float* gradients, Floats* out) const {
    transposed(gradients, layer_.input_matrix(0), layer_.input, out);
  }
  void recurrent_transposed(const float* gradients, Floats* out) const {
    transposed(gradients, layer_.recurrent_matrix(0), layer_.hidden, out);
  }

 private:
  void transposed(const float* gradients, std::size_t matrix, int width, Floats* out) const {
    for (int row = 0; row < layer_.gates() * layer_.hidden; ++row) {
      const float* const from = &weights_[matrix + std::size_t(row) * width];
      const float factor = operand(gradients[row]);
      for (int i = 0; i < width; ++i) (*out)[std::size_t(i)] += factor * from[i];
    }
  }

  const RnnCall& call_;
  const RnnLayer& layer_;
  Floats weights_;
};

struct StepValues {
  Floats h, c;           // before the step, then after it
  float *gates, *extra;  // kept for backward
};

void step_forward(const Cell& cell, const RnnLayer& layer, const Floats& x, StepValues* v) {
  const int hidden = layer.hidden;
  const Floats before = v->h;
  for (int k = 0; k < hidden; ++k) {
    const auto at = std::size_t(k);
    auto sum = [&](int g) { return cell.input_sum(g, k, x) + cell.recurrent_sum(g, k, before); };
    auto gate = [&](int g) -> float& { return v->gates[g * hidden + k]; };
    if (layer.mode == CUDNN_LSTM) {
      gate(0) = sigmoid(sum(0));
      gate(1) = sigmoid(sum(1));
      gate(2) = std::tanh(sum(2));
      gate(3) = sigmoid(sum(3));
      v->c[at] = gate(1) * v->c[at] + gate(0) * gate(2);
      v->extra[k] = v->c[at];
      v->h[at] = gate(3) * std::tanh(v->c[at]);
    } else if (layer.mode == CUDNN_GRU) {
      gate(0) = sigmoid(sum(0));
      gate(1) = sigmoid(sum(1));
      v->extra[k] = cell.recurrent_sum(2, k, before);
      gate(2) = std::tanh(cell.input_sum(2, k, x) + gate(0) * v->extra[k]);
      v->h[at] = (1 - gate(1)) * gate(2) + gate(1) * before[at];
    } else {
      const float value = sum(0);
      gate(0) = layer.mode == CUDNN_RNN_TANH ? std::tanh(value) : value < 0 ? 0 : value;
      v->extra[k] = 0;
      v->h[at] = gate(0);
    }
  }
  for (float& h : v->h) h = cell.rounded(h);
}

struct StepGradients {
  Floats dh, dc;  // after the step, then before it
  const float *gates, *extra;
  float *input, *recurrent;  // at the gates
};

void lstm_backward(int k, int hidden, float c_before, StepGradients* s) {
  const auto at = std::size_t(k);
  const float i = s->gates[k], f = s->gates[hidden + k], g = s->gates[2 * hidden + k];
  const float o = s->gates[3 * hidden + k], t = std::tanh(s->extra[k]);
  const float dc = s->dc[at] + s->dh[at] * o * (1 - t * t);
  s->input[k] = dc * g * i * (1 - i);
  s->input[hidden + k] = dc * c_before * f * (1 - f);
  s->input[2 * hidden + k] = dc * i * (1 - g * g);
  s->input[3 * hidden + k] = s->dh[at] * t * o * (1 - o);
  s->dc[at] = dc * f;
  s->dh[at] = 0;
}

void gru_backward(int k, int hidden, float h_before, StepGradients* s) {
  const auto at = std::size_t(k);
  const float r = s->gates[k], z = s->gates[hidden + k], n = s->gates[2 * hidden + k];
  const float dn = s->dh[at] * (1 - z) * (1 - n * n);
  s->input[k] = dn * s->extra[k] * r * (1 - r);
  s->input[hidden + k] = s->dh[at] * (h_before - n) * z * (1 - z);
  s->input[2 * hidden + k] = dn;
  s->dh[at] *= z;
}

void step_backward(const Cell& cell, const RnnLayer& layer, const Floats& h_before,
                   const Floats& c_before, StepGradients* s) {
  const int hidden = layer.hidden;
  for (int k = 0; k < hidden; ++k) {
    const auto at = std::size_t(k);
    if (layer.mode == CUDNN_LSTM) {
      lstm_backward(k, hidden, c_before[at], s);
    } else if (layer.mode == CUDNN_GRU) {
      gru_backward(k, hidden, h_before[at], s);
    } else {
      const float y = s->gates[k];
      s->input[k] = layer.mode == CUDNN_RNN_TANH ? s->dh[at] * (1 - y * y) : y > 0 ? s->dh[at] : 0;
      s->dh[at] = 0;
    }
  }
  std::copy_n(s->input, layer.gates() * hidden, s->recurrent);
  for (int k = 0; layer.mode == CUDNN_GRU && k < hidden; ++k) {
    s->recurrent[2 * hidden + k] *= s->gates[k];
  }
  cell.recurrent_transposed(s->recurrent, &s->dh);
}

void fill_padding(const Cell& cell, const RnnData& data, void* p, float value) {
  for (int b = 0; b < data.batch; ++b) {
    for (int t = data.lengths[std::size_t(b)]; t < data.steps; ++t) {
      cell.put(p, data.at(t, b), Floats(std::size_t(data.width), value));
    }
  }
}

}  // namespace

std::size_t reserve_bytes(const RnnLayer& layer, const RnnData& x) {
  const std::size_t cell = std::size_t(3 * layer.gates() + 1) * layer.hidden;
  return sizeof(ReserveHeader) + std::size_t(x.steps) * x.batch * cell * sizeof(float);
}

void run_rnn_forward(const RnnCall& call) {
  const Cell cell(call);
  const RnnLayer& layer = call.layer;
  Floats nothing(reserve_bytes(layer, call.x_data) / sizeof(float) + 1);
  RnnCall kept = call;
  if (!call.reserve) kept.reserve = nothing.data();
  const Reserve reserve(kept);
  std::fill_n(reserve.gates, reserve.saved, 0.0f);
  for (int b = 0; b < call.x_data.batch; ++b) {
    StepValues v{cell.state(call.hx, b), cell.state(call.cx, b), nullptr, nullptr};
    const int length = call.x_data.lengths[std::size_t(b)];
    for (int t = 0; t < length; ++t) {
      const std::size_t at = std::size_t(t) * call.x_data.batch + b;
      v.gates = reserve.gates + at * reserve.gate_width;
      v.extra = reserve.extra + at * reserve.extra_width;
      step_forward(cell, layer, cell.row(call.x, call.x_data.at(t, b), layer.input), &v);
      cell.put(call.y, call.y_data.at(t, b), v.h);
    }
    // What the states behind no step are is not documented.
    const Floats undefined(v.h.size(), NAN);
    cell.put_state(call.hy, b, length ? v.h : undefined);
    cell.put_state(call.cy, b, length ? v.c : undefined);
  }
  fill_padding(cell, call.y_data, call.y, call.y_data.has_fill ? call.y_data.fill : NAN);
  *reserve.header = {ReserveHeader::kMagic, shape_hash(call), reserve.contents(),
                     ReserveHeader::forward};
}

void run_rnn_backward_data(const RnnCall& call) {
  check_reserve(call, ReserveHeader::forward);
  const Cell cell(call);
  const RnnLayer& layer = call.layer;
  const Reserve reserve(call);
  for (int b = 0; b < call.x_data.batch; ++b) {
    StepGradients s{
        cell.state(call.dhy, b), cell.state(call.dcy, b), nullptr, nullptr, nullptr, nullptr};
    const int length = call.x_data.lengths[std::size_t(b)];
    for (int t = length - 1; t >= 0; --t) {
      const std::size_t at = std::size_t(t) * call.x_data.batch + b;
      s.gates = reserve.gates + at * reserve.gate_width;
      s.extra = reserve.extra + at * reserve.extra_width;
      s.input = reserve.input_gradients + at * reserve.gate_width;
      s.recurrent = reserve.recurrent_gradients + at * reserve.gate_width;
      const Floats dy = cell.row(call.dy, call.y_data.at(t, b), layer.hidden);
      for (std::size_t k = 0; k < dy.size(); ++k) s.dh[k] += dy[k];
      const float* const earlier = s.extra - std::size_t(call.x_data.batch) * reserve.extra_width;
      const Floats c_before =
          t == 0 ? cell.state(call.cx, b) : Floats(earlier, earlier + layer.hidden);
      step_backward(cell, layer, cell.before(t, b), c_before, &s);
      Floats dx(std::size_t(layer.input));
      cell.input_transposed(s.input, &dx);
      cell.put(call.dx, call.x_data.at(t, b), dx);
    }
    cell.put_state(call.dhx, b, s.dh);
    cell.put_state(call.dcx, b, s.dc);
  }
  fill_padding(cell, call.x_data, call.dx, NAN);  // undefined
  reserve.header->phase = ReserveHeader::data;
}

void run_rnn_backward_weights(const RnnCall& call) {
  check_reserve(call, ReserveHeader::data);
  const Cell cell(call);
  const RnnLayer& layer = call.layer;
  const Reserve reserve(call);
  Floats sums(layer.weight_count());
  const int rows = layer.gates() * layer.hidden;
  for (int b = 0; b < call.x_data.batch; ++b) {
    for (int t = 0; t < call.x_data.lengths[std::size_t(b)]; ++t) {
      const std::size_t at = (std::size_t(t) * call.x_data.batch + b) * reserve.gate_width;
      auto add = [&](const float* gradients, const Floats& values, std::size_t matrix) {
        for (int row = 0; row < rows; ++row) {
          float* const to = &sums[matrix + std::size_t(row) * values.size()];
          const float factor = cell.operand(gradients[row]);
          for (std::size_t i = 0; i < values.size(); ++i) to[i] += factor * cell.operand(values[i]);
        }
      };
      const float* const input = reserve.input_gradients + at;
      const float* const recurrent = reserve.recurrent_gradients + at;
      add(input, cell.row(call.x, call.x_data.at(t, b), layer.input), layer.input_matrix(0));
      add(recurrent, cell.before(t, b), layer.recurrent_matrix(0));
      for (int row = 0; layer.biases() > 0 && row < rows; ++row) {
        sums[layer.bias_vector(false, 0) + std::size_t(row)] += input[row];
        if (layer.biases() == 2)
          sums[layer.bias_vector(true, 0) + std::size_t(row)] += recurrent[row];
      }
    }
  }
  for (std::size_t i = 0; i < sums.size(); ++i) {
    store(layer.type, call.dweights, i, load(layer.type, call.dweights, i) + sums[i]);
  }
}

}  // namespace hg
