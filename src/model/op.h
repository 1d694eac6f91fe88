// Ops as plain structs. Activations are channels-last: images [H, W, C], sequences [T, F]; every
// value has an implicit leading dimension of rows. Weights are plain arrays, output first, channels
// last: dense [out, in]; conv1d [out, width, in]; conv2d [out, kh, kw, in / groups]; recurrent
// weight_ih [gates*H, F], weight_hh [gates*H, H], bias [gates*H] (LSTM gates in the order i, f, g, o;
// GRU gates r, z, n, and four biases: see Recurrent).
//
// Ragged sequences are padded to [T, ...] with a length per row. A sequence op defines its result
// by the valid steps alone, so that T never changes an answer:
//   embedding   id -1 gives zeros and no gradient
//   recurrent   last: state after the last valid step (length 0: zeros); every: zeros after it
//   conv1d      valid outputs: max(1, length - width + 1); inputs at t >= length count as zero
//   max_over_time  over the valid steps; length 0 gives zeros; the first of equal maxima wins
//   losses on sequences  over valid steps whose target is not ignored
// Max pools send the gradient to the first maximum in scan order. ReLU's gradient at 0 is 0.
#pragma once
#include <string>
#include <variant>
#include <vector>

#include "tensor/tensor.h"

namespace cohort {

enum class Activation : u8 { none, relu, tanh, sigmoid };

// Raw field -> real values: (x * scale - mean[c]) * inv_std[c], c over the last dimension; empty
// mean: only the scale. Steps beyond the length of a ragged input become 0. Ids pass unchanged.
struct Ingest { double scale = 1; std::vector<double> mean, inv_std; };
struct Dense { i64 units = 1; bool bias = true; Activation activation = Activation::none; };
struct Embedding { i64 rows = 0, dim = 0; bool sparse = true; };   // params: weight [rows, dim]
enum class Cell : u8 { tanh, lstm, gru };
inline i64 gates_of(Cell cell) { return cell == Cell::lstm ? 4 : cell == Cell::gru ? 3 : 1; }
inline i64 biases_of(Cell cell) { return cell == Cell::gru ? 4 : gates_of(cell); }
// h_t = tanh(W_hh h_{t-1} + W_ih x_t + b); LSTM: c = f*c + i*g, h = o*tanh(c) (Hochreiter 1997,
// forget gate by Gers 2000, no peepholes). GRU as PyTorch and cuDNN have it (Cho et al. 2014 with
// the reset after the product): r, z = sigmoid(W x + W h + b), n = tanh(W_in x + b_in + r * (W_hn h +
// b_hn)), h = (1 - z) * n + z * h. Its bias [4*H] is b_r, b_z, b_in, b_hn: elsewhere b_r and b_z are
// the sums of two, so PyTorch's bias_ih is [b_r, b_z, b_in] with bias_hh [0, 0, b_hn].
struct Recurrent { Cell cell = Cell::tanh; i64 units = 1; bool every_step = false; };
struct Conv1d { i64 filters = 1, width = 1; Activation activation = Activation::none;
                bool max_over_time = false; };                     // fused pool: output [filters]
// Filter f reads the channels of group f / (filters / groups) alone: groups of consecutive filters
// and channels (1: all). Zeros surround the image, `padding` wide. Without bias: one parameter.
struct Conv2d { i64 filters = 1, kernel = 1, stride = 1, padding = 0;
                Activation activation = Activation::none;
                i64 pool = 0;                                      // fused max pool pool x pool, 0: none
                i64 groups = 1;
                bool bias = true; };
// Windows start at -padding and are cut at the image's edge; sizes are rounded down. padding is at
// most size / 2, so that no window is empty.
struct MaxPool2d { i64 size = 2, stride = 2, padding = 0; };
struct AvgPool2d { i64 size = 2, stride = 2; };                    // floor, no padding: mean of size^2
struct GlobalAvgPool {};                                           // [H, W, C] -> [C]
struct MaxOverTime {};
// Per channel (last dimension), over rows and the other dimensions of a group of batch positions:
// group of position p = p * groups / global_batch. Biased variance to normalise, unbiased in the
// running one (Ioffe & Szegedy 2015). params: weight, bias [C]; running mean, variance [C].
// The activation comes after it; its slope is taken from the result.
struct BatchNorm { double epsilon = 1e-5, momentum = 0.1; i64 groups = 0;
                   Activation activation = Activation::none; };
struct Dropout { double rate = 0.5; };    // keyed by (seed, epoch, step-independent row id, layer)
struct Activate { Activation activation = Activation::relu; };
struct Concat {};                         // of the last dimension
struct Dot {};                            // two inputs [F], [F] -> [1]: their inner product
// The sum of two or more values of one shape (a value may come twice), then the activation.
struct Add { Activation activation = Activation::none; };
struct Flatten {};                        // [a, b, c] -> [a*b*c]
enum class LossKind : u8 { mse, bce, cross_entropy };
// in: prediction, target. mse: sum over elements of (p-t)^2 / elements of a row; bce: logits [1];
// cross_entropy: logits [.., C] and i32 targets [..], negative = ignored. Sums of weight * value.
struct Loss { LossKind kind = LossKind::mse; };

using Op = std::variant<Ingest, Dense, Embedding, Recurrent, Conv1d, Conv2d, MaxPool2d, AvgPool2d,
                        GlobalAvgPool, MaxOverTime, BatchNorm, Dropout, Activate, Concat, Dot, Add,
                        Flatten, Loss>;
const char* kind_of(const Op& op);        // "dense", as in the YAML

}  // namespace cohort
