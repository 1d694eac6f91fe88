#include "app/child.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

extern char** environ;

namespace cohort {
namespace {

[[noreturn]] void refuse(const std::string& what, int error) {
  fail(Exit::storage, "{}: {}", what, std::strerror(error));
}

void check(int error, const char* what) {
  if (error != 0) refuse(what, error);
}

// What posix_spawn takes, freed in the end.
struct SpawnSetup {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  SpawnSetup() {
    check(posix_spawn_file_actions_init(&files), "posix_spawn_file_actions_init");
    check(posix_spawnattr_init(&attributes), "posix_spawnattr_init");
  }
  ~SpawnSetup() {
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;

  void reset_signals(bool own_group) {
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    check(posix_spawnattr_setsigmask(&attributes, &none), "posix_spawnattr_setsigmask");
    check(posix_spawnattr_setsigdefault(&attributes, &all), "posix_spawnattr_setsigdefault");
    check(posix_spawnattr_setpgroup(&attributes, 0), "posix_spawnattr_setpgroup");
    const int group = own_group ? POSIX_SPAWN_SETPGROUP : 0;
    check(posix_spawnattr_setflags(&attributes, static_cast<short>(POSIX_SPAWN_SETSIGMASK |
                                                                   POSIX_SPAWN_SETSIGDEF | group)),
          "posix_spawnattr_setflags");
  }
};

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> found;
  for (std::string& text : texts) found.push_back(text.data());
  found.push_back(nullptr);
  return found;
}

std::vector<std::string> merged_environment(const std::vector<std::string>& more) {
  std::vector<std::string> all = more;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('=') + 1);
    bool replaced = false;
    for (const std::string& other : more) replaced = replaced || other.rfind(name, 0) == 0;
    if (!replaced) all.push_back(text);
  }
  return all;
}

pid_t spawn(const SpawnSetup& setup, std::vector<std::string> arguments,
            std::vector<std::string> environment) {
  const std::vector<char*> argv = pointers(arguments), envp = pointers(environment);
  pid_t pid = 0;
  const int error =
      posix_spawnp(&pid, argv[0], &setup.files, &setup.attributes, argv.data(), envp.data());
  if (error != 0)
    refuse(fmt::format("cannot start {}, whose output must go to a writable file", arguments[0]),
           error);
  return pid;
}

std::string read_all(int fd) {
  std::string text;
  std::array<char, 4096> piece{};
  for (;;) {
    const ssize_t got = read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse("read from a pipe", errno);
    if (got == 0) return text;
    text.append(piece.data(), static_cast<std::size_t>(got));
  }
}

// This process, and what it becomes, runs on these cores: a share, so that no failure of it ends work.
void keep_to(const std::string& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const std::string& core : split(cores, ','))
    if (const auto number = parse_i64(core); number && *number >= 0 && *number < CPU_SETSIZE)
      CPU_SET(static_cast<std::size_t>(*number), &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0)
    log::warn("cannot keep to the cores {}: {}", cores, std::strerror(errno));
}

}  // namespace

std::string this_program() {
  std::array<char, 4096> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  if (length <= 0) refuse("/proc/self/exe", errno);
  return std::string(path.data(), static_cast<std::size_t>(length));
}

pid_t start_child(const ChildCommand& command) {
  SpawnSetup setup;
  setup.reset_signals(true);
  const auto files = &setup.files;
  check(posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0), "addopen");
  check(posix_spawn_file_actions_addopen(files, STDOUT_FILENO, command.output.c_str(),
                                         O_WRONLY | O_CREAT | O_APPEND, 0666),
        "addopen");
  check(posix_spawn_file_actions_adddup2(files, STDOUT_FILENO, STDERR_FILENO), "adddup2");
  if (command.inherited >= 0)   // the same number twice: it stays open in the child
    check(posix_spawn_file_actions_adddup2(files, command.inherited, command.inherited), "adddup2");
  std::vector<std::string> cores;
  for (const int core : command.cores) cores.push_back(std::to_string(core));
  std::vector<std::string> arguments = {this_program(), "become", std::to_string(getpid()),
                                        cores.empty() ? "all" : join(cores, ",")};
  arguments.insert(arguments.end(), command.arguments.begin(), command.arguments.end());
  return spawn(setup, std::move(arguments), merged_environment(command.environment));
}

int become_child(pid_t parent, const std::string& cores, const std::vector<std::string>& command) {
  if (prctl(PR_SET_PDEATHSIG, SIGUSR1) != 0) refuse("prctl(PR_SET_PDEATHSIG)", errno);
  if (getppid() != parent) return static_cast<int>(Exit::stopped);
  if (cores != "all") keep_to(cores);
  std::vector<std::string> texts = command;
  if (texts.empty()) return 127;
  const std::vector<char*> argv = pointers(texts);
  execvp(argv[0], argv.data());
  log::error("cannot start {}: {}; expected a program in PATH", command[0], std::strerror(errno));
  return 127;
}

std::string output_of(const std::vector<std::string>& arguments, const std::string& what) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) refuse("pipe2", errno);
  SpawnSetup setup;
  setup.reset_signals(false);
  check(posix_spawn_file_actions_adddup2(&setup.files, ends[1], STDOUT_FILENO), "adddup2");
  pid_t pid = 0;
  try {
    pid = spawn(setup, arguments, merged_environment({}));
  } catch (...) {
    close(ends[0]);
    close(ends[1]);
    throw;
  }
  close(ends[1]);
  const std::string text = read_all(ends[0]);
  close(ends[0]);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) refuse("waitpid", errno);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    fail(Exit::usage, "{}: {} failed ({}); {}", what, arguments[0],
         WIFEXITED(status) ? fmt::format("exit {}", WEXITSTATUS(status)) : "killed",
         text.empty() ? "its message stands above" : text);
  return text;
}

std::string last_message(const std::string& log, const std::string& level) {
  std::string found;
  for (const std::string& line : split(log, '\n')) {
    // "2026-01-02T03:04:05.678Z error rank 3 host: text", see base/log.h
    const std::size_t at = line.find("Z " + level);
    if (at == std::string::npos || at > 30) continue;
    const std::size_t colon = line.find(": ", at);
    if (colon != std::string::npos) found = line.substr(colon + 2);
  }
  return found;
}

bool has_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return access(name.c_str(), X_OK) == 0;
  const char* path = std::getenv("PATH");
  for (const std::string& folder : split(path == nullptr ? "" : path, ':'))
    if (access((folder + "/" + name).c_str(), X_OK) == 0) return true;
  return false;
}

}  // namespace cohort
