// The verbs of handing a model to serving, and their options.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "app/export.h"
#include "app/score_bundle.h"
#include "app/serve.h"

namespace cohort {

struct ServeVerbs {
  ExportOptions exporting;
  ScoreBundleOptions scoring;
  ServeOptions serving;
};
// The options must outlive the parse; `job` or `rank_job` is set to what the command line asks for.
void add_serve_verbs(CLI::App& app, ServeVerbs& options, std::function<int()>& job,
                     std::function<int(World&)>& rank_job);

}  // namespace cohort
