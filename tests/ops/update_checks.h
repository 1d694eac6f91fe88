// Optimizer updates and gradient norms against formulas written out in float64: a suite that a test
// program instantiates for its devices.
#pragma once
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <functional>
#include <limits>

#include "base/rng.h"
#include "device/device.h"

namespace cohort::test {
namespace {

using Numbers = std::vector<double>;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

struct DeviceChoice {
  std::string name;
  std::function<std::unique_ptr<Device>()> make;
  double near = 2e-6;   // its rounding
};
inline void PrintTo(const DeviceChoice& choice, std::ostream* out) { *out << choice.name; }

// A device with typed arrays.
class Updates : public testing::TestWithParam<DeviceChoice> {
 protected:
  std::unique_ptr<Device> device = GetParam().make();
  double near = GetParam().near;

  View upload(const Numbers& values, Shape shape = {}) {
    if (shape.empty()) shape = {static_cast<i64>(values.size())};
    View view{nullptr, device->real(), shape};
    view.data = device->allocate(view.bytes());
    const std::vector<float> narrow(values.begin(), values.end());
    const bool is_narrow = view.dtype == DType::f32;
    device->copy_in(view.data, is_narrow ? static_cast<const void*>(narrow.data()) : values.data(),
                    view.bytes());
    return view;
  }
  Numbers download(const View& view) {
    std::vector<char> raw(static_cast<std::size_t>(view.bytes()));
    device->copy_out(raw.data(), view.data, view.bytes());
    return to_doubles(view.dtype, raw.data(), view.count());
  }
  void expect_all(const View& view, const Numbers& wanted, const char* what) {
    ASSERT_EQ(view.count(), static_cast<i64>(wanted.size()));
    const Numbers got = download(view);
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double want = wanted[i];
      EXPECT_NEAR(got[i], want, near * std::max(1.0, std::abs(want))) << what << " " << i;
    }
  }
};

// Exact in float32, so that both devices start from the same numbers.
Numbers numbers(const char* name, i64 n) {
  Stream stream(mix_key(name_key(name), 5));
  Numbers values;
  for (i64 i = 0; i < n; ++i) values.push_back(static_cast<float>(stream.normal()));
  return values;
}

struct State {
  Numbers p, m, v;
};

template <class T>
T* in_device(Device& device, const T& value) {
  void* data = device.allocate(sizeof(T));
  device.copy_in(data, &value, sizeof(T));
  return static_cast<T*>(data);
}

constexpr double rate = 0.125, scale = 0.5 * 0.25;  // clip * inverse_weight

// What a step of `count` applied before it tells the optimizer, in the device's memory.
template <class Update>
void bind_step(Device& device, Update& update, i64 count, double running_rows = 8,
               bool apply = true) {
  Scalars scalars;
  scalars.learning_rate = rate;
  Decision decision;
  decision.factor = scale;
  decision.apply = apply;
  decision.updates = count + 1;
  decision.running_rows = running_rows;
  update.scalars = in_device(device, scalars);
  update.decision = in_device(device, decision);
}

// Arena: [0, 37) decays, 3 of padding, [40, 61) does not decay, [64, 67) running statistics.
constexpr i64 arena = 70;
const std::vector<OptimizerSegment> segments = {
    {0, 37, 0.03, false}, {40, 21, 0, false}, {64, 3, 0.1, true}};

template <class Rule>
void each_trained(Rule rule) {
  for (std::size_t i = 0; i < 37; ++i) rule(i, 0.03);
  for (std::size_t i = 40; i < 61; ++i) rule(i, 0.0);
}

TEST_P(Updates, SgdWithMomentumAndDecayForThreeSteps) {
  State s{numbers("p", arena), Numbers(arena, 0), {}};
  DenseUpdate update;
  update.kind = OptimizerKind::sgd;
  update.momentum = 0.9;
  update.segments = segments;
  update.params = upload(s.p), update.slot0 = upload(s.m);
  for (i64 count = 0; count < 3; ++count) {
    const Numbers g = numbers(count == 1 ? "g1" : "g", arena);
    update.grads = upload(g);
    bind_step(*device, update, count);
    device->compile(update)->run();
    each_trained([&](std::size_t i, double decay) {
      s.m[i] = 0.9 * s.m[i] + scale * g[i] + decay * s.p[i];
      s.p[i] -= rate * s.m[i];
    });
    for (std::size_t i = 64; i < 67; ++i) s.p[i] = 0.9 * s.p[i] + 0.1 * g[i] / 8;
    expect_all(update.params, s.p, "p");
    expect_all(update.slot0, s.m, "velocity");
  }
}

void adam_step(State& s, const Numbers& g, double step, bool decoupled) {
  each_trained([&](std::size_t i, double decay) {
    double gradient = scale * g[i];
    if (decoupled)
      s.p[i] *= 1 - rate * decay;
    else
      gradient += decay * s.p[i];
    s.m[i] = 0.8 * s.m[i] + 0.2 * gradient;
    s.v[i] = 0.95 * s.v[i] + 0.05 * gradient * gradient;
    const double m_hat = s.m[i] / (1 - std::pow(0.8, step));
    const double v_hat = s.v[i] / (1 - std::pow(0.95, step));
    s.p[i] -= rate * m_hat / (std::sqrt(v_hat) + 1e-3);
  });
}

TEST_P(Updates, AdamAndAdamwForThreeSteps) {
  for (const bool decoupled : {false, true}) {
    State s{numbers("p", arena), Numbers(arena, 0), Numbers(arena, 0)};
    DenseUpdate update;
    update.kind = decoupled ? OptimizerKind::adamw : OptimizerKind::adam;
    update.beta1 = 0.8, update.beta2 = 0.95, update.epsilon = 1e-3;
    update.segments = segments;
    update.params = upload(s.p), update.slot0 = upload(s.m), update.slot1 = upload(s.v);
    const double rows = 0;  // nothing was seen: running statistics stay
    for (i64 count = 0; count < 3; ++count) {
      const Numbers g = numbers(count == 1 ? "g1" : "g", arena);
      update.grads = upload(g);
      bind_step(*device, update, count, rows);
      device->compile(update)->run();
      adam_step(s, g, static_cast<double>(count + 1), decoupled);
      expect_all(update.params, s.p, decoupled ? "adamw p" : "adam p");
      expect_all(update.slot0, s.m, "first moment");
      expect_all(update.slot1, s.v, "second moment");
    }
  }
}

// Of every rule: the average follows what the rule made of the weights, a skipped step leaves it, and
// so do running statistics and padding. Updates 1 to 4 warm up, 30 has the decay of the config.
TEST_P(Updates, AverageFollowsTheWeights) {
  for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::adam, OptimizerKind::adamw}) {
    SCOPED_TRACE(static_cast<int>(kind));
    State s{numbers("p", arena), Numbers(arena, 0), Numbers(arena, 0)};
    Numbers average = numbers("average", arena);
    DenseUpdate update;
    update.kind = kind;
    update.momentum = 0.9;
    update.beta1 = 0.8, update.beta2 = 0.95, update.epsilon = 1e-3;
    update.ema = 0.75;
    update.segments = segments;
    update.params = upload(s.p), update.slot0 = upload(s.m), update.slot1 = upload(s.v);
    update.average = upload(average);
    for (const i64 count : {0, 1, 2, 3, 29}) {
      const Numbers g = numbers(count == 1 ? "g1" : "g", arena);
      const bool apply = count != 2;
      update.grads = upload(g);
      bind_step(*device, update, count, 8, apply);
      device->compile(update)->run();
      const double t = static_cast<double>(count + 1);
      if (apply && kind == OptimizerKind::sgd) {
        each_trained([&](std::size_t i, double decay) {
          s.m[i] = 0.9 * s.m[i] + scale * g[i] + decay * s.p[i];
          s.p[i] -= rate * s.m[i];
        });
      } else if (apply) {
        adam_step(s, g, t, kind == OptimizerKind::adamw);
      }
      const double keep = count == 29 ? 0.75 : (1 + t) / (10 + t);
      if (apply)
        each_trained([&](std::size_t i, double) {
          average[i] = keep * average[i] + (1 - keep) * s.p[i];
        });
      expect_all(update.average, average, "average");
    }
  }
}

TEST_P(Updates, WeightsMoveAlikeWithAndWithoutAnAverage) {
  std::vector<Numbers> ends;
  for (const bool averaged : {false, true}) {
    DenseUpdate update;
    update.segments = segments;
    update.params = upload(numbers("p", arena)), update.grads = upload(numbers("g", arena));
    update.slot0 = upload(Numbers(arena, 0)), update.slot1 = upload(Numbers(arena, 0));
    if (averaged) update.average = upload(Numbers(arena, 0)), update.ema = 0.999;
    for (i64 count = 0; count < 3; ++count) {
      bind_step(*device, update, count);
      device->compile(update)->run();
    }
    ends.push_back(download(update.params));
  }
  EXPECT_EQ(ends[0], ends[1]);
}

// Segment rows 0..2 update table rows 6, 0 and 3; a fourth, unused, holds NaN.
constexpr i64 dim = 5;
const std::vector<std::size_t> touched = {6, 0, 3};

struct RowFixture {
  State s{numbers("table", 7 * dim), numbers("m", 7 * dim), numbers("v", 7 * dim)};
  Numbers g = numbers("rows", 4 * dim);
  RowFixture() {
    for (double& v : s.v) v = v * v;
    for (std::size_t k = 3 * dim; k < 4 * dim; ++k) g[k] = nan;
  }
  template <class Rule>
  void each_touched(Rule rule) {
    for (std::size_t k = 0; k < touched.size(); ++k)
      for (std::size_t d = 0; d < dim; ++d) rule(touched[k] * dim + d, scale * g[k * dim + d]);
  }
};

TEST_P(Updates, RowsFollowSparseAdam) {
  RowFixture f;
  RowUpdate update;
  update.beta1 = 0.8, update.beta2 = 0.95, update.epsilon = 1e-2;
  update.param = upload(f.s.p, {7, dim}), update.grad = upload(f.g, {4, dim});
  update.slot0 = upload(f.s.m, {7, dim}), update.slot1 = upload(f.s.v, {7, dim});
  update.rows = View{in_device(*device, std::array<i32, 4>{6, 0, 3, -1}), DType::i32, {4}};
  const i64 active = 3, count = 1;
  update.active = in_device(*device, active);
  bind_step(*device, update, count);
  device->compile(update)->run();
  // torch.optim.SparseAdam: epsilon joins the root before its bias correction. Step 2.
  const double step_size = rate * std::sqrt(1 - 0.95 * 0.95) / (1 - 0.8 * 0.8);
  f.each_touched([&](std::size_t i, double g) {
    f.s.m[i] += 0.2 * (g - f.s.m[i]);
    f.s.v[i] += 0.05 * (g * g - f.s.v[i]);
    f.s.p[i] -= step_size * f.s.m[i] / (std::sqrt(f.s.v[i]) + 1e-2);
  });
  expect_all(update.param, f.s.p, "p");
  expect_all(update.slot0, f.s.m, "first moment");
  expect_all(update.slot1, f.s.v, "second moment");
}

TEST_P(Updates, RowsFollowPlainSgd) {
  RowFixture f;
  RowUpdate update;
  update.kind = OptimizerKind::sgd;
  update.param = upload(f.s.p, {7, dim}), update.grad = upload(f.g, {4, dim});
  update.rows = View{in_device(*device, std::array<i32, 4>{6, 0, 3, -1}), DType::i32, {4}};
  const i64 active = 3, count = 0;
  update.active = in_device(*device, active);
  bind_step(*device, update, count);
  device->compile(update)->run();
  f.each_touched([&](std::size_t i, double g) { f.s.p[i] -= rate * g; });
  expect_all(update.param, f.s.p, "p");
}

TEST_P(Updates, NormSumsTheRangesAlone) {
  Numbers g = numbers("norm", 4001);
  for (std::size_t i = 2900; i < 2912; ++i) g[i] = nan;  // padding between the ranges
  const View whole = upload(g);
  const auto range = [&](i64 first, i64 n) {
    auto* data = static_cast<char*>(whole.data) + first * size_of(whole.dtype);
    return View{data, whole.dtype, {n}};
  };
  double want = 0;
  for (std::size_t i = 0; i < g.size(); ++i)
    if (i < 2900 || i >= 2912) want += g[i] * g[i];
  NormCall call;
  call.ranges = {range(0, 2900), range(2912, 4001 - 2912), range(0, 0)};
  call.out = View{in_device(*device, -1.0), DType::f64, {1}};
  device->compile(call)->run();
  EXPECT_NEAR(download(call.out)[0], want, 1e-12 * want);
}

TEST_P(Updates, NormOfActiveRowsLeavesTheRest) {
  Numbers g = numbers("rows", 9 * dim);
  double want = 0;
  for (std::size_t i = 0; i < g.size(); ++i) {
    if (i < 4 * dim)
      want += g[i] * g[i];
    else
      g[i] = nan;
  }
  i64* active = in_device(*device, i64{4});
  NormCall call;
  call.ranges = {upload(g, {9, dim})};
  call.active_rows = active;
  call.out = View{in_device(*device, -1.0), DType::f64, {1}};
  const auto kernel = device->compile(call);
  kernel->run();
  EXPECT_NEAR(download(call.out)[0], want, 1e-12 * want);
  const i64 none = 0;
  device->copy_in(active, &none, 8);
  kernel->run();
  EXPECT_EQ(download(call.out)[0], 0);
}

}  // namespace
}  // namespace cohort::test
