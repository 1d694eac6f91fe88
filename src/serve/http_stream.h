// A connection's bytes under deadlines. Private to http.cpp.
#pragma once
#include <chrono>
#include <functional>
#include <string>
#include <sys/types.h>

#include "base/types.h"

namespace cohort {

using Clock = std::chrono::steady_clock;

class Connection {
 public:
  // `crowded`: whether others wait for this one's place. Then whoever is slower than half a second
  // and 64 KiB a second, at a head, a body or an answer, is late.
  Connection(int socket, std::function<bool()> crowded);
  ~Connection();                       // closes, so that the other side still reads what was sent
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  enum class Wait { ready, ended, late, refused };
  // Until bytes are there. `go_on` is asked ten times a second.
  Wait wait_for_bytes(Clock::time_point until, const std::function<bool()>& go_on);
  // Reads until a head is whole, at most `most` bytes of it. late, ended, refused (too long).
  Wait read_head(Clock::time_point until, i64 most);
  std::string take_head();
  // What read() gives before it reads on, in place of the head.
  void put_back(std::string head);

  // Bytes of this request's head and body; 0 at the end, -1 when late or over the limit.
  ssize_t read(char* to, std::size_t size);
  void limit(Clock::time_point until, i64 bytes);   // what read() obeys from now on
  bool late() const { return late_; }
  bool over() const { return over_; }

  // Kept until flush(), or until they are many.
  bool write(const char* from, std::size_t size);
  bool flush();
  void write_time(std::chrono::milliseconds time) { write_time_ = time; }
  // What comes behind the answer is read and thrown away at the end, up to these bounds: a client
  // that sends its whole body first would not see the answer otherwise.
  void discard(i64 bytes, std::chrono::milliseconds time);
  int socket() const { return socket_; }

 private:
  Wait receive(Clock::time_point until);
  int usable(short events, Clock::time_point until);
  void begin();                        // to measure how slow the client is
  bool slow() const;
  int socket_;
  std::function<bool()> crowded_;
  Clock::time_point began_;
  i64 moved_ = 0;                      // bytes since then
  std::string in_, out_;
  std::size_t at_ = 0;                 // read of in_
  Clock::time_point until_;
  i64 left_ = 0, waste_ = i64{1} << 22;
  bool late_ = false, over_ = false, broken_ = false;
  std::chrono::milliseconds write_time_{30000}, waste_time_{500};
};

}  // namespace cohort
