// Which attributes a backend descriptor has, of which type and how many; which it cannot do
// without.
#pragma once
#include <vector>

#include "cudnn_handle.h"

namespace hg {

struct Rule {
  cudnnBackendDescriptorType_t of;
  cudnnBackendAttributeName_t name;
  cudnnBackendAttributeType_t type;
  std::int64_t most;
  bool required;
  // Of a reference: what it refers to. The graph's list of operations is checked by the graph.
  cudnnBackendDescriptorType_t refers = CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR;
};

std::vector<Rule> rules_of(cudnnBackendDescriptorType_t type);
std::size_t width_of(cudnnBackendAttributeType_t type);

}  // namespace hg
