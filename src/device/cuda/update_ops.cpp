#include "device/cuda/kernels_train.h"
#include "device/cuda/ops.h"

namespace cohort::cuda {

namespace {

template <class Update>
UpdateRule rule_of(const Update& update) {
  UpdateRule rule;
  if (update.kind == OptimizerKind::sgd) rule.kind = UpdateKind::sgd;
  if (update.kind == OptimizerKind::adamw) rule.kind = UpdateKind::adamw;
  rule.momentum = update.momentum;
  rule.beta1 = update.beta1;
  rule.beta2 = update.beta2;
  rule.epsilon = update.epsilon;
  rule.learning_rate = &update.scalars->learning_rate;
  rule.decision = update.decision;
  return rule;
}

std::vector<UpdateChunk> chunks_of(const std::vector<OptimizerSegment>& segments) {
  std::vector<UpdateChunk> chunks;
  for (const OptimizerSegment& s : segments) {
    for (i64 first = 0; first < s.count; first += update_chunk) {
      const i64 count = std::min(update_chunk, s.count - first);
      chunks.push_back({s.offset + first, static_cast<i32>(count), s.running, s.decay});
    }
  }
  return chunks;
}

}  // namespace

std::unique_ptr<Kernel> dense_update(Context& x, const DenseUpdate& update) {
  const std::vector<UpdateChunk> chunks = chunks_of(update.segments);
  if (chunks.empty()) return nothing();
  const Arenas arenas{update.params.as<float>(), update.grads.as<float>(),
                      update.slot0.as<float>(), update.slot1.as<float>(),
                      update.average.as<float>()};
  UpdateRule rule = rule_of(update);
  rule.ema = update.ema;
  return kernel([s = x.stream, rule, table = upload(x, chunks),
                 count = static_cast<i64>(chunks.size()), arenas] {
    update_dense(s, rule, table, count, arenas);
  });
}

std::unique_ptr<Kernel> row_update(Context& x, const RowUpdate& update) {
  UpdateRows rows;
  rows.rows = update.rows.as<i32>();
  rows.active = update.active;
  rows.capacity = update.grad.shape[0];
  rows.dim = update.param.shape[1];
  Arenas arenas{update.param.as<float>(), update.grad.as<float>(), nullptr, nullptr, nullptr};
  if (update.kind != OptimizerKind::sgd) {
    arenas.slot0 = update.slot0.as<float>();
    arenas.slot1 = update.slot1.as<float>();
  }
  return kernel([s = x.stream, rule = rule_of(update), rows, arenas] {
    update_rows(s, rule, rows, arenas);
  });
}

std::unique_ptr<Kernel> squared_norm(Context& x, const NormCall& call) {
  constexpr i64 chunk = 1 << 14;
  std::vector<NormRange> ranges;
  for (const View& range : call.ranges) {
    const i64 n = range.count(), part = call.active_rows ? n : chunk;
    for (i64 first = 0; first < n; first += part)
      ranges.push_back({range.as<float>() + first, std::min(part, n - first)});
  }
  NormSums sums;
  sums.out = call.out.as<double>();
  sums.parts = static_cast<double*>(x.device->allocate(norm_parts * size_of(DType::f64)));
  sums.counter = counters(x, 1);
  NormInput in;
  in.ranges = upload(x, ranges);
  in.count = static_cast<i64>(ranges.size());
  in.active = call.active_rows;
  if (in.active) in.dim = call.ranges.at(0).shape.at(1);
  if (in.active) in.capacity = call.ranges.at(0).count();
  return kernel([s = x.stream, in, sums] { sum_squares(s, in, sums); });
}

std::unique_ptr<Kernel> decision(Context& x, const DecideCall& call) {
  return kernel([s = x.stream, call] { decide_on_device(s, call); });
}

}  // namespace cohort::cuda
