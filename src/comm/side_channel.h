// Messages between rank 0 and each other rank over TCP, without MPI. The kernel closes the
// connection when a process dies; keepalive covers a dead host or link within about 20 s. Nothing
// here blocks on a peer: what a stopped process does not take stays in memory, up to a limit.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace cohort {

class SideChannel {
 public:
  // Collective. Exit::lost where the connections cannot be made.
  explicit SideChannel(Communicator& world);
  ~SideChannel();
  SideChannel(const SideChannel&) = delete;
  SideChannel& operator=(const SideChannel&) = delete;

  int rank() const { return rank_; }
  // Of every rank: "host b, pid 17", and "b".
  const std::vector<std::string>& places() const { return places_; }
  const std::vector<std::string>& hosts() const { return hosts_; }
  // Rank 0 sends to any rank, the others to rank 0. False where a peer has left or too much waits.
  bool send(std::size_t to, char kind, const std::string& payload);
  void send_all(char kind, const std::string& payload);
  void close(std::size_t peer);
  // Waits for messages, at most so many seconds or until wake(); `hear` and `lost` may close peers.
  struct Handler {
    std::function<void(std::size_t from, char kind, const std::string& payload)> hear;
    std::function<void(std::size_t peer)> lost;
  };
  void wait(double seconds, const Handler& handler);
  void wake();              // of any thread
  // Sends what is left, then waits until the peers have closed, each at most so many seconds.
  void flush(double seconds, bool until_closed);

 private:
  struct Peer {
    int fd = -1;
    std::string in, out;
  };
  void listen_here();
  void accept_all();
  void connect_to_root(const std::string& root, const std::string& host);
  void push(Peer& peer);
  bool pull(std::size_t from, const Handler& handler);   // false: the connection has ended

  int rank_ = 0;
  int listener_ = -1, port_ = 0;
  int wake_[2] = {-1, -1};
  u64 token_ = 0;
  std::vector<Peer> peers_;             // by rank; none with one rank
  std::vector<std::string> places_, hosts_;
};

}  // namespace cohort
