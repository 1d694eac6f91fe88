// cuDNN's backend API: descriptors are made, filled, finalized once and then only read. Attributes
// that the rules do not list are refused.
#include "cudnn_descriptors.h"

#include <algorithm>
#include <mutex>
#include <set>

#include "cudnn_graph.h"
#include "cudnn_rules.h"

namespace hg {
namespace {

std::mutex& alive_mutex() {
  static std::mutex mutex;
  return mutex;
}

std::set<const Descriptor*>& alive() {
  static std::set<const Descriptor*> set;
  return set;
}

Descriptor* of(cudnnBackendDescriptor_t handle) {
  auto* descriptor = static_cast<Descriptor*>(handle);
  if (!is_alive(descriptor)) die("cuDNN: a backend descriptor that is not alive");
  return descriptor;
}

cudnnStatus_t check_references(const Descriptor& d, const Rule& rule) {
  for (auto handle : d.all<cudnnBackendDescriptor_t>(rule.name)) {
    const auto* to = static_cast<const Descriptor*>(handle);
    if (!is_alive(to)) {
      return refuse(CUDNN_STATUS_BAD_PARAM, "attribute %d refers to no descriptor", rule.name);
    }
    if (!to->finalized) {
      return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
                    "attribute %d refers to a descriptor that is not finalized", rule.name);
    }
    if (rule.name != CUDNN_ATTR_OPERATIONGRAPH_OPS && to->type != rule.refers) {
      return refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE,
                    "attribute %d refers to a descriptor of type %d, expected %d", rule.name,
                    to->type, rule.refers);
    }
  }
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t check_tensor(const Descriptor& d) {
  Number type;
  const auto data_type = d.one<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE);
  if (!number_of(data_type, &type)) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "tensor of data type %d", data_type);
  }
  const auto dims = d.all<std::int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
  const auto strides = d.all<std::int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
  const auto alignment = d.one<std::int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
  auto positive = [](std::int64_t value) { return value > 0; };
  const bool good = dims.size() == strides.size() &&
                    std::all_of(dims.begin(), dims.end(), positive) &&
                    std::all_of(strides.begin(), strides.end(), positive);
  if (!good) return refuse(CUDNN_STATUS_BAD_PARAM, "tensor: dimensions or strides");
  const bool power = alignment > 0 && (alignment & (alignment - 1)) == 0;
  if (!power || alignment < std::int64_t(bytes_of(type))) {
    return refuse(CUDNN_STATUS_BAD_PARAM, "tensor: alignment of %ld bytes", long(alignment));
  }
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t check_pack(const Descriptor& d) {
  auto ids = d.all<std::int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  if (ids.size() != d.all<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).size()) {
    return refuse(CUDNN_STATUS_BAD_PARAM, "variant pack: ids and pointers differ in number");
  }
  std::sort(ids.begin(), ids.end());
  if (std::adjacent_find(ids.begin(), ids.end()) != ids.end()) {
    return refuse(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, "variant pack: an id twice");
  }
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t compile_living(const Descriptor* graph, Plan* plan) {
  if (!is_alive(graph)) return refuse(CUDNN_STATUS_BAD_PARAM, "the operation graph is not alive");
  return compile_graph(*graph, plan);
}

// An engine by its index: only one that runs the graph.
cudnnStatus_t finalize_engine(Descriptor& d) {
  d.graph = d.descriptor(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
  d.engine = int(d.one<std::int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX));
  Plan plan;
  if (const auto status = compile_living(d.graph, &plan)) return status;
  const std::vector<Engine> engines = engines_for(plan);
  if (std::find(engines.begin(), engines.end(), Engine(d.engine)) == engines.end()) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED, "engine %d does not run this graph", d.engine);
  }
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_configuration(Descriptor& d) {
  const Descriptor& engine = *d.descriptor(CUDNN_ATTR_ENGINECFG_ENGINE);
  d.engine = engine.engine;
  d.graph = engine.graph;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_plan(Descriptor& d) {
  const Descriptor& config = *d.descriptor(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
  auto plan = std::make_shared<Plan>();
  if (const auto status = compile_living(config.graph, plan.get())) return status;
  plan->engine = Engine(config.engine);
  plan->sources.push_back(config.graph);
  plan->sources.push_back(&config);
  d.plan = std::move(plan);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize(Descriptor& d) {
  for (const Rule& rule : rules_of(d.type)) {
    if (rule.required && !d.has(rule.name)) {
      return refuse(CUDNN_STATUS_BAD_PARAM, "descriptor of type %d lacks attribute %d", d.type,
                    rule.name);
    }
    if (rule.type != CUDNN_TYPE_BACKEND_DESCRIPTOR) continue;
    if (const auto status = check_references(d, rule)) return status;
  }
  Plan plan;
  switch (d.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
      return check_tensor(d);
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
      return check_pack(d);
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
      return compile_living(d.descriptor(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH), &plan);
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
      return finalize_engine(d);
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR:
      return finalize_configuration(d);
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
      return finalize_plan(d);
    default:
      return CUDNN_STATUS_SUCCESS;
  }
}

// What the library fills into descriptors that the caller made.
cudnnStatus_t fill(cudnnBackendDescriptor_t handle, cudnnBackendDescriptorType_t type, int engine,
                   const Descriptor* graph) {
  Descriptor& d = *of(handle);
  if (d.type != type || d.finalized) {
    return refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "descriptor of type %d to fill, not %d",
                  type, d.type);
  }
  d.engine = engine;
  d.graph = graph;
  d.finalized = true;
  return CUDNN_STATUS_SUCCESS;
}

struct Query {
  std::int64_t requested;
  std::int64_t* count;
  void* out;

  template <class T>
  cudnnStatus_t answer(const std::vector<T>& values) const {
    const auto given = std::int64_t(values.size());
    if (count) *count = out ? std::min(requested, given) : given;
    const auto copied = std::size_t(std::min(requested, given));
    if (out && copied) std::memcpy(out, values.data(), copied * sizeof(T));
    return CUDNN_STATUS_SUCCESS;
  }
};

cudnnStatus_t heuristics_results(const Descriptor& d, const Query& query) {
  const Descriptor* const graph = d.descriptor(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
  Plan plan;
  if (const auto status = compile_living(graph, &plan)) return status;
  const std::vector<Engine> engines = engines_for(plan);
  const auto given = std::int64_t(engines.size());
  if (query.count) *query.count = query.out ? std::min(query.requested, given) : given;
  auto* const configs = static_cast<cudnnBackendDescriptor_t*>(query.out);
  for (std::int64_t i = 0; configs && i < std::min(query.requested, given); ++i) {
    const auto status =
        fill(configs[i], CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, int(engines[std::size_t(i)]), graph);
    if (status) return status;
  }
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t get(const Descriptor& d, cudnnBackendAttributeName_t name,
                  cudnnBackendAttributeType_t type, const Query& query) {
  switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
      if (d.type != CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR || type != CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        break;
      }
      return heuristics_results(d, query);
    case CUDNN_ATTR_ENGINECFG_ENGINE:
      if (d.type != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR || query.requested != 1 || !query.out) break;
      if (query.count) *query.count = 1;
      return fill(*static_cast<cudnnBackendDescriptor_t*>(query.out),
                  CUDNN_BACKEND_ENGINE_DESCRIPTOR, d.engine, d.graph);
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
      if (d.type != CUDNN_BACKEND_ENGINE_DESCRIPTOR || type != CUDNN_TYPE_NUMERICAL_NOTE) break;
      return query.answer(notes_of(Engine(d.engine)));
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
      if (d.type != CUDNN_BACKEND_ENGINE_DESCRIPTOR || type != CUDNN_TYPE_BEHAVIOR_NOTE) break;
      return query.answer(std::vector<cudnnBackendBehaviorNote_t>{});
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
      if (d.type != CUDNN_BACKEND_ENGINE_DESCRIPTOR || type != CUDNN_TYPE_INT64) break;
      return query.answer(std::vector<std::int64_t>{d.engine});
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      if (d.type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || type != CUDNN_TYPE_INT64) break;
      return query.answer(std::vector<std::int64_t>{std::int64_t(kCudnnWorkspace)});
    default:
      return refuse(CUDNN_STATUS_NOT_SUPPORTED, "attribute %d is not read back here", name);
  }
  return refuse(CUDNN_STATUS_BAD_PARAM, "attribute %d asked in a wrong way", name);
}

cudnnStatus_t set(Descriptor& d, const Rule& rule, std::int64_t count, const void* from) {
  if (count < 1 || count > rule.most || !from) {
    return refuse(CUDNN_STATUS_BAD_PARAM, "attribute %d: %ld elements", rule.name, long(count));
  }
  const char* const begin = static_cast<const char*>(from);
  const std::size_t bytes = std::size_t(count) * width_of(rule.type);
  d.attributes[rule.name] = {rule.type, count, std::vector<char>(begin, begin + bytes)};
  return CUDNN_STATUS_SUCCESS;
}

}  // namespace

bool is_alive(const Descriptor* descriptor) {
  std::lock_guard lock(alive_mutex());
  return alive().count(descriptor) > 0;
}

}  // namespace hg

extern "C" {

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
  if (hg::rules_of(type).empty()) {
    return hg::refuse(CUDNN_STATUS_NOT_SUPPORTED, "descriptor of type %d", type);
  }
  auto* made = new hg::Descriptor{};
  made->type = type;
  {
    std::lock_guard lock(hg::alive_mutex());
    hg::alive().insert(made);
  }
  hg::count("cuDNN backend descriptor", 1);
  *descriptor = made;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  if (!descriptor) return CUDNN_STATUS_SUCCESS;
  hg::Descriptor* const d = hg::of(descriptor);
  {
    std::lock_guard lock(hg::alive_mutex());
    hg::alive().erase(d);
  }
  hg::count("cuDNN backend descriptor", -1);
  delete d;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void* from) {
  hg::Descriptor& d = *hg::of(descriptor);
  if (d.finalized) {
    return hg::refuse(CUDNN_STATUS_BAD_PARAM, "attribute %d set after finalize", name);
  }
  for (const hg::Rule& rule : hg::rules_of(d.type)) {
    if (rule.name != name) continue;
    if (rule.type != type) {
      return hg::refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "attribute %d: type %d, expected %d",
                        name, type, rule.type);
    }
    return hg::set(d, rule, count, from);
  }
  return hg::refuse(CUDNN_STATUS_NOT_SUPPORTED, "attribute %d of a descriptor of type %d", name,
                    d.type);
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t requested,
                                       int64_t* count, void* out) {
  const hg::Descriptor& d = *hg::of(descriptor);
  if (!d.finalized) {
    return hg::refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "attribute %d asked before finalize",
                      name);
  }
  return hg::get(d, name, type, {requested, count, out});
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  hg::Descriptor& d = *hg::of(descriptor);
  if (d.finalized) return hg::refuse(CUDNN_STATUS_BAD_PARAM, "finalized twice");
  if (const auto status = hg::finalize(d)) return status;
  d.finalized = true;
  return CUDNN_STATUS_SUCCESS;
}
}
