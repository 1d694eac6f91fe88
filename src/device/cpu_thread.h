// For threads that run kernels of a CPU device that another thread made.
#pragma once

namespace cohort {

// Each such thread calls it once before: as the device does in its own threads.
void prepare_cpu_thread();

}  // namespace cohort
