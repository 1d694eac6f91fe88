// A family trained by ranks as threads, on any device.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "families.h"

namespace cohort::testing {

constexpr i64 job_batch = 13;   // rows of a step over all ranks

struct Job {
  Family family;
  int world = 1;
  i64 micro_batches = 1;
  std::function<std::unique_ptr<Device>(int rank)> device;
  // Null: the queue of host devices.
  std::function<std::unique_ptr<Reducer>(Device&, Communicator&)> reducer;
  i64 steps = 50;
};

struct Record {
  std::vector<double> losses, weights, norms;
  std::vector<Values> gradients;  // of every fifth step
  Values end;
};

// Trains job.steps steps; all ranks must come to the same bits.
Record train(const Job& job);
void expect_same(const Record& got, const Record& expected, double tolerance);
// What a comparison rests on: the run learned something, and every weight moved.
void expect_trained(const Job& job, const Record& record);

// The state before every step of the one-rank run, and what that step found.
struct Trail {
  std::vector<Values> before, gradients;
  std::vector<double> losses;
  std::vector<double> round_off;   // how far a gradient moves when the weights move by their last bit
};
Trail one_rank_trail(const Job& job);

// How far a device may be from the trail.
struct Nearness {
  double loss = 1e-6;       // relative
  double gradient = 1e-5;   // of the step's largest gradient: an element that is the small sum of
                            // large terms (a bias) has their round-off, not its own
  double round_off = 16;    // times the step's: batch norm of values that nearly agree magnifies it
};
// The job's steps, each begun from the trail's state. Returns what differs.
std::string follow(const Job& job, const Trail& trail, const Nearness& near = {});

}  // namespace cohort::testing
