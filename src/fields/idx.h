// IDX files of unsigned bytes (the format of MNIST), plain or gzip.
#pragma once
#include <string>

#include "tensor/tensor.h"

namespace cohort {

struct IdxArray {
  Shape shape;
  std::string bytes;
};
// Errors: Exit::data naming the file, what was expected and got.
IdxArray read_idx(const std::string& path);

}  // namespace cohort
