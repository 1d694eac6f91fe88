#include "train/session.h"

#include <algorithm>

#include "base/build.h"
#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "comm/affinity.h"
#include "comm/cuda_loader.h"
#include "model/build.h"
#include "model/fuse.h"
#include "store/files.h"
#include "train/warm_start.h"

namespace cohort {
namespace {

const std::vector<std::string> isa_order = {"baseline", "avx2", "avx512"};

// The lowest instruction set that every rank has, and no higher than the config allows.
std::string agree_isa(Communicator& ranks, const std::string& wanted) {
  const auto index = [](const std::string& isa) {
    const auto at = std::find(isa_order.begin(), isa_order.end(), isa);
    return at == isa_order.end() ? i64{0} : static_cast<i64>(at - isa_order.begin());
  };
  i64 level = index(best_cpu_isa());
  if (wanted != "auto") level = std::min(level, index(wanted));
  ranks.all_reduce(View{&level, DType::i64, {1}}, Reduce::min);
  return isa_order[static_cast<std::size_t>(level)];
}

std::unique_ptr<Device> make_cuda_device(Session& session) {
  const DeviceConfig& config = session.experiment.device;
  const CudaModule& module = cuda_module();
  CudaOptions options;
  options.index = session.gpu = choose_gpu(*session.world, module.gpus(), config.share_gpu);
  options.precision = config.precision;
  options.graph = config.graph;
  return module.make_device(options);
}

}  // namespace

WatchConfig watch_config(const TrainConfig& config) {
  WatchConfig watch;
  watch.step_timeout = static_cast<double>(config.step_timeout_s);
  watch.blame_every = static_cast<double>(config.blame_every_s);
  return watch;
}

std::unique_ptr<Device> make_session_cpu(World& world, const DeviceConfig& config) {
  CpuOptions options;
  const int share = fair_threads(world.communicator());
  options.threads = config.threads > 0 ? static_cast<int>(config.threads) : share;
  const std::string warning = crowded(options.threads, world.local_size());
  if (!warning.empty()) log::warn("{}", warning);
  options.isa = agree_isa(world.communicator(), config.isa);
  return make_cpu_device(options);
}

namespace {

std::unique_ptr<Device> make_device(Session& session) {
  const DeviceConfig& config = session.experiment.device;
  if (config.kind == "reference") return make_reference_device();
  if (config.kind == "cuda") return make_cuda_device(session);
  return make_session_cpu(*session.world, config);
}

std::string graph_text(const Graph& graph) {
  std::string text;
  for (const Node& node : graph.nodes) text += fmt::format("{} {};", node.name, kind_of(node.op));
  for (const Param& p : graph.params) text += fmt::format("{} {};", p.name, to_string(p.shape));
  return to_hex(hash_text(text));
}

void check_watched(const Session& session) {
  const std::string& watched = session.experiment.train.early_stop_metric;
  const std::vector<std::string> names = metric_spec(session).names;
  if (watched.empty() || std::find(names.begin(), names.end(), watched) != names.end()) return;
  fail(Exit::usage, "train.early_stop_metric: \"{}\" is not evaluated; expected one of metrics: {}",
       watched, join(names, ", "));
}

std::shared_ptr<ShardSet> open_shards(World& world, const std::string& folder) {
  const Reading reading(world.status(), folder);
  return ShardSet::open(folder);
}

}  // namespace

Session open_session(World& world, Experiment experiment) {
  Session s;
  s.world = &world;
  s.experiment = std::move(experiment);
  // First of all: another config would lead to other collectives.
  agree(world.communicator(), {{"build", build_id()}, {"config", s.experiment.text()}});
  world.watch(watch_config(s.experiment.train));
  const std::string& folder = s.experiment.data.shards;
  if (!real_files().exists(folder + "/manifest.json"))
    fail(Exit::data, "{}: no shard set there (data.shards): make it with `cohort shard RECIPE.yaml`, "
         "or name another folder", folder);
  if (const DataConfig& data = s.experiment.data; !data.stage_dir.empty()) {
    s.staged = stage_on_hosts(world, folder, data.stage_dir, data.stage_gib << 30);
    if (s.staged.copied) log::info("data.stage_dir: copied to {}", s.staged.path);
  }
  s.shards = open_shards(world, s.staged.path.empty() ? folder : s.staged.path);
  s.graph = std::make_unique<Graph>(
      fuse(build_graph(s.experiment.model, s.shards->fields(), s.shards->vocabularies())));
  freeze_parameters(*s.graph, s.experiment.init);
  check_optimizer(s.experiment.optimizer, *s.graph);
  check_metrics(metric_spec(s));
  check_watched(s);
  s.device = make_device(s);
  agree(world.communicator(), {{"graph", graph_text(*s.graph)},
                               {"shard set", s.shards->fingerprint()},
                               {"device", s.device->describe()}});
  return s;
}

PlanConfig training_plan(const Session& session) {
  const Experiment& e = session.experiment;
  const Communicator& ranks = session.ranks();
  PlanConfig p;
  p.global_batch = e.global_batch(ranks.size());
  const Range own = owned_positions(p.global_batch, ranks.rank(), ranks.size());
  const i64 rows = own.end - own.begin;
  p.micro_batches = std::min(e.train.accumulate, rows);
  p.rows = (rows + p.micro_batches - 1) / p.micro_batches;
  p.train = true;
  p.seed = e.train.seed;
  p.rank = ranks.rank();
  p.world = ranks.size();
  p.bucket_bytes = e.train.bucket_mib << 20;
  p.optimizer = e.optimizer;
  return p;
}

LoaderConfig training_rows(const Session& session) {
  const Experiment& e = session.experiment;
  const PlanConfig p = training_plan(session);
  LoaderConfig l;
  l.shards = session.shards;
  l.split = e.data.split;
  l.inputs = session.graph->inputs;
  l.lanes = {p.global_batch, e.data.lanes, e.data.window, e.train.seed, true};
  l.positions = owned_positions(p.global_batch, p.rank, p.world);
  l.capacity = p.rows * p.micro_batches;
  l.ahead = e.data.ahead;
  l.threads = static_cast<int>(e.data.threads);
  return l;
}

std::unique_ptr<Reducer> make_reducer(const Session& session, const std::vector<View>& memory) {
  Communicator& ranks = session.ranks();
  if (ranks.size() == 1) return nullptr;
  const DeviceConfig& config = session.experiment.device;
  if (config.kind != "cuda") return std::make_unique<CollectiveQueue>(ranks.duplicate());
  ReducerOptions options;
  options.memory = memory;
  options.bf16 = config.reduce == "bf16";
  options.share = config.share_gpu;
  return cuda_module().make_reducer(*session.device, ranks, options);
}

std::string placement(const Session& session, const Plan::Memory& planned) {
  std::string text = host_name();
  if (session.gpu >= 0) {
    const CudaModule& module = cuda_module();
    const Gpu gpu = module.gpus().at(static_cast<std::size_t>(session.gpu));
    text += fmt::format(", GPU {} {} ({}), {}, {} free", session.gpu, gpu.name, gpu.pci,
                        module.versions(), human_bytes(module.free_memory(*session.device)));
  }
  if (session.gpu < 0) text += ", " + session.device->describe();
  text += fmt::format(", plan {}", human_bytes(planned.params + planned.grads + planned.slots +
                                               planned.activations + planned.staging));
  if (planned.snapshot > 0)
    text += fmt::format(", checkpoint snapshot {} on the host", human_bytes(planned.snapshot));
  std::string table;
  const std::vector<std::string> all = session.ranks().all_gather(text);
  for (std::size_t r = 0; r < all.size(); ++r) table += fmt::format("\n  rank {}: {}", r, all[r]);
  return table;
}

MetricSpec metric_spec(const Session& session) {
  const Graph& graph = *session.graph;
  MetricSpec spec;
  spec.loss = std::get<Loss>(graph.nodes.back().op).kind;
  const Shape& shape = graph.values[static_cast<std::size_t>(graph.prediction)].shape;
  spec.width = shape.empty() || spec.loss == LossKind::bce ? 1 : shape.back();
  spec.names = session.experiment.metrics;
  if (spec.names.empty()) spec.names = known_metrics(spec.loss);
  return spec;
}

}  // namespace cohort
