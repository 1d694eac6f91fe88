// Optimizers: one launch over the dense arenas, one per row-sparse table. The formulas are those of
// the CPU device.
#include "device/cuda/common.cuh"
#include "device/cuda/kernels_train.h"

namespace cohort::cuda {
namespace {

// What is the same for all elements of a launch.
struct Factors {
  double rate, running_rows;
  float scale, step, root;   // of the gradient; adam: learning rate and root of v, corrected
  float take;                // of the new weights into their average
};

__device__ Factors factors_of(const UpdateRule& rule, bool sparse) {
  const Decision& d = *rule.decision;
  const double updates = static_cast<double>(d.updates), rate = *rule.learning_rate;
  Factors f{rate, d.running_rows, static_cast<float>(d.factor), static_cast<float>(rate), 1,
            static_cast<float>(1 - average_decay(rule.ema, d.updates))};
  if (rule.kind == UpdateKind::sgd) return f;
  const double first = 1 - pow(rule.beta1, updates), second = 1 - pow(rule.beta2, updates);
  // torch.optim.SparseAdam adds epsilon before the correction of the second moment.
  f.step = static_cast<float>(sparse ? rate * sqrt(second) / first : rate / first);
  if (!sparse) f.root = static_cast<float>(1 / sqrt(second));
  return f;
}

struct Element {
  float p, g, slot0, slot1;
};

// Constants of one segment in registers.
struct Stepper {
  UpdateKind kind;
  bool momentum_kept;
  float scale, step, root, take, momentum, beta1, beta2, epsilon, decay, shrink;

  __device__ Stepper(const UpdateRule& rule, const Factors& f, double decay_, bool has_slot)
      : kind(rule.kind),
        momentum_kept(has_slot),
        scale(f.scale),
        step(f.step),
        root(f.root),
        take(f.take),
        momentum(static_cast<float>(rule.momentum)),
        beta1(static_cast<float>(rule.beta1)),
        beta2(static_cast<float>(rule.beta2)),
        epsilon(static_cast<float>(rule.epsilon)),
        decay(static_cast<float>(kind == UpdateKind::adamw ? 0 : decay_)),
        shrink(static_cast<float>(kind == UpdateKind::adamw ? 1 - f.rate * decay_ : 1)) {}

  __device__ void operator()(Element& e) const {
    const float g = scale * e.g + decay * e.p;
    if (kind == UpdateKind::sgd) {
      const float change = momentum_kept ? g + momentum * e.slot0 : g;
      e.slot0 = change;
      e.p -= step * change;
      return;
    }
    e.slot0 = beta1 * e.slot0 + (1 - beta1) * g;
    e.slot1 = beta2 * e.slot1 + (1 - beta2) * g * g;
    e.p = e.p * shrink - step * e.slot0 / (sqrtf(e.slot1) * root + epsilon);
  }
};

// Elements [at, at + width) of the arenas, `g` of the gradient. Slots that are null are not kept.
template <int width>
__device__ void step_pack(const Stepper& stepper, const Arenas& a, i64 at, i64 g) {
  using Floats = Pack<float, width>;
  auto& params = *reinterpret_cast<Floats*>(a.params + at);
  Floats p = params, slot0{}, slot1{};
  const Floats grad = *reinterpret_cast<const Floats*>(a.grads + g);
  if (a.slot0) slot0 = *reinterpret_cast<const Floats*>(a.slot0 + at);
  if (a.slot1) slot1 = *reinterpret_cast<const Floats*>(a.slot1 + at);
  for (int k = 0; k < width; ++k) {
    Element e{p.lane[k], grad.lane[k], slot0.lane[k], slot1.lane[k]};
    stepper(e);
    p.lane[k] = e.p;
    slot0.lane[k] = e.slot0;
    slot1.lane[k] = e.slot1;
  }
  params = p;
  if (a.slot0) *reinterpret_cast<Floats*>(a.slot0 + at) = slot0;
  if (a.slot1) *reinterpret_cast<Floats*>(a.slot1 + at) = slot1;
  if (!a.average) return;
  auto& average = *reinterpret_cast<Floats*>(a.average + at);
  Floats mean = average;
  for (int k = 0; k < width; ++k) mean.lane[k] += stepper.take * (p.lane[k] - mean.lane[k]);
  average = mean;
}

__device__ void move_running(const Arenas& a, const UpdateChunk& chunk, double rows) {
  if (rows <= 0) return;
  for (i64 k = chunk.offset + threadIdx.x; k < chunk.offset + chunk.count; k += blockDim.x)
    a.params[k] = static_cast<float>((1 - chunk.decay) * a.params[k] +
                                     chunk.decay * a.grads[k] / rows);
}

__global__ void __launch_bounds__(block_threads)
    dense_kernel(UpdateRule rule, const UpdateChunk* chunks, i64 count, Arenas arenas) {
  STATIC_SHARED(Factors, factors, [1]);
  if (!rule.decision->apply) return;
  if (threadIdx.x == 0) factors[0] = factors_of(rule, false);
  __syncthreads();
  for (i64 c = blockIdx.x; c < count; c += gridDim.x) {
    const UpdateChunk chunk = chunks[c];
    if (chunk.running) {
      move_running(arenas, chunk, factors[0].running_rows);
      continue;
    }
    const Stepper stepper(rule, factors[0], chunk.decay, arenas.slot0 != nullptr);
    const i64 whole = chunk.offset + chunk.count / 4 * 4, end = chunk.offset + chunk.count;
    for (i64 at = chunk.offset + threadIdx.x * 4; at < whole; at += blockDim.x * 4)
      step_pack<4>(stepper, arenas, at, at);
    for (i64 at = whole + threadIdx.x; at < end; at += blockDim.x)
      step_pack<1>(stepper, arenas, at, at);
  }
}

template <int width>
__global__ void __launch_bounds__(block_threads)
    rows_kernel(UpdateRule rule, UpdateRows rows, Arenas arenas) {
  STATIC_SHARED(Factors, factors, [1]);
  if (!rule.decision->apply) return;
  if (threadIdx.x == 0) factors[0] = factors_of(rule, true);
  __syncthreads();
  const Stepper stepper(rule, factors[0], 0, false);
  const i64 packs = rows.dim / width;
  for (i64 i = first_index(); i < *rows.active * packs; i += index_step()) {
    const i64 k = quotient(i, packs), column = (i - k * packs) * width;
    step_pack<width>(stepper, arenas, rows.rows[k] * rows.dim + column, k * rows.dim + column);
  }
}

}  // namespace

void update_dense(cudaStream_t s, const UpdateRule& rule, const UpdateChunk* chunks, i64 count,
                  const Arenas& arenas) {
  launch(s, dense_kernel, blocks_for(count, 1), block_threads, 0, rule, chunks, count, arenas);
}

void update_rows(cudaStream_t s, const UpdateRule& rule, const UpdateRows& rows,
                 const Arenas& arenas) {
  const bool wide = rows.dim % 4 == 0;
  const auto kernel = wide ? rows_kernel<4> : rows_kernel<1>;
  const i64 packs = rows.capacity * rows.dim / (wide ? 4 : 1);
  launch(s, kernel, blocks_for(packs, block_threads), block_threads, 0, rule, rows, arenas);
}

}  // namespace cohort::cuda
