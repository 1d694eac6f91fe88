// What rank 0 knows of every rank, by their beats. Times are seconds_now() of rank 0.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "comm/blame.h"

namespace cohort {

class RankTable {
 public:
  // `places` and `hosts` by rank: "host b, pid 17" and "b".
  RankTable(const std::vector<std::string>& places, const std::vector<std::string>& hosts,
            double now);
  void heard(std::size_t rank, const Beat& beat, double now);
  void left(std::size_t rank);
  // "rank 2 (host b, pid 17)"
  std::string name(std::size_t rank) const;
  const Beat& last(std::size_t rank) const { return rows_[rank].beat; }
  bool silent(std::size_t rank, double silence, double now) const;
  std::optional<Late> late(double step_timeout, double silence, double now) const;
  // Every rank and where it is, a line each, at most 64.
  std::string text() const;
  // What has passed since the window before; empty where a rank has left or no step was done.
  std::vector<RankWindow> end_window();

 private:
  struct Row {
    std::string place, host;
    Beat beat, before;      // newest; at the start of the window
    std::string file;       // read most in the window
    double file_seconds = 0;
    double at = 0;
    bool gone = false;
  };
  std::vector<Row> rows_;
};

// A beat as bytes of a message; of broken bytes nothing comes back.
std::string encode(const Beat& beat);
std::optional<Beat> decode(const std::string& bytes);

}  // namespace cohort
