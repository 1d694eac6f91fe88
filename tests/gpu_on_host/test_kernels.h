// Small kernels, right and wrong ones, for the tests of the stand-in itself.
#pragma once
#include <cuda_runtime.h>

namespace hg::test {
// Elementwise.
cudaError_t fill(float* p, float value, int n, cudaStream_t stream);
cudaError_t add(float* y, const float* x, int n, cudaStream_t stream);
// y[0] = sum of x[0..256), through shared memory; `barrier` false leaves the barrier out.
cudaError_t sum(float* y, const float* x, bool barrier, cudaStream_t stream);
// Each element becomes that of its right neighbour in the block of 64, in place: a read before a
// write, where only a missing barrier and an unlucky order give a wrong result.
cudaError_t rotate(float* p, bool barrier, cudaStream_t stream);
// Votes, warp operations and atomics: see the test for what each element is.
cudaError_t collectives(int* out, cudaStream_t stream);
cudaError_t atomics(float* sum_f, double* sum_d, int* most, unsigned* ticket, cudaStream_t stream);
// y[i] = x[i] * x[i] + 1 computed in bf16.
cudaError_t bf16_square(float* y, const float* x, int n, cudaStream_t stream);
// The order in which blocks and threads ran: element i is the position of thread i.
cudaError_t positions(unsigned* counter, unsigned* out, cudaStream_t stream);

// Wrong ones.
cudaError_t barrier_of_some(cudaStream_t stream);
cudaError_t barrier_after_return(cudaStream_t stream);
cudaError_t foreign_lane(cudaStream_t stream);
cudaError_t shared_overrun(cudaStream_t stream);
cudaError_t reads_unset_shared(float* out, cudaStream_t stream);
cudaError_t deep_recursion(int* out, cudaStream_t stream);

// Launch limits: writes one float of `bytes` of dynamic shared memory.
cudaError_t with_shared(dim3 grid, dim3 block, std::size_t bytes, cudaStream_t stream);
const void* with_shared_function();
}  // namespace hg::test
