#include "train/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "store/folder.h"
#include "train/safetensors.h"

namespace cohort {
namespace {

using nlohmann::json;

constexpr i64 kFormatVersion = 1;
const char* const kPrefix = "step-";
constexpr std::size_t kDigits = 12;
const char* const kTensors = "tensors.safetensors";
const char* const kState = "state.json";
constexpr int kStorage = static_cast<int>(Exit::storage);

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

// A folder that is to go is renamed first, so that a crash never leaves half a checkpoint.
void discard(Files& files, const std::string& path) {
  const std::string aside = path + ".tmp-removed";
  if (files.exists(aside)) files.remove(aside);
  files.rename(path, aside);
  files.sync_folder(parent_of(path));
  files.remove(aside);
}

// True where a valid checkpoint is there already; a damaged one is removed.
bool settle_existing(Files& files, const std::string& folder) {
  if (!files.exists(folder)) return false;
  try {
    load_checkpoint(files, folder);
    log::info("{} is there already and valid: kept", folder);
    return true;
  } catch (const Error& e) {
    log::warn("{} is damaged and is replaced: {}", folder, e.what());
  }
  discard(files, folder);
  return false;
}

void check_manifest(const json& manifest, const std::string& folder) {
  if (manifest.value("format", "") != "cohort-checkpoint") {
    fail(Exit::storage, "{}: manifest.json: not a checkpoint (format \"{}\")", folder,
         manifest.value("format", ""));
  }
  const i64 version = manifest.value("version", i64{0});
  if (version != kFormatVersion) {
    fail(Exit::storage, "{}: checkpoint version {}, this build reads version {}", folder, version,
         kFormatVersion);
  }
  for (const char* name : {kTensors, kState}) {
    const auto& entries = manifest.at("files");
    if (std::none_of(entries.begin(), entries.end(),
                     [&](const json& e) { return e.value("name", "") == name; })) {
      fail(Exit::storage, "{}: manifest.json does not list {}", folder, name);
    }
  }
}

void check_target(const LoadedCheckpoint& checkpoint, const NamedTensor& target) {
  const auto found = checkpoint.tensors.find(target.name);
  if (found == checkpoint.tensors.end()) {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : checkpoint.tensors) names.push_back(name);
    const std::string near = nearest(target.name, names);
    fail(Exit::storage, "{}: no tensor {}, which the model needs{}", checkpoint.path, target.name,
         near.empty() ? "" : " (nearest: " + near + ")");
  }
  const View& view = found->second.first;
  if (view.dtype != target.view.dtype || view.shape != target.view.shape) {
    fail(Exit::storage, "{}: tensor {}: the model has {} {}, the checkpoint {} {}",
         checkpoint.path, target.name, name_of(target.view.dtype), to_string(target.view.shape),
         name_of(view.dtype), to_string(view.shape));
  }
}

}  // namespace

std::string checkpoint_name(i64 step) { return fmt::format("{}{:0{}d}", kPrefix, step, kDigits); }

std::optional<i64> checkpoint_step(const std::string& name) {
  const std::size_t prefix = std::strlen(kPrefix);
  if (name.size() != prefix + kDigits || name.compare(0, prefix, kPrefix) != 0) return {};
  const std::string digits = name.substr(prefix);
  if (digits.find_first_not_of("0123456789") != std::string::npos) return {};
  return parse_i64(digits);
}

void save_checkpoint(Files& files, const std::string& folder,
                     const std::vector<NamedTensor>& tensors, const json& state,
                     const std::function<bool()>& allow) {
  if (settle_existing(files, folder)) return;
  FolderWriter writer(files, folder);
  writer.write(kTensors, [&](FileWriter& out) { write_safetensors(out, tensors); });
  writer.write(kState, [&](FileWriter& out) {
    const std::string text = state.dump(1) + "\n";
    out.write(text.data(), static_cast<i64>(text.size()));
  });
  writer.commit({{"format", "cohort-checkpoint"}, {"version", kFormatVersion}}, allow);
}

LoadedCheckpoint load_checkpoint(Files& files, const std::string& folder) {
  check_manifest(open_folder(files, folder, true, kStorage), folder);
  LoadedCheckpoint loaded;
  loaded.path = folder;
  const std::string state_path = folder + "/" + kState;
  try {
    loaded.state_json = std::make_shared<const json>(json::parse(files.read(state_path)));
  } catch (const json::exception& e) {
    fail(Exit::storage, "{}: {}", state_path, e.what());
  }
  const std::string tensors_path = folder + "/" + kTensors;
  loaded.tensors = parse_safetensors(files.read(tensors_path), tensors_path);
  return loaded;
}

std::vector<i64> checkpoint_steps(Files& files, const std::string& folder) {
  std::vector<i64> steps;
  if (!files.exists(folder)) return steps;
  for (const std::string& name : files.list(folder)) {
    if (const auto step = checkpoint_step(name)) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::optional<LoadedCheckpoint> load_newest(Files& files, const std::string& folder) {
  const std::vector<i64> steps = checkpoint_steps(files, folder);
  std::string last_reason;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    const std::string path = folder + "/" + checkpoint_name(*step);
    try {
      return load_checkpoint(files, path);
    } catch (const Error& e) {
      last_reason = e.what();
      log::warn("skipped the checkpoint {}: {}", path, last_reason);
    }
  }
  if (steps.empty()) return {};
  fail(Exit::storage,
       "{}: none of {} checkpoints is valid (last: {}); start again with --new, or bring back a "
       "copy",
       folder, steps.size(), last_reason);
}

void restore(const LoadedCheckpoint& checkpoint, const std::vector<NamedTensor>& targets,
             const std::string& optional_prefix) {
  std::map<std::string, const NamedTensor*> wanted;
  for (const NamedTensor& target : targets) {
    check_target(checkpoint, target);
    wanted[target.name] = &target;
  }
  for (const auto& [name, tensor] : checkpoint.tensors) {
    const bool may_lack = !optional_prefix.empty() && name.rfind(optional_prefix, 0) == 0;
    if (!may_lack && wanted.count(name) == 0) {
      fail(Exit::storage, "{}: tensor {} is not in the model: the config differs from the one "
           "that was trained", checkpoint.path, name);
    }
  }
  for (const NamedTensor& target : targets) {
    const auto& bytes = checkpoint.tensors.at(target.name).second;
    if (!bytes.empty()) std::memcpy(target.view.data, bytes.data(), bytes.size());
  }
}

void prune(Files& files, const std::string& folder, i64 keep_last, i64 best) {
  const std::vector<i64> steps = checkpoint_steps(files, folder);
  const i64 excess = static_cast<i64>(steps.size()) - std::max<i64>(keep_last, 1);
  for (i64 i = 0; i < excess; ++i) {
    const i64 step = steps[static_cast<std::size_t>(i)];
    if (step != best) discard(files, folder + "/" + checkpoint_name(step));
  }
}

void remove_leftovers(Files& files, const std::string& folder) {
  if (!files.exists(folder)) return;
  for (const std::string& name : files.list(folder)) {
    if (name.find(".tmp") != std::string::npos) files.remove(folder + "/" + name);
  }
}

}  // namespace cohort
