// A bundle's model in the layout of Triton's model repositories (docs/serving.md):
//
//   <folder>/<name>/config.pbtxt    inputs, outputs, batching
//   <folder>/<name>/labels.txt      of a classifier
//   <folder>/<name>/<version>/      model.onnx and, where there is one, its model.onnx.data; for
//                                   clients preprocess.json, golden.jsonl, manifest.json
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "store/linked_files.h"

namespace cohort {

// The text of config.pbtxt, from a bundle's manifest.
std::string triton_config(const nlohmann::json& manifest, const std::string& name);

// Adds a verified bundle as the next version; versions are written aside and renamed. Keeps the
// newest `keep`, 0: all. Returns the version's folder; where the newest version is of this bundle
// already, that one. Exit::usage where the model of that name has other inputs, outputs or labels,
// and where the folder holds other things (check_triton_place).
std::string publish_to_triton(LinkedFiles& files, const std::string& bundle,
                              const std::string& folder, const std::string& name, i64 keep);

}  // namespace cohort
