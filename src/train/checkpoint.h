// Checkpoints: see docs/checkpoint_format.md. A folder step-<12 digits> with the tensors, the state
// of the run and a manifest; it is complete and verified, or it does not exist. Errors are
// Exit::storage and name file, tensor, expected and got.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plan/state.h"
#include "store/files.h"

namespace cohort {

using NamedTensor = NamedView;  // names: "<param>", "optimizer/<slot>/<param>"

std::string checkpoint_name(i64 step);                              // "step-000000001200"
std::optional<i64> checkpoint_step(const std::string& folder_name);  // nothing for other names

// Writes folder (.../step-<12 digits>) atomically. `state` is any JSON object. `allow` is asked right
// before the rename; false abandons with Exit::storage. A valid folder that is there already is
// kept (the same run passed this step before); a damaged one is replaced.
void save_checkpoint(Files& files, const std::string& folder,
                     const std::vector<NamedTensor>& tensors, const nlohmann::json& state,
                     const std::function<bool()>& allow = {});

struct LoadedCheckpoint {
  std::string path;
  std::shared_ptr<const nlohmann::json> state_json;
  std::map<std::string, std::pair<View, std::vector<u8>>> tensors;  // views into the vectors
  const nlohmann::json& state() const { return *state_json; }
};

// Reads one checkpoint after verifying every checksum.
LoadedCheckpoint load_checkpoint(Files& files, const std::string& folder);
// The newest valid checkpoint under `folder` (runs/<name>/checkpoints), or nothing where there is
// none at all. Skipped ones are warned about with the reason. Where checkpoints exist and none is
// valid: Exit::storage.
std::optional<LoadedCheckpoint> load_newest(Files& files, const std::string& folder);
// Steps of the checkpoint folders under `folder`, ascending, valid or not.
std::vector<i64> checkpoint_steps(Files& files, const std::string& folder);

// Copies every target's bytes from the checkpoint. Nothing is copied unless all names, shapes and
// types agree, in both directions. `optional_prefix`: names in the checkpoint that may lack a
// target ("optimizer/" for inference).
void restore(const LoadedCheckpoint& checkpoint, const std::vector<NamedTensor>& targets,
             const std::string& optional_prefix = "");

// Removes all but the `keep_last` newest checkpoints and the step `best` (-1: none).
void prune(Files& files, const std::string& folder, i64 keep_last, i64 best);
// Removes what a killed writer left behind. To be called by the newest attempt at its start.
void remove_leftovers(Files& files, const std::string& folder);

}  // namespace cohort
