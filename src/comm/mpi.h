// The communicator over MPI. Needs MPI_THREAD_MULTIPLE: each duplicate() serves its own thread.
#pragma once
#include <memory>

#include "comm/communicator.h"

namespace cohort {

// MPI_Init_thread, watchdog, identity. Exit::lost where MPI does not start or lacks threads.
std::unique_ptr<World> join_mpi(int* argc, char*** argv);

}  // namespace cohort
