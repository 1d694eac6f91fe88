// The handle of cuDNN's stand-in and how its calls refuse: a status, and a sentence for
// cudnnGetLastErrorString().
#pragma once
#include <cudnn.h>

#include "numbers.h"

struct cudnnContext {
  cudaStream_t stream = nullptr;
};

namespace hg {

// The bytes of workspace that every plan and recurrent call here asks for.
constexpr std::size_t kCudnnWorkspace = 4096;

cudnnStatus_t refuse(cudnnStatus_t status, const char* format, ...)
    __attribute__((format(printf, 2, 3)));
bool number_of(cudnnDataType_t type, Number* number);  // false: not one that the stand-in knows

}  // namespace hg
