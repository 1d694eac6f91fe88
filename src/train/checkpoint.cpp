#include "train/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "export/safetensors.h"
#include "store/folder.h"

namespace cohort {
namespace {

using nlohmann::json;

constexpr i64 kFormatVersion = 2;
const char* const kPrefix = "step-";
constexpr std::size_t kDigits = 12;
const char* const kTensors = "tensors.safetensors";   // of version 1
const char* const kState = "state.json";
constexpr int kStorage = static_cast<int>(Exit::storage);

std::string name_of_path(const std::string& path) {
  return path.substr(path.find_last_of('/') + 1);   // the whole path where there is no slash
}

// Where every row of every tensor lies.
json place_tensors(const std::vector<NamedTensor>& tensors, const std::vector<Slice>& slices) {
  json places = json::object();
  for (const NamedTensor& tensor : tensors) {
    places[tensor.name] = {{"dtype", safetensors_code(tensor.view.dtype)},
                           {"shape", tensor.view.shape},
                           {"pieces", json::array()}};
  }
  for (const Slice& slice : slices) {
    for (const Piece& piece : slice.pieces) {
      places[tensors[piece.tensor].name]["pieces"].push_back(
          {{"file", slice.file}, {"begin", piece.begin}, {"end", piece.end}});
    }
  }
  return places;
}

json checked_manifest(Files& files, const std::string& folder) {
  json manifest = open_folder(files, folder, false, kStorage);
  if (manifest.value("format", "") != "cohort-checkpoint") {
    fail(Exit::storage, "{}: manifest.json: not a checkpoint (format \"{}\")", folder,
         manifest.value("format", ""));
  }
  const i64 version = manifest.value("version", i64{0});
  if (version < 1 || version > kFormatVersion) {
    fail(Exit::storage, "{}: checkpoint version {}, this build reads versions 1 to {}", folder,
         version, kFormatVersion);
  }
  return manifest;
}

// True where a valid checkpoint of this attempt is there already: only what followed its rename had
// failed. Any other gives way when the new one is complete, one that cannot be read for a while too.
bool is_there(Files& files, const std::string& folder, const std::string& attempt) {
  if (!files.exists(folder)) return false;
  try {
    if (checked_manifest(files, folder).value("attempt", "") != attempt) {
      log::info("{} is of an earlier attempt, which went another way: it is replaced", folder);
      return false;
    }
    load_checkpoint(files, folder);
    log::info("{} is there already and valid: kept", folder);
    return true;
  } catch (const Error& e) {
    log::warn("{} is damaged and is replaced: {}", folder, e.what());
  }
  return false;
}

const json& listed(const json& manifest, const std::string& name, const std::string& folder) {
  for (const json& entry : manifest.at("files")) {
    if (entry.value("name", "") == name) return entry;
  }
  fail(Exit::storage, "{}: manifest.json does not list {}", folder, name);
}

// Puts the rows that one file holds into place.
void take_pieces(LoadedCheckpoint& loaded, const json& places, const std::string& file,
                 std::map<std::string, View> found) {
  const std::string path = loaded.path + "/" + file;
  for (const auto& [name, place] : places.items()) {
    for (const json& p : place.at("pieces")) {
      if (p.at("file") != file) continue;
      const Piece piece{0, p.at("begin").get<i64>(), p.at("end").get<i64>()};
      const View& whole = loaded.tensors.at(name).first;
      if (piece.begin < 0 || piece.end < piece.begin || piece.end > rows_of(whole))
        fail(Exit::storage, "{}: manifest.json: tensor {} has rows [{}, {}) of {}", loaded.path,
             name, piece.begin, piece.end, rows_of(whole));
      const NamedView to = view_of({{name, whole}}, piece);
      const auto from = found.find(name);
      if (from == found.end()) fail(Exit::storage, "{}: no tensor {}", path, name);
      if (from->second.shape != to.view.shape || from->second.dtype != whole.dtype)
        fail(Exit::storage, "{}: tensor {}: expected {} {}, got {} {}", path, name,
             name_of(whole.dtype), to_string(to.view.shape), name_of(from->second.dtype),
             to_string(from->second.shape));
      if (to.view.bytes() > 0)
        std::memcpy(to.view.data, from->second.data, static_cast<std::size_t>(to.view.bytes()));
      found.erase(from);
    }
  }
  if (!found.empty())
    fail(Exit::storage, "{}: tensor {} is not in the manifest", path, found.begin()->first);
}

// Room for every tensor; their pieces must be all of their rows, in order.
void make_room(LoadedCheckpoint& loaded, const json& places) {
  for (const auto& [name, place] : places.items()) {
    const std::string where = fmt::format("{}: manifest.json: tensor {}", loaded.path, name);
    auto& [view, bytes] = loaded.tensors[name];
    view.dtype = safetensors_type(place.at("dtype").get<std::string>(), where);
    view.shape = place.at("shape").get<Shape>();
    bytes.resize(static_cast<std::size_t>(view.bytes()));
    view.data = bytes.data();
    i64 at = 0;
    for (const json& piece : place.at("pieces")) {
      if (piece.at("begin") != at) fail(Exit::storage, "{}: no piece begins at row {}", where, at);
      at = piece.at("end").get<i64>();
    }
    if (at != rows_of(view))
      fail(Exit::storage, "{}: {} rows in pieces, expected {}", where, at, rows_of(view));
  }
}

void load_tensors(Files& files, const json& manifest, LoadedCheckpoint& loaded,
                  const std::function<void()>& read) {
  const std::string& folder = loaded.path;
  if (manifest.at("version") == 1) {
    const json& entry = listed(manifest, kTensors, folder);
    loaded.tensors = parse_safetensors(read_listed(files, folder, entry, kStorage),
                                       folder + "/" + kTensors);
    return;
  }
  const json& places = manifest.at("tensors");
  make_room(loaded, places);
  std::set<std::string> named;
  for (const json& place : places)
    for (const json& piece : place.at("pieces")) named.insert(piece.at("file").get<std::string>());
  for (const json& entry : manifest.at("files")) {
    const std::string file = entry.at("name").get<std::string>();
    if (file == kState) continue;
    std::string bytes = read_listed(files, folder, entry, kStorage);
    take_pieces(loaded, places, file, view_safetensors(bytes, folder + "/" + file));
    named.erase(file);
    if (read) read();
  }
  if (!named.empty()) listed(manifest, *named.begin(), folder);   // fails: names the file
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

void complete_checkpoint(Files& files, const std::string& temporary,
                         const CheckpointParts& parts) {
  FolderWriter writer(files, parts.folder, temporary);   // removes it unless it is committed
  const std::vector<Slice> slices =
      cut_slices(*parts.tensors, static_cast<i64>(parts.files.size()));
  for (const FileEntry& entry : parts.files) {
    const std::string path = temporary + "/" + entry.name;
    if (!files.exists(path) || files.size(path) != entry.bytes)
      fail(Exit::storage, "{}: another rank wrote {} bytes there that this rank does not see: do all "
           "hosts share this folder?", path, entry.bytes);
    writer.add(entry);
  }
  if (is_there(files, parts.folder, parts.attempt)) {
    files.sync_folder(parent_of(parts.folder));   // that may be what failed after the rename
    return;
  }
  writer.write(kState, [&](FileWriter& out) {
    out.write(parts.state.data(), static_cast<i64>(parts.state.size()));
  });
  writer.commit({{"format", "cohort-checkpoint"},
                 {"version", kFormatVersion},
                 {"step", checkpoint_step(name_of_path(parts.folder)).value_or(-1)},
                 {"time", static_cast<i64>(unix_time())},
                 {"attempt", parts.attempt},
                 {"good", parts.not_finite.empty()},
                 {"not_finite", parts.not_finite},
                 {"tensors", place_tensors(*parts.tensors, slices)}},
                parts.allow);
}

void save_checkpoint(Files& files, const std::string& folder,
                     const std::vector<NamedTensor>& tensors, const json& state,
                     const std::string& attempt, const std::function<bool()>& allow) {
  const std::string temporary = folder + ".tmp-alone";
  files.make_folder(parent_of(folder));
  files.make_folder_exclusive(temporary);
  const Slice slice = cut_slices(tensors, 1).at(0);
  CheckpointParts parts{folder, &tensors, {}, not_finite(tensors), state.dump(1) + "\n", attempt,
                        allow};
  parts.files.push_back(write_file(files, temporary, slice.file, [&](FileWriter& out) {
    write_safetensors(out, tensors);
  }));
  complete_checkpoint(files, temporary, parts);
}

LoadedCheckpoint load_checkpoint(Files& files, const std::string& folder,
                                 const std::function<void()>& read) {
  const json manifest = checked_manifest(files, folder);
  LoadedCheckpoint loaded;
  loaded.path = folder;
  try {
    loaded.state_json = std::make_shared<const json>(
        json::parse(read_listed(files, folder, listed(manifest, kState, folder), kStorage)));
    load_tensors(files, manifest, loaded, read);
  } catch (const json::exception& e) {
    fail(Exit::storage, "{}: {}", folder, e.what());
  } catch (const std::length_error& e) {   // of a shape
    fail(Exit::storage, "{}: manifest.json: {}", folder, e.what());
  }
  return loaded;
}

CheckpointFacts checkpoint_facts(Files& files, const std::string& folder) {
  const json manifest = checked_manifest(files, folder);
  CheckpointFacts facts;
  facts.step = checkpoint_step(name_of_path(folder)).value_or(-1);
  facts.version = manifest.at("version").get<i64>();
  facts.good = manifest.value("good", true);
  facts.time = manifest.value("time", 0.0);
  for (const json& entry : manifest.at("files")) {
    ++facts.files;
    facts.bytes += entry.at("bytes").get<i64>();
  }
  return facts;
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

std::optional<LoadedCheckpoint> load_newest(Files& files, const std::vector<std::string>& folders,
                                            const std::function<void()>& read) {
  std::vector<std::pair<i64, std::string>> all;
  for (const std::string& folder : folders) {
    for (const i64 step : checkpoint_steps(files, folder))
      all.emplace_back(step, folder + "/" + checkpoint_name(step));
  }
  // Of one step in two places, the first place is asked first.
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::string last_reason;
  for (const auto& [step, path] : all) {
    try {
      return load_checkpoint(files, path, read);
    } catch (const Error& e) {
      last_reason = e.what();
      log::warn("skipped the checkpoint {}: {}", path, last_reason);
    }
  }
  if (all.empty()) return {};
  fail(Exit::storage,
       "{}: none of {} checkpoints is valid (last: {}); start again with --new, or bring back a "
       "copy",
       join(folders, ", "), all.size(), last_reason);
}

std::optional<LoadedCheckpoint> load_newest(Files& files, const std::string& folder) {
  return load_newest(files, std::vector<std::string>{folder});
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

bool has_averages(const LoadedCheckpoint& checkpoint) {
  const auto first = checkpoint.tensors.lower_bound(average_name(""));
  return first != checkpoint.tensors.end() && first->first.starts_with(average_name(""));
}

void take_averages(const LoadedCheckpoint& checkpoint, const std::vector<NamedTensor>& targets) {
  for (const NamedTensor& target : targets) {
    const NamedTensor average{average_name(target.name), target.view};
    const auto found = checkpoint.tensors.find(average.name);
    if (found == checkpoint.tensors.end()) continue;
    check_target(checkpoint, average);
    const auto& bytes = found->second.second;
    if (!bytes.empty()) std::memcpy(target.view.data, bytes.data(), bytes.size());
  }
}

// It is renamed first, so that a crash never leaves half a checkpoint.
void remove_checkpoint(Files& files, const std::string& folder) {
  const std::string aside = folder + ".tmp-removed";
  if (files.exists(aside)) files.remove(aside);
  files.rename(folder, aside);
  files.sync_folder(parent_of(folder));
  files.remove(aside);
}

// One that gave way is `step-<12 digits>.tmp-<...>.old` until the new one has its name.
void bring_back(Files& files, const std::string& folder) {
  if (!files.exists(folder)) return;
  for (const std::string& name : files.list(folder)) {
    const std::string whole = folder + "/" + name.substr(0, name.find(".tmp"));
    if (!name.ends_with(".old") || files.exists(whole)) continue;
    files.rename(folder + "/" + name, whole);
    files.sync_folder(folder);
    log::info("{} is brought back: it was to be replaced when an attempt was killed", whole);
  }
}

void remove_leftovers(Files& files, const std::string& folder) {
  if (!files.exists(folder)) return;
  for (const std::string& name : files.list(folder)) {
    if (name.find(".tmp") != std::string::npos) files.remove(folder + "/" + name);
  }
}

}  // namespace cohort
