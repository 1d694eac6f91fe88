// Checkpoints: see docs/checkpoint_format.md. A folder step-<12 digits> with the tensors in one file
// for every rank that wrote, the state of the run and a manifest; it is complete and verified, or it
// does not exist. Errors are Exit::storage and name file, tensor, expected and got.
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
#include "store/folder.h"
#include "train/slices.h"

namespace cohort {

using NamedTensor = NamedView;  // names: "<param>", "optimizer/<slot>/<param>"

std::string checkpoint_name(i64 step);                              // "step-000000001200"
std::optional<i64> checkpoint_step(const std::string& folder_name);  // nothing for other names

// Everything that makes the slices, once they are written, a checkpoint.
struct CheckpointParts {
  std::string folder;                      // .../step-<12 digits>
  const std::vector<NamedTensor>* tensors = nullptr;   // data is not looked at
  std::vector<FileEntry> files;            // one for each slice, in the order of cut_slices()
  std::vector<std::string> not_finite;     // tensors with such values
  std::string state;                       // text of state.json
  std::string attempt;                     // of the run
  std::function<bool()> allow;             // asked right before the rename; false abandons
};
// Adds state and manifest to the temporary folder that holds the slices, then makes the checkpoint
// exist. A valid one of the same attempt that is there already is kept; any other gives way when the
// new one is complete. On an error the temporary folder is removed.
void complete_checkpoint(Files& files, const std::string& temporary, const CheckpointParts& parts);

// Slices, state and manifest by one process. `state` is any JSON object.
void save_checkpoint(Files& files, const std::string& folder,
                     const std::vector<NamedTensor>& tensors, const nlohmann::json& state,
                     const std::string& attempt = "",
                     const std::function<bool()>& allow = {});

struct LoadedCheckpoint {
  std::string path;
  std::shared_ptr<const nlohmann::json> state_json;
  std::map<std::string, std::pair<View, std::vector<u8>>> tensors;  // views into the vectors
  const nlohmann::json& state() const { return *state_json; }
};

// Reads one checkpoint, of version 1 or 2, by as many files as there are, verifying every checksum.
// `read`: called after each file.
LoadedCheckpoint load_checkpoint(Files& files, const std::string& folder,
                                 const std::function<void()>& read = {});

// What a manifest says; only presence and size of the files are checked.
struct CheckpointFacts {
  i64 step = 0, version = 0, files = 0, bytes = 0;
  bool good = true;           // every value is finite
  double time = 0;            // seconds since 1970; 0: version 1 did not say
};
CheckpointFacts checkpoint_facts(Files& files, const std::string& folder);

// The newest valid checkpoint in `folders` (runs/<name>/checkpoints, perhaps a second place), or
// nothing where there is none at all. Skipped ones are warned about with the reason. Where
// checkpoints exist and none is valid: Exit::storage.
std::optional<LoadedCheckpoint> load_newest(Files& files,
                                            const std::vector<std::string>& folders,
                                            const std::function<void()>& read = {});
std::optional<LoadedCheckpoint> load_newest(Files& files, const std::string& folder);
// Steps of the checkpoint folders under `folder`, ascending, valid or not.
std::vector<i64> checkpoint_steps(Files& files, const std::string& folder);

// Copies every target's bytes from the checkpoint. Nothing is copied unless all names, shapes and
// types agree, in both directions. `optional_prefix`: names in the checkpoint that may lack a
// target ("optimizer/" for inference).
void restore(const LoadedCheckpoint& checkpoint, const std::vector<NamedTensor>& targets,
             const std::string& optional_prefix = "");
// Whether it holds averages of the weights (optimizer.ema).
bool has_averages(const LoadedCheckpoint& checkpoint);
// Copies them over the parameters that have one: what evaluation sees.
void take_averages(const LoadedCheckpoint& checkpoint, const std::vector<NamedTensor>& targets);

// Removes a checkpoint; a crash leaves all of it or none.
void remove_checkpoint(Files& files, const std::string& folder);
// Of a checkpoint that was to be replaced when its writer was killed, the old one gets its name back.
// To be called before any is read to go on from.
void bring_back(Files& files, const std::string& folder);
// Removes what a killed writer left behind. To be called by the newest attempt at its start.
void remove_leftovers(Files& files, const std::string& folder);

}  // namespace cohort
