// Weights to begin with from another run, by name (config group `init`), and parameters that training
// leaves as they are. Not a resume: step, optimizer, running epoch and rows begin anew.
#pragma once
#include <string>
#include <vector>

#include "model/graph.h"
#include "store/files.h"
#include "train/session.h"

namespace cohort {

// Whether `name` matches a pattern of a shell: `*` any text, `?` any character.
bool matches(const std::string& name, const std::string& pattern);

// Marks the parameters that init.freeze names. Exit::usage where a pattern names none, or where
// nothing is left to train.
void freeze_parameters(Graph& graph, const InitConfig& init);

struct WarmStart {
  std::string checkpoint;              // its folder
  i64 step = 0;                        // of the run that wrote it
  std::vector<std::string> taken, fresh;   // parameters, in the model's order: all of them
  std::vector<std::string> unused;     // in the checkpoint, not in this model
};

// What init.load and init.fresh take from tensors of these names and shapes. Exit::usage on a pattern
// that names no parameter, on one that the checkpoint lacks, and where shapes differ.
struct KnownTensor { std::string name; Shape shape; };
WarmStart choose_tensors(const Graph& graph, const InitConfig& init,
                         const std::vector<KnownTensor>& known);

// Puts the weights that init.from holds into `state`, on every rank: rank 0 reads them. Says what was
// taken, left to the seed and frozen. Nothing to do where init.from is empty. Collective.
void warm_start(Files& files, const Session& session, ModelState& state);

}  // namespace cohort
