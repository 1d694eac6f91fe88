// What `cohort serve` answers: the routes of docs/serving.md. Knows no sockets; see HttpServer.
#pragma once
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>

#include "serve/batcher.h"
#include "serve/http.h"
#include "serve/prometheus.h"

namespace cohort {

struct ServerOptions {
  BatchLimits batch;
  std::chrono::milliseconds time{10000};   // a request not answered by then gets 504
  std::function<i64()> connections;        // open now
};

class Server {
 public:
  Server(std::shared_ptr<const ServedModel> model, const ServerOptions& options);
  HttpReply handle(const HttpRequest& request);      // any thread
  // Requests that come later are read and answered by this model. Returns when it has its scorers
  // and the last request of the model before is answered; throws, and that one is served on, where
  // a scorer cannot be made. One caller at a time.
  void replace(std::shared_ptr<const ServedModel> model);
  void set_ready(bool ready) { ready_ = ready; }
  void count_reload(bool good);
  void count_refused(int status);          // answered before handle()

 private:
  // A request is read, staged, answered and written by one and the same.
  struct Live {
    std::shared_ptr<const ServedModel> model;
    Batcher batcher;
  };
  HttpReply route(const HttpRequest& request, std::string& name);
  HttpReply v2(const HttpRequest& request, const std::vector<std::string>& path, std::string& name);
  HttpReply infer(const HttpRequest& request, Live& live);
  HttpReply score(const HttpRequest& request, Live& live);
  HttpReply metrics(const Live& live) const;
  Outcome answer(Live& live, std::vector<nlohmann::json> rows, i64 top);
  std::shared_ptr<Live> start(std::shared_ptr<const ServedModel> model, bool one_by_one);
  std::shared_ptr<Live> live() const;

  ServerOptions options_;
  std::atomic<bool> ready_{true};
  CounterFamily requests_, rows_, reloads_;
  Histogram seconds_, batch_rows_;
  mutable std::mutex mutex_;
  std::shared_ptr<Live> live_;
};

}  // namespace cohort
