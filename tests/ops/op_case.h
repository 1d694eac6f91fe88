// One op with shapes and data, run on any device: checked by finite differences on the reference
// device, and any other device against the reference.
#pragma once
#include <ostream>
#include <string>
#include <vector>

#include "device/device.h"

namespace cohort::test {

struct OpCase {
  std::string name;
  Op op;
  std::vector<Shape> in = {};     // of one row
  Shape out = {};
  std::vector<Shape> params = {};
  i64 rows = 5, valid = 4;        // rows >= valid hold NaN (ids: -1)
  std::vector<i64> lengths = {};  // of the sequences; empty: not ragged
  i64 shrink = 0;                 // of the input value
  i64 ids = 0;                    // > 0: the last input holds ids below this (embedding, targets)
  DType raw = DType::f32;         // ingest: type of the field
  bool accumulate = false;
  bool training = true;
  bool exact = false;             // rounded values would tie for its maxima: float32 only
};
inline void PrintTo(const OpCase& c, std::ostream* out) { *out << c.name; }  // for GoogleTest

// Everything a device computes for a case, as float64. Only valid rows and steps are defined.
struct OpResult {
  std::vector<double> out;
  std::vector<std::vector<double>> d_in, d_param;
};

struct OpData {
  std::vector<std::vector<double>> in, param;
  std::vector<double> d_out;
  std::vector<double> weight;     // losses
};

std::vector<OpCase> op_cases();
// Reproducible values; all are exact in float32, so that a device of either type sees the same.
OpData data_for(const OpCase& c);
// The same, rounded to the device's type of activations. zero_padding: the device's products rely on
// zeros in padding rows and invalid steps of their inputs, and in padding rows of their results'
// gradients, as its ops leave them.
OpData data_for(const OpCase& c, const Device& device, bool zero_padding);
OpResult run_case(Device& device, const OpCase& c, const OpData& data);
// Where out or an input is defined: 1 for elements of valid rows and steps.
std::vector<char> defined_out(const OpCase& c);
std::vector<char> defined_in(const OpCase& c, std::size_t k);
// sum(out * d_out) over what is defined; the loss itself for losses.
double objective(const OpCase& c, const OpData& data);

// Compares `device` with the reference device: |a - b| <= tolerance * max(1, max |b|) for each of
// out, d_in and d_param. Returns what differs, empty if nothing does.
std::string compare(Device& device, const OpCase& c, double tolerance, bool zero_padding = false);

}  // namespace cohort::test
