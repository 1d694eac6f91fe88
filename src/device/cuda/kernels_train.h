// Launchers of what surrounds the layers: losses, the gradient's norm, the decision, the update.
#pragma once
#include "device/cuda/kernels.h"
#include "device/decide.h"

namespace cohort::cuda {

// loss.cu. Places are judged one by one: rows, or valid steps of them.
struct LossInput {
  RowCount rows;
  i64 row = 1;                   // elements of the prediction in a row
  i64 place = 1;                 // and in a place; a place has one target class or `place` numbers
  Steps steps, target_steps;     // of a row: the lesser counts
  i64 places_per_step = 1;
  DType type = DType::f32, target_type = DType::f32;
  const void* prediction = nullptr;
  const void* target = nullptr;  // i32 where it is a class; < 0: ignored
  const float* weight = nullptr;  // [rows], or null: all 1
};
// Sums of blocks before the last block adds them up; `counter` is a zero between launches.
struct LossSums {
  double* out = nullptr;         // [2], added to
  double* parts = nullptr;       // loss_parts doubles
  u32* counter = nullptr;
};
constexpr i64 loss_parts = 2 * 512;
i64 loss_places(const LossInput& in);
// normalisers, f32 [places, 2]: the largest logit, log of the sum of exponentials relative to it.
void loss_forward(cudaStream_t s, LossKind kind, const LossInput& in, float* normalisers,
                  const LossSums& sums);
void loss_backward(cudaStream_t s, LossKind kind, const LossInput& in, const float* normalisers,
                   const Decision* decision, const Gradient& d_in);

// norm.cu. out = sum of squares of all ranges; with `active` of the first active * dim elements of
// the only range.
struct NormRange {
  const float* data = nullptr;
  i64 count = 0;
};
struct NormInput {
  const NormRange* ranges = nullptr;
  i64 count = 0;
  const i64* active = nullptr;
  i64 dim = 1, capacity = 0;     // of the only range: elements of a row, of all rows
};
constexpr i64 norm_parts = 512;
struct NormSums {
  double* out = nullptr;
  double* parts = nullptr;       // norm_parts doubles
  u32* counter = nullptr;
};
void sum_squares(cudaStream_t s, const NormInput& in, const NormSums& sums);
void decide_on_device(cudaStream_t s, const DecideCall& call);

// update.cu
enum class UpdateKind : u8 { sgd, adam, adamw };
struct UpdateRule {
  UpdateKind kind = UpdateKind::adam;
  double momentum = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double ema = 0;                // of the average of the weights, where one is kept
  const double* learning_rate = nullptr;
  const Decision* decision = nullptr;
};
// A part of the arenas that one block treats.
constexpr i64 update_chunk = 4096;
struct UpdateChunk {
  i64 offset = 0;
  i32 count = 0;
  i32 running = 0;
  double decay = 0;              // of running statistics: their momentum
};
struct Arenas {
  float* params = nullptr;
  const float* grads = nullptr;
  float* slot0 = nullptr;
  float* slot1 = nullptr;
  float* average = nullptr;      // of the weights; null: none is kept
};
void update_dense(cudaStream_t s, const UpdateRule& rule, const UpdateChunk* chunks, i64 count,
                  const Arenas& arenas);
// Row k of the gradient belongs to row rows[k] of the other arrays, k < *active.
struct UpdateRows {
  const i32* rows = nullptr;
  const i64* active = nullptr;
  i64 capacity = 0, dim = 1;
};
void update_rows(cudaStream_t s, const UpdateRule& rule, const UpdateRows& rows,
                 const Arenas& arenas);

}  // namespace cohort::cuda
