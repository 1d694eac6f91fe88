// The memory that outlives a step: weights, gradients and optimizer slots of one replica.
//
// Dense parameters share one arena, laid out in the order in which backward completes their
// gradients (last node first), so that a bucket is a contiguous range. A row-sparse table has
// arenas of its own and a gradient segment of `capacity` rows.
#pragma once
#include <string>
#include <vector>

#include "device/device.h"
#include "tensor/layout.h"

namespace cohort {

struct TableState {
  i64 param = 0;            // index into Graph::params
  i64 capacity = 0;         // rows the gradient segment holds
  View weight, slot0, slot1, grad;   // [rows, dim] x3, [capacity, dim]
  View rows;                // i32 [capacity]: the table row of each segment row; the plan's
  i64 active = 0;           // segment rows in use in the step begun last
};

// Tensors in host memory, whatever the device.
struct HostTensors {
  std::vector<NamedView> views;
  std::vector<std::vector<u8>> bytes;   // what the views show
};

class ModelState {
 public:
  // `row_capacity[p]`: segment rows of sparse parameter p (0 for inference: no gradients at all).
  ModelState(Device& device, const Graph& graph, const std::vector<i64>& row_capacity, bool train);

  View weight(i64 param) const;     // device memory
  View grad(i64 param) const;       // dense: its range of the arena; sparse: the row segment
  const Layout& layout() const { return layout_; }   // dense parameters only
  i64 segment_of(i64 param) const { return segment_[static_cast<std::size_t>(param)]; }
  View params, grads, slot0, slot1;                  // whole dense arenas, real [layout().size()]
  View average;             // of the dense weights, laid out as params; null data: none is kept
  std::vector<TableState> tables;
  Decision* decision = nullptr;                      // device memory

  // Gives the dense weights an average, which training moves (optimizer.ema). Before initialise().
  void keep_average();
  void restart_average();   // from the weights as they are now; nothing where none is kept
  // For inference, in the same memory: weight() is the average where one is kept. Running
  // statistics have none: they stay those of training.
  ModelState averaged() const;

  // Initial weights, keyed by (seed, parameter name); slots zero.
  void initialise(u64 seed);
  Decision first_decision() const;   // no updates; float16: a large loss scale, to be found
  Decision read_decision() const;
  void write_decision(const Decision& value);
  // Everything that a checkpoint holds: weights "<param>", slots "optimizer/<k>/<param>", averages
  // average_name("<param>").
  std::vector<NamedView> tensors() const;
  HostTensors copy_to_host() const;
  void copy_from_host(const HostTensors& host);   // views in the order of tensors()

 private:
  View part(const View& arena, i64 param) const;
  Device& device_;
  const Graph& graph_;
  Layout layout_;
  std::vector<i64> segment_;   // per parameter: segment of the layout, -1 for sparse tables
  std::vector<i64> table_;     // per parameter: index into tables, -1 for dense ones
  bool train_ = false;
  bool averaged_ = false;      // weight() is the average
};

// Of the average of a parameter, where there is one: "optimizer/average/<param>".
std::string average_name(const std::string& param);

}  // namespace cohort
