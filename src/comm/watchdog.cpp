#include "comm/watchdog.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "comm/rank_table.h"
#include "comm/side_channel.h"

namespace cohort {
namespace {

constexpr char kGoodbye = 'B', kAbort = 'A', kEnd = 'T', kBeat = 'H', kEcho = 'E', kEchoed = 'R';
constexpr int kAbortSeconds = 5;
constexpr double kTellSeconds = 1;          // for a message to be in the log file
constexpr double kSilence = 10;             // seconds without a beat
constexpr double kEchoEvery = 60, kEchoLimit = 10, kExposed = 0.4;
constexpr double kSayAgain = 600;           // seconds until the same blame is repeated
constexpr std::size_t kEchoBytes = 256 << 10;
const std::string kResume = "; this rank ends too: start the job again with --resume";

// The screen has the text at once. Where the log's storage hangs, the watch goes on all the same.
void tell(log::Level level, const std::string& text) {
  const auto told = std::make_shared<std::promise<void>>();
  const std::future<void> ended = told->get_future();
  std::thread([told, level, text] {
    log::write(level, text);
    told->set_value();
  }).detach();
  static_cast<void>(ended.wait_for(std::chrono::duration<double>(kTellSeconds)));
}

// Where the log's storage hangs, too, the process ends all the same.
void end_process(const std::string& text, bool told, Exit code) {
  std::thread([code] {
    ::sleep(kAbortSeconds);
    ::_exit(static_cast<int>(code));
  }).detach();
  told ? log::info("{}", text) : log::error("{}", text);   // told: by the rank that found it
  log::flush();
  ::_exit(static_cast<int>(code));
}

}  // namespace

struct Watchdog::State {
  State(Communicator& world, Status& own) : status(own), channel(world) {
    table = std::make_unique<RankTable>(channel.places(), channel.hosts(), seconds_now());
    for (std::size_t r = 1; r < channel.hosts().size(); ++r)
      if (channel.rank() != 0 && r != this->own()) table->left(r);
  }

  Status& status;
  SideChannel channel;
  std::unique_ptr<RankTable> table;    // rank 0: of all; others: of themselves and rank 0
  std::mutex mutex;
  WatchConfig config;                  // under the mutex
  std::atomic<bool> stopping{false}, ended{false};
  std::thread thread;
  // Of the thread alone:
  WatchConfig now_config;
  double next_beat = 0, window_ends = 0;
  std::string said;
  double said_at = -kSayAgain;
  struct Link { std::size_t rank; double seconds; };
  std::vector<Link> links;             // one rank of each other host
  std::size_t next_link = 0;           // == links.size(): no round is under way
  double echo_sent = 0, round_began = -kEchoEvery;

  std::size_t own() const { return static_cast<std::size_t>(channel.rank()); }

  void stop() {
    if (!thread.joinable()) return;
    stopping = true;
    channel.wake();
    thread.join();
  }
  void end(const std::string& text, bool told, Exit code) {
    ended = true;
    if (channel.rank() == 0) {
      channel.send_all(kEnd, static_cast<char>(code) + text);
      channel.flush(1, true);
    }
    now_config.end ? now_config.end(text, told) : end_process(text, told, code);
  }

  void hear(std::size_t from, char kind, const std::string& payload) {
    if (kind == kGoodbye) {
      table->left(from);
      channel.close(from);
    } else if (kind == kAbort && !payload.empty()) {
      if (channel.rank() == 0) channel.send_all(kAbort, payload);
      channel.flush(1, false);
      ::sleep(kAbortSeconds);
      ::_exit(payload[0]);
    } else if (kind == kEnd && !payload.empty()) {
      end(payload.substr(1), true, static_cast<Exit>(payload[0]));
    } else if (kind == kBeat) {
      if (const auto beat = decode(payload)) table->heard(from, *beat, seconds_now());
    } else if (kind == kEcho) {
      channel.send(from, kEchoed, payload);
    } else if (kind == kEchoed && next_link < links.size() && links[next_link].rank == from) {
      next_echo(seconds_now() - echo_sent);
    }
  }
  void lost(std::size_t peer) {
    end(fmt::format("{} is gone: its process ended or its host is unreachable; it was at {}{}",
                    table->name(peer), describe(table->last(peer)), kResume), false, Exit::lost);
  }

  // Echoes go one after another, so that they do not slow down each other.
  void begin_echoes(double now) {
    if (now < round_began + kEchoEvery || next_link < links.size()) return;
    links.clear();
    std::vector<std::string> known{channel.hosts()[0]};
    for (std::size_t r = 1; r < channel.hosts().size(); ++r) {
      if (std::find(known.begin(), known.end(), channel.hosts()[r]) != known.end()) continue;
      known.push_back(channel.hosts()[r]);
      links.push_back({r, 0});
    }
    round_began = now;
    next_link = 0;
    send_echo();
  }
  void send_echo() {
    if (next_link == links.size()) return;
    echo_sent = seconds_now();
    if (!channel.send(links[next_link].rank, kEcho, std::string(kEchoBytes, 'e'))) next_echo(0);
  }
  void next_echo(double seconds) {
    links[next_link++].seconds = seconds;
    if (next_link < links.size()) return send_echo();
    std::vector<Echo> echoes;
    std::string times;
    for (const Link& link : links) {
      echoes.push_back({channel.hosts()[link.rank], link.seconds});
      times += fmt::format("{}{} {:.3f} s", times.empty() ? "" : ", ", echoes.back().host,
                           link.seconds);
    }
    const std::string host = find_slow_link(channel.hosts()[0], echoes);
    if (!host.empty())
      say("link " + host, fmt::format("the link of host {} is slow: 256 KiB there and back take: {}",
                                      host, times));
  }

  void say(const std::string& what, const std::string& text) {
    const double now = seconds_now();
    if (what == said && now < said_at + kSayAgain) return;
    said = what;
    said_at = now;
    now_config.say ? now_config.say(text) : tell(log::Level::warning, text);
  }

  void judge_window(double now) {
    if (now_config.blame_every <= 0 || channel.rank() != 0) return;
    if (window_ends <= 0) window_ends = now + now_config.blame_every;
    if (now < window_ends) return;
    window_ends = now + now_config.blame_every;
    const std::vector<RankWindow> ranks = table->end_window();
    if (ranks.empty()) return;
    if (const auto slow = find_slow(ranks)) {
      say(fmt::format("rank {}", slow->rank), slow->text);
    } else if (exposed_share(ranks) > kExposed) {
      begin_echoes(now);
    }
  }

  // Ranks other than 0 judge by what they see, themselves and rank 0, once rank 0 says nothing.
  void judge_lateness(double now) {
    const double timeout = now_config.step_timeout;
    const double silence =
        std::min(kSilence, std::max(3 * now_config.beat_every, timeout / 2));
    if (channel.rank() != 0 && !table->silent(0, silence, now)) return;   // rank 0 sees more
    const auto late = table->late(timeout, silence, now);
    if (!late) return;
    if (channel.rank() == 0) tell(log::Level::info, "where the ranks are:" + table->text());
    end(late->text + kResume, false, late->cause);
  }

  void tick(double now) {
    if (now < next_beat) return;
    next_beat = now + now_config.beat_every;
    const Beat beat = status.look();
    table->heard(own(), beat, now);
    channel.send_all(kBeat, encode(beat));
    if (next_link < links.size() && now > echo_sent + kEchoLimit) next_echo(now - echo_sent);
    judge_window(now);
    if (!ended) judge_lateness(now);
  }

  void loop() {
    const SideChannel::Handler handler{
        [this](std::size_t from, char kind, const std::string& text) { hear(from, kind, text); },
        [this](std::size_t peer) { lost(peer); }};
    while (!stopping && !ended) {
      {
        const std::lock_guard lock(mutex);
        now_config = config;
      }
      // A process that was stopped reads what others said meanwhile before it judges them.
      channel.wait(std::max(0.0, next_beat - seconds_now()), handler);
      channel.wait(0, handler);
      if (!stopping && !ended) tick(seconds_now());
    }
  }
};

Watchdog::Watchdog(Communicator& world, Status& status)
    : state_(std::make_unique<State>(world, status)) {
  state_->thread = std::thread([s = state_.get()] { s->loop(); });
  static_cast<void>(pthread_setname_np(state_->thread.native_handle(), "watchdog"));
}

Watchdog::~Watchdog() {
  State& s = *state_;
  s.stop();
  s.channel.send_all(kGoodbye, "");
  s.channel.flush(1, false);
}

void Watchdog::watch(const WatchConfig& config) {
  State& s = *state_;
  {
    const std::lock_guard lock(s.mutex);
    s.config = config;
  }
  s.channel.wake();
}

void Watchdog::announce_abort(int exit_code) {
  State& s = *state_;
  s.stop();
  s.channel.send_all(kAbort, std::string(1, static_cast<char>(exit_code)));
  s.channel.flush(1, false);
}

}  // namespace cohort
