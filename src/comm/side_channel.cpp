#include "comm/side_channel.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/env.h"
#include "base/error.h"
#include "base/text.h"

namespace cohort {
namespace {

constexpr int kIdle = 5, kInterval = 3, kProbes = 4;  // seconds: a dead host is noticed in 17 s
constexpr int kConnectMs = 10000, kPollMs = 100;
constexpr std::size_t kMostWaiting = 1 << 20, kMostMessage = 1 << 24;   // bytes
constexpr std::size_t kHead = 5;                                         // kind and size

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

// A socket that begins to connect, or -1.
int begin_connect(const std::string& address, int port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  if (::inet_pton(AF_INET, address.c_str(), &to.sin_addr) != 1) return -1;
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 || errno == EINPROGRESS)
    return fd;
  ::close(fd);
  return -1;
}

bool is_connected(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0 &&
         ::fcntl(fd, F_SETFL, 0) == 0;   // it blocks from here on
}

// A socket connected to the first of these addresses that answers, or -1: some of a host's networks
// may not reach this one, and say nothing.
int connect_to_any(const std::vector<std::string>& addresses, int port) {
  std::vector<pollfd> trials;
  for (const std::string& address : addresses)
    if (const int fd = begin_connect(address, port); fd >= 0) trials.push_back({fd, POLLOUT, 0});
  int connected = -1;
  const double until = seconds_now() + kConnectMs / 1000.0;
  while (connected < 0 && !trials.empty() && seconds_now() < until) {
    if (::poll(trials.data(), trials.size(), kPollMs) < 0 && errno != EINTR) break;
    for (auto trial = trials.begin(); trial != trials.end() && connected < 0;) {
      if (trial->revents == 0) {
        ++trial;
        continue;
      }
      if (is_connected(trial->fd)) connected = trial->fd;
      else ::close(trial->fd);
      trial = trials.erase(trial);
    }
  }
  for (const pollfd& trial : trials) ::close(trial.fd);
  return connected;
}

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

}  // namespace

void SideChannel::listen_here() {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  must(listener_ >= 0, "socket");
  sockaddr_in at{};
  at.sin_family = AF_INET;
  socklen_t size = sizeof at;
  must(::bind(listener_, reinterpret_cast<sockaddr*>(&at), size) == 0, "bind");
  must(::listen(listener_, SOMAXCONN) == 0, "listen");
  must(::getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &size) == 0, "getsockname");
  port_ = ntohs(at.sin_port);
}

void SideChannel::accept_all() {
  for (std::size_t have = 1; have < peers_.size();) {
    pollfd p{listener_, POLLIN, 0};
    must(::poll(&p, 1, 3 * kConnectMs) == 1, "waiting for the other ranks' connections");
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    must(fd >= 0, "accept");
    const timeval limit{kConnectMs / 1000, 0};
    must(::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0, "setsockopt");
    u64 hello[2] = {0, 0};
    const ssize_t got = ::recv(fd, hello, sizeof hello, MSG_WAITALL);
    if (got != sizeof hello || hello[0] != token_ || hello[1] >= peers_.size() ||
        peers_[hello[1]].fd >= 0) {
      ::close(fd);  // a stranger
      continue;
    }
    keep_alive(fd);
    peers_[hello[1]].fd = fd;
    ++have;
  }
}

void SideChannel::connect_to_root(const std::string& text, const std::string& host) {
  const auto root = nlohmann::json::parse(text);
  auto addresses = root["addresses"].get<std::vector<std::string>>();
  if (root["host"] == host) addresses.insert(addresses.begin(), "127.0.0.1");
  peers_[0].fd = connect_to_any(addresses, root["port"].get<int>());
  must(peers_[0].fd >= 0, "connecting to rank 0");
  keep_alive(peers_[0].fd);
  const u64 hello[2] = {root["token"].get<u64>(), static_cast<u64>(rank_)};
  must(::send(peers_[0].fd, hello, sizeof hello, MSG_NOSIGNAL) == sizeof hello, "send");
}

SideChannel::SideChannel(Communicator& world) : rank_(world.rank()) {
  must(::pipe2(wake_, O_CLOEXEC | O_NONBLOCK) == 0, "pipe");
  nlohmann::json mine{{"host", host_name()}, {"pid", ::getpid()}};
  if (rank_ == 0 && world.size() > 1) {
    listen_here();
    mine["port"] = port_;
    mine["addresses"] = own_addresses();
    must(::getentropy(&token_, sizeof token_) == 0, "getentropy");
    mine["token"] = token_;
  }
  const auto all = world.all_gather(mine.dump());
  for (const std::string& text : all) {
    const auto j = nlohmann::json::parse(text);
    hosts_.push_back(j["host"].get<std::string>());
    places_.push_back(fmt::format("host {}, pid {}", hosts_.back(), j["pid"].get<i64>()));
  }
  peers_.resize(all.size());
  if (all.size() == 1) return;
  rank_ == 0 ? accept_all() : connect_to_root(all[0], hosts_[static_cast<std::size_t>(rank_)]);
}

SideChannel::~SideChannel() {
  for (Peer& peer : peers_)
    if (peer.fd >= 0) ::close(peer.fd);
  for (int fd : {listener_, wake_[0], wake_[1]})
    if (fd >= 0) ::close(fd);
}

void SideChannel::close(std::size_t peer) {
  if (peers_[peer].fd >= 0) ::close(peers_[peer].fd);
  peers_[peer] = Peer();
}

void SideChannel::push(Peer& peer) {
  while (!peer.out.empty()) {
    const ssize_t sent =
        ::send(peer.fd, peer.out.data(), peer.out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent <= 0) return;   // an ended connection is met when reading
    peer.out.erase(0, static_cast<std::size_t>(sent));
  }
}

bool SideChannel::send(std::size_t to, char kind, const std::string& payload) {
  Peer& peer = peers_[to];
  if (peer.fd < 0 || peer.out.size() + payload.size() > kMostWaiting) return false;
  const auto size = static_cast<u32>(payload.size());
  char head[kHead] = {kind};
  std::memcpy(head + 1, &size, sizeof size);
  peer.out.append(head, kHead);
  peer.out += payload;
  push(peer);
  return true;
}

void SideChannel::send_all(char kind, const std::string& payload) {
  for (std::size_t p = 0; p < peers_.size(); ++p) send(p, kind, payload);
}

bool SideChannel::pull(std::size_t from, const Handler& handler) {
  bool open = true;
  char piece[16384];
  for (;;) {
    const ssize_t got = ::recv(peers_[from].fd, piece, sizeof piece, MSG_DONTWAIT);
    if (got < 0 && would_block()) break;
    open = got > 0;
    if (!open) break;
    peers_[from].in.append(piece, static_cast<std::size_t>(got));
  }
  for (;;) {
    std::string& in = peers_[from].in;
    u32 size = 0;
    if (in.size() < kHead) return open;
    std::memcpy(&size, in.data() + 1, sizeof size);
    if (size > kMostMessage) return false;
    if (in.size() < kHead + size) return open;
    const char kind = in[0];
    const std::string payload = in.substr(kHead, size);
    in.erase(0, kHead + size);
    handler.hear(from, kind, payload);
    if (peers_[from].fd < 0) return true;   // closed by the handler
  }
}

void SideChannel::wait(double seconds, const Handler& handler) {
  std::vector<pollfd> polls{{wake_[0], POLLIN, 0}};
  std::vector<std::size_t> who{0};
  for (std::size_t p = 0; p < peers_.size(); ++p) {
    if (peers_[p].fd < 0) continue;
    const int events = peers_[p].out.empty() ? POLLIN : POLLIN | POLLOUT;
    polls.push_back({peers_[p].fd, static_cast<short>(events), 0});
    who.push_back(p);
  }
  const int limit = static_cast<int>(std::ceil(std::max(0.0, seconds) * 1000));
  if (::poll(polls.data(), polls.size(), limit) <= 0) return;
  char word[64];
  if (polls[0].revents) static_cast<void>(::read(wake_[0], word, sizeof word) > 0);
  for (std::size_t i = 1; i < polls.size(); ++i) {
    if (polls[i].revents & POLLOUT) push(peers_[who[i]]);
    if ((polls[i].revents & ~POLLOUT) == 0 || pull(who[i], handler)) continue;
    close(who[i]);
    handler.lost(who[i]);
  }
}

void SideChannel::wake() {
  const char word = 1;
  static_cast<void>(::write(wake_[1], &word, 1) == 1);   // a full pipe wakes as well
}

void SideChannel::flush(double seconds, bool until_closed) {
  const double deadline = seconds_now() + seconds;
  const Handler quiet{[](std::size_t, char, const std::string&) {}, [](std::size_t) {}};
  for (double now = seconds_now(); now < deadline; now = seconds_now()) {
    const bool busy = std::any_of(peers_.begin(), peers_.end(), [&](const Peer& p) {
      return p.fd >= 0 && (until_closed || !p.out.empty());
    });
    if (!busy) return;
    wait(deadline - now, quiet);
  }
}

}  // namespace cohort
