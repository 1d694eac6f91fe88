#include "comm/cuda_loader.h"

#include <dlfcn.h>

#include <filesystem>
#include <map>

#include "base/env.h"
#include "base/error.h"
#include "base/text.h"

namespace cohort {
namespace {

constexpr const char* standard_name = "libcohort_cuda.so";

std::filesystem::path program_folder() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? std::filesystem::path(".") : program.parent_path();
}

bool is_there(const std::filesystem::path& file) {
  std::error_code error;
  return std::filesystem::exists(file, error);
}

std::string module_file() {
  const auto folder = program_folder();
  if (const auto named = env("COHORT_CUDA_MODULE")) {
    return named->find('/') == std::string::npos ? (folder / *named).string() : *named;
  }
  const auto beside = folder / standard_name;
  const auto installed = folder.parent_path() / "lib" / standard_name;
  return is_there(installed) && !is_there(beside) ? installed.string() : beside.string();
}

}  // namespace

const CudaModule& load_cuda_module(const std::string& file) {
  if (!is_there(file))
    fail(Exit::usage, "{}: there is no module for GPUs: this program was built without CUDA; build it "
         "where nvcc, cuDNN and NCCL are found (docs/dependencies.md), or set device.kind: cpu", file);
  void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    fail(Exit::usage, "{}: the module for GPUs cannot be loaded: {}: install the CUDA runtime, "
         "cuBLASLt, cuDNN and NCCL of docs/dependencies.md, or name their folders in LD_LIBRARY_PATH",
         file, ::dlerror());
  using Entry = const CudaModule* (*)();
  const auto entry = reinterpret_cast<Entry>(::dlsym(library, "cohort_cuda_module"));
  if (!entry) fail(Exit::usage, "{}: no module for GPUs of this program: {}", file, ::dlerror());
  const CudaModule& module = *entry();
  if (module.layout != cuda_layout())
    fail(Exit::usage, "{}: the module for GPUs is of another build than this program: build and "
         "install both together", file);
  return module;
}

const CudaModule& cuda_module() {
  static const CudaModule& module = load_cuda_module(module_file());
  return module;
}

int choose_gpu(World& world, const std::vector<Gpu>& gpus, bool share) {
  const int visible = static_cast<int>(gpus.size());
  const int index = visible > 0 ? world.local_rank() % visible : -1;
  // A launcher may show each rank its own GPU alone: only the GPU's identity tells.
  const std::string mine = index < 0 ? "" : gpus[static_cast<std::size_t>(index)].pci;
  const auto all = world.communicator().all_gather(host_name() + "\n" + mine + "\n" +
                                                   std::to_string(visible));
  std::map<std::string, std::size_t> owners;
  std::map<std::string, int> ranks_of;
  for (const std::string& text : all) ++ranks_of[split(text, '\n')[0]];
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    const std::vector<std::string> words = split(all[rank], '\n');
    const std::string& host = words[0];
    if (words[1].empty())
      fail(Exit::usage, "rank {} on host {} has no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES "
           "there, or set device.kind: cpu", rank, host);
    const auto [owner, first] = owners.emplace(host + words[1], rank);
    if (first || share) continue;
    fail(Exit::usage, "rank {} on host {} has no GPU of its own: it sees {} GPUs, {} ranks are on this "
         "host, and rank {} has GPU {}: start one rank per GPU, or set device.share_gpu: true to test",
         rank, host, words[2], ranks_of[host], owner->second, words[1]);
  }
  return index;
}

}  // namespace cohort
