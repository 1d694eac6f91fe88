// Communicators and reducers that publish when this rank waits for others.
#pragma once
#include <memory>

#include "comm/communicator.h"

namespace cohort {

// Of the main thread: its calls count as waiting. duplicate() gives a channel that does not.
std::unique_ptr<Communicator> watch_waits(std::unique_ptr<Communicator> ranks, Status& status);
// Of the thread that prepares rows.
std::unique_ptr<Communicator> watch_row_waits(std::unique_ptr<Communicator> ranks, Status& status);
// wait() counts as waiting, submit() as a bucket given away. Null stays null.
std::unique_ptr<Reducer> watch_reducer(std::unique_ptr<Reducer> reducer, Status& status);

}  // namespace cohort
