// A backend descriptor is a bag of typed attributes; a table in cudnn_descriptors.cpp says which.
#pragma once
#include <map>
#include <memory>
#include <vector>

#include "cudnn_handle.h"

namespace hg {

struct Plan;  // cudnn_graph.h

struct Attribute {
  cudnnBackendAttributeType_t type;
  std::int64_t count;
  std::vector<char> bytes;
};

struct Descriptor {
  cudnnBackendDescriptorType_t type;
  bool finalized = false;
  std::map<cudnnBackendAttributeName_t, Attribute> attributes;
  int engine = -1;                    // of engines and of engine configurations
  const Descriptor* graph = nullptr;  // likewise
  std::shared_ptr<const Plan> plan;   // of a finalized execution plan

  bool has(cudnnBackendAttributeName_t name) const { return attributes.count(name) > 0; }
  template <class T>
  std::vector<T> all(cudnnBackendAttributeName_t name) const {
    const auto found = attributes.find(name);
    if (found == attributes.end()) return {};
    std::vector<T> values(std::size_t(found->second.count));
    std::memcpy(values.data(), found->second.bytes.data(), found->second.bytes.size());
    return values;
  }
  template <class T>
  T one(cudnnBackendAttributeName_t name, T otherwise = {}) const {
    const auto found = attributes.find(name);
    if (found != attributes.end()) std::memcpy(&otherwise, found->second.bytes.data(), sizeof(T));
    return otherwise;
  }
  const Descriptor* descriptor(cudnnBackendAttributeName_t name) const {
    return static_cast<const Descriptor*>(one<cudnnBackendDescriptor_t>(name));
  }
};

// Those made and not destroyed: what an attribute refers to must live as long as it is used.
bool is_alive(const Descriptor* descriptor);

}  // namespace hg
