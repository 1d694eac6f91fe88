// cohort export: a run's or a checkpoint's model as a bundle to serve (docs/bundle.md).
#pragma once
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace cohort {

struct ExportOptions {
  std::string path, to;                  // run folder or checkpoint; the bundle
  std::string checkpoint = "best";       // of a run: best, last or a step
  i64 opset = 13;
  std::vector<std::string> overrides;
  bool external_data = false;            // weights beside the ONNX models, however few they are
};
// Prints the root digest and the folder as `sha256sum` does. On one rank.
int run_export(World& world, const ExportOptions& options);

}  // namespace cohort
