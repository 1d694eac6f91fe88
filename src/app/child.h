// Processes that this one starts and outlives: no shell, no fork of a process with threads.
#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

#include "store/file_lock.h"

namespace cohort {

struct ChildCommand {
  std::vector<std::string> arguments;    // the first is looked for in PATH
  std::vector<std::string> environment;  // NAME=VALUE beside, or instead of, this process's
  std::string output;                    // file that its stdout and stderr are appended to
  int inherited = -1;                    // a descriptor that it keeps open, such as a lock's
  std::vector<int> cores = {};           // that it may use; empty: those of this process
};

// The program that runs now.
std::string this_program();
// Starts it in a process group of its own (Ctrl-C at a terminal is not for it), with nothing on stdin
// and no signal blocked. When this process ends, however it ends, the child gets SIGUSR1: the request
// to stop with a checkpoint. Error(Exit::storage) where the system starts no process.
pid_t start_child(const ChildCommand& command);
// What start_child() runs in the child: waits for nothing, becomes `command` on `cores` ("0,1,2"; "all").
// Returns 127 where that cannot be started, and 75 where `parent` has ended already.
int become_child(pid_t parent, const std::string& cores, const std::vector<std::string>& command);
// Runs it to its end; its stdout. Error(Exit::usage) with `what` and what it wrote where it fails.
std::string output_of(const std::vector<std::string>& arguments, const std::string& what);
// The text of the last line of this level ("info", "error") in what a child of this program wrote;
// empty where there is none.
std::string last_message(const std::string& log, const std::string& level);
// Whether PATH has a program of this name.
bool has_program(const std::string& name);

}  // namespace cohort
