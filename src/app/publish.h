// cohort publish: bundles into a serving repository, promoted or not; rolled back; listed.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "comm/communicator.h"

namespace cohort {

// Exit code where the bundle is in the repository and was not promoted.
constexpr int not_promoted = 7;

struct PublishVerbs {
  std::string bundle, repo, triton, name, metric;
  double max_worse = 0;
  i64 keep = 0;
  int threads = 0;
  bool rollback = false, list = false, json = false, force = false;
  std::string checkpoint, scratch;       // of the hidden verb `handoff`
};
int run_publish(const PublishVerbs& options);

// What training asks for at its start: Exit::usage where `folder`, if not empty, is neither a serving
// repository nor can become one. What storage refuses is a warning.
void check_handoff_folder(const std::string& folder);

// Exports `checkpoint` into the folder `scratch`, publishes that and removes it, at low priority.
// What training starts as a child: app/handoff.h.
int run_handoff(const PublishVerbs& options);

// The options must outlive the parse; `job` is set to what the command line asks for.
void add_publish_verbs(CLI::App& app, PublishVerbs& options, std::function<int()>& job);

}  // namespace cohort
