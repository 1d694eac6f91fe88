// Which rank or link is to blame, from what the ranks said of themselves: pure functions.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "comm/status.h"

namespace cohort {

struct RankView {
  std::string name;         // "rank 2 (host b, pid 17)"
  Beat beat;
  double age = 0;           // seconds since this beat came
  bool gone = false;        // it said goodbye
};

// How much longer than a step start, evaluation, checkpoint and end may take.
constexpr double kLongPhase = 10;
// Seconds without a progress after which a rank is late, in the phase that it is in.
double time_allowed(Phase phase, double step_timeout);

// The rank that the others wait for and what it was doing:
// "step 42 was not done in 600 s: rank 2 (host b, pid 17, cpu) is at step 42, reading ...".
struct Late {
  std::string text;
  Exit cause = Exit::lost;  // Exit::storage: it reads, or writes checkpoints or records
};
// Nothing while all is well. A rank is silent when its last beat is older than `silence` seconds.
std::optional<Late> find_late(const std::vector<RankView>& ranks, double step_timeout,
                              double silence);

// Seconds of a window: what a rank worked and waited, and the file that it read most.
struct RankWindow {
  std::string name;         // "rank 3 (host b)"
  double compute = 0, reading = 0, waited = 0;
  std::string file;
  double device_wait = 0;   // the host waited for its device
  double device_work = 0;   // a GPU worked, beside its host
  double records = 0;       // it wrote metrics
};

// The rank that the others waited for: at least 1.5 times as long at work as the median of the
// others, and at least a tenth of the window longer. The text names what it spent most of it in.
struct Blame { std::size_t rank = 0; std::string text; };
std::optional<Blame> find_slow(const std::vector<RankWindow>& ranks);

// The share of the window that even the busiest rank waited for others.
double exposed_share(const std::vector<RankWindow>& ranks);

// Seconds that an echo between rank 0's host and another one took.
struct Echo { std::string host; double seconds = 0; };
// A host whose link is at least 4 times slower than the median of the others and takes over 50 ms;
// rank 0's own where all take over 250 ms. Empty: no link is slow.
std::string find_slow_link(const std::string& own_host, const std::vector<Echo>& echoes);

}  // namespace cohort
