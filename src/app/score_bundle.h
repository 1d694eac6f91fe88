// cohort score: raw rows in, answers out, by a bundle; and the checks of cohort verify.
#pragma once
#include <cstdio>
#include <string>

namespace cohort {

struct ScoreBundleOptions {
  std::string bundle;
  long long top = 0;                     // two towers: that many items for each user; 0: scores
  int threads = 0;                       // 0: all cores
  long long rows = 32;                   // answered at a time
  double bench = 0;                      // not 0: seconds to measure for; nothing is read
};
// Reads JSON lines from file descriptor `in`, writes one line for each to `out`. Exit::data where a
// row had no answer; Exit::storage, and nothing is answered, where checksums or golden rows differ.
int run_score_bundle(const ScoreBundleOptions& options, int in = 0, std::FILE* out = stdout);

// Opens a bundle, checks every checksum and scores its golden rows. Exit::storage.
void verify_bundle(const std::string& folder);

}  // namespace cohort
