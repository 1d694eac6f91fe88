#include "model/op.h"

#include <iterator>

namespace cohort {

const char* kind_of(const Op& op) {
  static constexpr const char* names[] = {
      "ingest",     "dense",           "embedding",     "rnn",        "conv1d",  "conv2d",
      "max_pool2d", "avg_pool2d",      "global_avg_pool", "max_over_time", "batch_norm", "dropout",
      "activation", "concat",          "dot",           "add",        "flatten", "loss"};
  static_assert(std::size(names) == std::variant_size_v<Op>);
  if (const auto* cell = std::get_if<Recurrent>(&op); cell && cell->cell != Cell::tanh)
    return cell->cell == Cell::lstm ? "lstm" : "gru";
  return names[op.index()];
}

}  // namespace cohort
