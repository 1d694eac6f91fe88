#include "comm/watchdog.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "base/env.h"
#include "base/error.h"
#include "base/log.h"

namespace cohort {
namespace {

constexpr int kIdle = 5, kInterval = 3, kProbes = 4;  // seconds: a dead host is noticed in 17 s
constexpr int kConnectMs = 10000;
constexpr char kGoodbye = 'B', kAbort = 'A';  // kAbort: then the exit code
constexpr int kAbortSeconds = 5;

[[noreturn]] void give_up(const std::string& text) {
  log::error("{}", text);
  log::flush();
  ::_exit(static_cast<int>(Exit::lost));
}

void must(bool good, const char* what) {
  if (!good) fail(Exit::lost, "watchdog on host {}: {} failed: errno {}", host_name(), what, errno);
}

void keep_alive(int fd) {
  const int on = 1;
  const unsigned timeout = 17000;  // ms until unacknowledged data ends the connection
  auto set = [fd](int level, int name, const void* value, socklen_t size) {
    must(::setsockopt(fd, level, name, value, size) == 0, "setsockopt");
  };
  set(SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  set(IPPROTO_TCP, TCP_KEEPIDLE, &kIdle, sizeof kIdle);
  set(IPPROTO_TCP, TCP_KEEPINTVL, &kInterval, sizeof kInterval);
  set(IPPROTO_TCP, TCP_KEEPCNT, &kProbes, sizeof kProbes);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
}

nlohmann::json own_addresses() {
  auto list = nlohmann::json::array();
  ifaddrs* all = nullptr;
  must(::getifaddrs(&all) == 0, "getifaddrs");
  for (ifaddrs* a = all; a != nullptr; a = a->ifa_next) {
    if (!a->ifa_addr || a->ifa_addr->sa_family != AF_INET || (a->ifa_flags & IFF_LOOPBACK)) continue;
    char text[INET_ADDRSTRLEN] = "";
    const auto* in = reinterpret_cast<const sockaddr_in*>(a->ifa_addr);
    if (::inet_ntop(AF_INET, &in->sin_addr, text, sizeof text)) list.push_back(text);
  }
  ::freeifaddrs(all);
  return list;
}

// A connected socket or -1.
int try_connect(const std::string& address, int port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  if (::inet_pton(AF_INET, address.c_str(), &to.sin_addr) != 1) return -1;
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const timeval limit{kConnectMs / 1000, 0};
  if (::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 &&
      ::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) {
    return fd;
  }
  ::close(fd);
  return -1;
}

}  // namespace

struct Watchdog::State {
  int rank = 0;
  int listener = -1, port = 0;
  int wake[2] = {-1, -1};
  std::vector<int> fds;            // rank 0: by rank, -1 none; others: only [0]
  std::vector<std::string> names;  // "rank 2 (host b, pid 17)"
  u64 token = 0;
  std::thread thread;

  void listen_here() {
    listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(listener >= 0, "socket");
    sockaddr_in at{};
    at.sin_family = AF_INET;
    socklen_t size = sizeof at;
    must(::bind(listener, reinterpret_cast<sockaddr*>(&at), size) == 0, "bind");
    must(::listen(listener, SOMAXCONN) == 0, "listen");
    must(::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size) == 0, "getsockname");
    port = ntohs(at.sin_port);
  }
  void accept_all() {
    for (std::size_t have = 1; have < fds.size();) {
      pollfd p{listener, POLLIN, 0};
      must(::poll(&p, 1, 3 * kConnectMs) == 1, "waiting for the other ranks' connections");
      const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      must(fd >= 0, "accept");
      const timeval limit{kConnectMs / 1000, 0};
      must(::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0, "setsockopt");
      u64 hello[2] = {0, 0};
      const ssize_t got = ::recv(fd, hello, sizeof hello, MSG_WAITALL);
      if (got != sizeof hello || hello[0] != token || hello[1] >= fds.size() ||
          fds[hello[1]] >= 0) {
        ::close(fd);  // a stranger
        continue;
      }
      keep_alive(fd);
      fds[hello[1]] = fd;
      ++have;
    }
  }
  void tell(const std::string& text) {
    for (int fd : fds) {
      if (fd >= 0) static_cast<void>(::send(fd, text.data(), text.size(), MSG_NOSIGNAL));
    }
  }
  void stop() {
    if (!thread.joinable()) return;
    const char word = 1;
    static_cast<void>(::write(wake[1], &word, 1) == 1);
    thread.join();
  }
  // One connection has something to say; returns false once it has ended well.
  bool hear(std::size_t peer) {
    char text[512];
    const ssize_t got = ::recv(fds[peer], text, sizeof text, 0);
    if (got < 0 && errno == EINTR) return true;
    if (got > 0 && text[0] == kGoodbye) return false;
    if (got > 1 && text[0] == kAbort) {
      if (rank == 0) tell(std::string(text, 2));
      ::sleep(kAbortSeconds);
      ::_exit(text[1]);
    }
    std::string message = names[peer] + " is gone: its process ended or its host is unreachable; "
                          "this rank ends too: start the job again with --resume";
    if (got > 0) message.assign(text, static_cast<std::size_t>(got));
    ::close(fds[peer]);
    fds[peer] = -1;
    if (rank == 0) tell(message);
    give_up(message);
  }
  void loop() {
    for (;;) {
      std::vector<pollfd> polls{{wake[0], POLLIN, 0}};
      std::vector<std::size_t> peers{0};
      for (std::size_t r = 0; r < fds.size(); ++r) {
        if (fds[r] < 0) continue;
        polls.push_back({fds[r], POLLIN, 0});
        peers.push_back(r);
      }
      if (::poll(polls.data(), polls.size(), -1) < 0) continue;
      if (polls[0].revents) return;
      for (std::size_t i = 1; i < polls.size(); ++i) {
        if (polls[i].revents == 0 || hear(peers[i])) continue;
        ::close(fds[peers[i]]);
        fds[peers[i]] = -1;
      }
    }
  }
};

Watchdog::Watchdog(Communicator& world) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.rank = world.rank();
  if (world.size() == 1) return;
  nlohmann::json mine{{"host", host_name()}, {"pid", ::getpid()}};
  if (s.rank == 0) {
    s.listen_here();
    mine["port"] = s.port;
    mine["addresses"] = own_addresses();
    must(::getentropy(&s.token, sizeof s.token) == 0, "getentropy");
    mine["token"] = s.token;
  }
  const auto all = world.all_gather(mine.dump());
  for (std::size_t r = 0; r < all.size(); ++r) {
    const auto j = nlohmann::json::parse(all[r]);
    s.names.push_back(fmt::format("rank {} (host {}, pid {})", r, j["host"].get<std::string>(),
                                  j["pid"].get<i64>()));
  }
  s.fds.assign(all.size(), -1);
  const auto root = nlohmann::json::parse(all[0]);
  if (s.rank == 0) {
    s.accept_all();
  } else {
    std::vector<std::string> addresses = root["addresses"].get<std::vector<std::string>>();
    if (root["host"] == mine["host"]) addresses.insert(addresses.begin(), "127.0.0.1");
    for (const auto& address : addresses) {
      if ((s.fds[0] = try_connect(address, root["port"].get<int>())) >= 0) break;
    }
    must(s.fds[0] >= 0, "connecting to rank 0");
    keep_alive(s.fds[0]);
    const u64 hello[2] = {root["token"].get<u64>(), static_cast<u64>(s.rank)};
    must(::send(s.fds[0], hello, sizeof hello, MSG_NOSIGNAL) == sizeof hello, "send");
  }
  must(::pipe2(s.wake, O_CLOEXEC) == 0, "pipe");
  s.thread = std::thread([&s] { s.loop(); });
}

Watchdog::~Watchdog() {
  State& s = *state_;
  s.stop();
  s.tell(std::string(1, kGoodbye));
  for (int fd : s.fds) {
    if (fd >= 0) ::close(fd);
  }
  for (int fd : {s.listener, s.wake[0], s.wake[1]}) {
    if (fd >= 0) ::close(fd);
  }
}

void Watchdog::announce_abort(int exit_code) {
  state_->stop();
  state_->tell({kAbort, static_cast<char>(exit_code)});
}

}  // namespace cohort
