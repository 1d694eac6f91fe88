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
  // Rows that come later are answered by this model.
  void replace(std::shared_ptr<const ServedModel> model);
  void set_ready(bool ready) { ready_ = ready; }
  void count_reload(bool good);
  void count_refused(int status);          // answered before handle()

 private:
  HttpReply route(const HttpRequest& request, std::string& name);
  HttpReply v2(const HttpRequest& request, const std::vector<std::string>& path, std::string& name);
  HttpReply infer(const HttpRequest& request);
  HttpReply score(const HttpRequest& request);
  HttpReply metrics() const;
  Outcome answer(std::vector<nlohmann::json> rows, i64 top);
  std::shared_ptr<const ServedModel> model() const;

  ServerOptions options_;
  std::atomic<bool> ready_{true};
  mutable std::mutex mutex_;
  std::shared_ptr<const ServedModel> model_;
  CounterFamily requests_, rows_, reloads_;
  Histogram seconds_, batch_rows_;
  Batcher batcher_;
};

}  // namespace cohort
