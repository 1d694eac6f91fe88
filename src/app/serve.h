// cohort serve: a bundle, or the newest of a repository, behind HTTP. See docs/serving.md.
#pragma once
#include <string>

namespace cohort {

struct ServeOptions {
  std::string bundle, repo;              // one of them
  std::string name;                      // of the model in URLs; empty: the folder's, or the run's
  std::string host = "127.0.0.1";
  int port = 8000;                       // 0: any free one
  int threads = 0;                       // that answer, each a batch at a time; 0: all cores
  int connections = 64;                  // served at a time
  long long max_batch = 32, max_wait_us = 500, queue = 1024, max_body_mib = 16;
  long long timeout_ms = 10000;          // of a request
  long long drain_ms = 1000;             // from a signal until no connection is taken
};
// Whether clients can ask for it in a path: not empty, no '/', not "." or "..".
bool is_model_name(const std::string& name);

// Prints the URL when requests are taken. Returns 0 after SIGTERM or SIGINT, when all that was begun
// is answered; a second signal, or one before that, ends the process at once. Exit::storage, and
// nothing is served, where checksums or golden rows differ; Exit::usage where the port cannot be had.
int run_serve(const ServeOptions& options);

}  // namespace cohort
