#include "serve/http_stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "serve/http_head.h"

namespace cohort {
namespace {

constexpr std::size_t piece = 1 << 16;
constexpr std::chrono::milliseconds slice{100};
constexpr std::chrono::milliseconds grace{500};
constexpr i64 slowest = 1 << 16;       // bytes a second

int milliseconds_until(Clock::time_point until) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
  return static_cast<int>(std::clamp<i64>(left, 0, 1 << 30));
}

// Whether the socket can be used for `events`; -1: late.
int ready(int socket, short events, Clock::time_point until) {
  pollfd one{socket, events, 0};
  for (;;) {
    const int got = ::poll(&one, 1, milliseconds_until(until));
    if (got > 0) return 1;
    if (got == 0) return -1;
    if (errno != EINTR) return 0;
  }
}

}  // namespace

Connection::Connection(int socket, std::function<bool()> crowded)
    : socket_(socket), crowded_(std::move(crowded)), began_(Clock::now()), until_(began_) {
  const int on = 1;
  ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));   // not of other socket families
}

// Closing with unread bytes would reset the connection and may take the answer with it.
Connection::~Connection() {
  begin();
  if (::shutdown(socket_, SHUT_WR) == 0) {
    const Clock::time_point until = Clock::now() + waste_time_;
    const auto silence = [] { return Clock::now() + std::chrono::milliseconds(500); };
    char waste[1 << 14];
    while (moved_ < waste_ && usable(POLLIN, std::min(until, silence())) == 1) {
      const ssize_t got = ::recv(socket_, waste, sizeof(waste), MSG_DONTWAIT);
      if (got <= 0) break;
      moved_ += got;
    }
  }
  ::close(socket_);
}

void Connection::discard(i64 bytes, std::chrono::milliseconds time) {
  waste_ = bytes;
  waste_time_ = time;
}

Connection::Wait Connection::wait_for_bytes(Clock::time_point until,
                                            const std::function<bool()>& go_on) {
  if (at_ < in_.size()) return Wait::ready;
  for (;;) {
    const Clock::time_point now = Clock::now();
    const int got = ready(socket_, POLLIN, std::min(until, now + slice));
    if (got == 1) return Wait::ready;
    if (got == 0) return Wait::ended;
    if (Clock::now() >= until) return Wait::late;
    if (!go_on()) return Wait::refused;
  }
}

void Connection::begin() {
  began_ = Clock::now();
  moved_ = 0;
}

bool Connection::slow() const {
  const auto needed = grace + std::chrono::milliseconds(moved_ * 1000 / slowest);
  return Clock::now() - began_ > needed && crowded_();
}

// As ready(), but late, too, where the client is slow.
int Connection::usable(short events, Clock::time_point until) {
  int got = ready(socket_, events, Clock::now());   // the client may be fast, and this thread late
  while (got < 0 && Clock::now() < until) {
    if (slow()) {
      waste_time_ = std::chrono::milliseconds(0);
      return -1;
    }
    got = ready(socket_, events, std::min(until, Clock::now() + slice));
  }
  return got;
}

Connection::Wait Connection::receive(Clock::time_point until) {
  if (usable(POLLIN, until) != 1) return Wait::late;
  const std::size_t had = in_.size();
  in_.resize(had + piece);
  ssize_t got;
  do {
    got = ::recv(socket_, in_.data() + had, piece, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  in_.resize(had + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  moved_ += std::max<ssize_t>(got, 0);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Wait::ready;
  return got > 0 ? Wait::ready : Wait::ended;
}

Connection::Wait Connection::read_head(Clock::time_point until, i64 most) {
  in_.erase(0, at_);
  at_ = 0;
  begin();
  for (;;) {
    while (in_.compare(0, 2, "\r\n") == 0) in_.erase(0, 2);   // RFC 9112, 2.2
    const std::size_t end = end_of_head(in_);
    if (end > static_cast<std::size_t>(most)) return Wait::refused;
    if (end > 0) return Wait::ready;
    if (in_.size() > static_cast<std::size_t>(most)) return Wait::refused;
    const Wait got = receive(until);
    if (got != Wait::ready) return got;
  }
}

std::string Connection::take_head() {
  std::string head = in_.substr(0, end_of_head(in_));
  in_.erase(0, head.size());
  return head;
}

void Connection::put_back(std::string head) { in_.insert(0, head); }

void Connection::limit(Clock::time_point until, i64 bytes) {
  until_ = until;
  left_ = bytes;
  late_ = over_ = false;
}

ssize_t Connection::read(char* to, std::size_t size) {
  if (left_ <= 0) over_ = true;
  if (late_ || over_) return -1;
  if (at_ == in_.size()) {
    if (!flush()) return -1;
    in_.clear();
    at_ = 0;
    Wait got;
    do {
      got = receive(until_);
    } while (got == Wait::ready && in_.empty());
    late_ = got == Wait::late;
    if (late_) return -1;
    if (got == Wait::ended) return 0;
  }
  const std::size_t take = std::min({size, in_.size() - at_, static_cast<std::size_t>(left_)});
  std::memcpy(to, in_.data() + at_, take);
  at_ += take;
  left_ -= static_cast<i64>(take);
  return static_cast<ssize_t>(take);
}

bool Connection::write(const char* from, std::size_t size) {
  out_.append(from, size);
  return out_.size() < piece || flush();
}

bool Connection::flush() {
  const Clock::time_point until = Clock::now() + write_time_;
  if (!out_.empty()) begin();
  for (std::size_t done = 0; done < out_.size() && !broken_;) {
    const ssize_t sent = ::send(socket_, out_.data() + done, out_.size() - done,
                                MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      done += static_cast<std::size_t>(sent);
      moved_ += sent;
    } else if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      broken_ = usable(POLLOUT, until) != 1;
    } else if (!(sent < 0 && errno == EINTR)) {
      broken_ = true;
    }
  }
  out_.clear();
  return !broken_;
}

}  // namespace cohort
