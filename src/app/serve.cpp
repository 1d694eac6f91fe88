#include "app/serve.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/env.h"
#include "base/error.h"
#include "base/log.h"
#include "serve/scorer.h"
#include "serve/server.h"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

// The folder's name as it was given; the run's where that tells nothing: "current", "000012".
std::string model_name(const ServeOptions& options, const Bundle& bundle) {
  if (!options.name.empty()) return options.name;
  const bool followed = !options.repo.empty();
  const fs::path given = fs::absolute(followed ? options.repo : options.bundle).lexically_normal();
  const fs::path path = given.has_filename() ? given : given.parent_path();
  std::string name = path.filename().string();
  const bool version = path.parent_path().filename() == "versions" &&
                       name.find_first_not_of("0123456789") == std::string::npos;
  if (!is_model_name(name) || (!followed && (name == "current" || version)))
    name = bundle.manifest().at("lineage").at("run").get<std::string>();
  if (!is_model_name(name))
    fail(Exit::usage, "{}: expected a folder whose name the model can have in URLs, got '{}'; give "
         "--name", path.string(), name);
  return name;
}

// What is to be served now: a folder and the version that it is known by.
struct Place {
  std::string folder, version;
  bool operator==(const Place&) const = default;
};

Place newest(const ServeOptions& options) {
  std::error_code error;
  if (options.repo.empty()) {
    const fs::path given(options.bundle);
    if (fs::exists(given / "versions", error) && !fs::exists(given / "manifest.json", error))
      fail(Exit::usage, "{}: expected a bundle, got a serving repository; serve it with --repo {}",
           options.bundle, options.bundle);
    return {options.bundle, "1"};
  }
  const fs::path folder = fs::canonical(fs::path(options.repo) / "current", error);
  if (error)
    fail(Exit::storage, "{}/current: {}; expected a repository with a published bundle (cohort "
         "publish)", options.repo, error.message());
  std::string version = folder.filename().string();   // "000012" is version 12
  version.erase(0, std::min(version.find_first_not_of('0'), version.size() - 1));
  return {folder.string(), version};
}

std::shared_ptr<const ServedModel> load(const ServeOptions& options, const Place& place) {
  const auto bundle = Bundle::open(real_files(), place.folder);
  {
    Scorer scorer(bundle, {options.threads, options.max_batch});
    check_golden(scorer);
  }
  return served_model(bundle, {model_name(options, *bundle), place.version}, options.max_batch);
}

// SIGTERM and SIGINT, taken by the thread that asks. Construct before any other thread: they inherit
// the mask.
class StopRequests {
 public:
  StopRequests() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  }
  ~StopRequests() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  bool within(milliseconds time) const {
    timespec limit{};
    limit.tv_sec = time.count() / 1000;
    limit.tv_nsec = time.count() % 1000 * 1000000;
    return sigtimedwait(&signals_, nullptr, &limit) > 0;
  }

 private:
  sigset_t signals_{}, before_{};
};

// As long as it lives, a signal ends the process at once, with this exit code.
class EndsAtOnce {
 public:
  EndsAtOnce(const StopRequests& stop, int code)
      : thread_([this, &stop, code] {
          while (!over_)
            if (stop.within(milliseconds(20))) {
              log::info("ending at once");
              std::_Exit(code);
            }
        }) {}
  ~EndsAtOnce() {
    over_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> over_{false};
  std::thread thread_;
};

// Looks at the pointer of a repository every second, and replaces what is served.
class Follower {
 public:
  Follower(const ServeOptions& options, Place place, Server& server)
      : options_(options), tried_(std::move(place)), server_(server) {
    if (!options_.repo.empty()) thread_ = std::thread([this] { run(); });
  }
  ~Follower() {
    while (!end(milliseconds(1000))) {}
    if (thread_.joinable()) thread_.join();
  }
  // False: it is opening a version, which takes longer than that.
  bool end(milliseconds time) {
    std::unique_lock<std::mutex> lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
    return changed_.wait_for(lock, time, [this] { return ended_ || !thread_.joinable(); });
  }

 private:
  void run() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!changed_.wait_for(lock, milliseconds(1000), [this] { return stopping_; })) {
      lock.unlock();
      look();
      lock.lock();
    }
    ended_ = true;
    changed_.notify_all();
  }

  void look() {
    try {
      const Place place = newest(options_);
      if (place == tried_ && (good_ || ++looks_ < 10)) return;   // a broken one again after a while
      tried_ = place;
      looks_ = 0;
      good_ = false;
      server_.replace(load(options_, place));
      good_ = true;
      told_.clear();
      server_.count_reload(true);
      log::info("serving version {} from {}", place.version, place.folder);
    } catch (const std::exception& e) {
      good_ = false;
      if (told_ == e.what()) return;
      told_ = e.what();
      log::error("the version before is kept: {}", told_);
      server_.count_reload(false);
    }
  }

  const ServeOptions& options_;
  Place tried_;
  Server& server_;
  bool good_ = true;
  int looks_ = 0;
  std::string told_;                     // why not, once
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false, ended_ = false;
  std::thread thread_;
};

ServerOptions server_options(const ServeOptions& o) {
  ServerOptions options;
  options.batch.workers = o.threads > 0 ? o.threads : usable_cores();
  options.batch.rows = o.max_batch;
  options.batch.wait = std::chrono::microseconds(o.max_wait_us);
  options.batch.queue = o.queue;
  options.time = milliseconds(o.timeout_ms);
  return options;
}

HttpLimits http_limits(const ServeOptions& o) {
  HttpLimits limits;
  limits.connections = o.connections;
  limits.head.body_bytes = o.max_body_mib << 20;
  return limits;
}

// Until a signal: then everything begun is answered. Exit::storage where the listener fails.
void serve_until_stopped(const ServeOptions& options, HttpServer& http, Server& server,
                         Follower& follower, const StopRequests& stop) {
  const pthread_t main_thread = pthread_self();
  std::atomic<bool> asked{false}, failed{false};
  std::thread listener([&] {
    http.run();
    failed = !asked;
    if (failed) pthread_kill(main_thread, SIGTERM);
  });
  while (!stop.within(milliseconds(1000))) {}
  log::info("stopping: taking requests for {} ms more", options.drain_ms);
  server.set_ready(false);
  http.drain();
  asked = true;
  const EndsAtOnce second(stop, 1);
  const auto until = std::chrono::steady_clock::now() + milliseconds(options.drain_ms);
  while (std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(milliseconds(std::min(20LL, options.drain_ms)));
  http.stop();
  listener.join();
  if (failed) fail(Exit::storage, "the listener ended by itself; is the host out of sockets?");
  log::info("stopped; all that was begun is answered");
  if (!follower.end(milliseconds(1000))) std::_Exit(0);   // what it opens nobody waits for
}

}  // namespace

bool is_model_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos;
}

int run_serve(const ServeOptions& options) {
  const StopRequests stop;
  auto starting = std::make_unique<EndsAtOnce>(stop, 0);   // nothing is begun that could be lost
  const Place place = newest(options);
  const auto model = load(options, place);
  // The server asks for connections; the listener hands it requests.
  std::unique_ptr<Server> server;
  HttpServer http(http_limits(options),
                  [&](const HttpRequest& request) { return server->handle(request); },
                  [&](int status) { server->count_refused(status); });
  ServerOptions with_connections = server_options(options);
  with_connections.connections = [&http] { return http.connections(); };
  server = std::make_unique<Server>(model, with_connections);
  const int port = http.bind(options.host, options.port);
  starting.reset();
  const bool v6 = options.host.find(':') != std::string::npos;
  log::info("serving {} version {}, {} of step {}", model->name, model->version,
            model->digest.substr(0, 12), model->step);
  std::printf("http://%s%s%s:%d\n", v6 ? "[" : "", options.host.c_str(), v6 ? "]" : "", port);
  std::fflush(stdout);
  Follower follower(options, place, *server);
  serve_until_stopped(options, http, *server, follower, stop);
  return 0;
}

}  // namespace cohort
