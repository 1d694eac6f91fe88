// HTTP/1.1 for one handler: connections, limits, deadlines, a stop that finishes what was begun.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/types.h"
#include "serve/http_head.h"

namespace cohort {

struct HttpRequest {
  std::string method, path;            // the path decoded, without the query
  std::string body;                    // decompressed
  std::string header_length;           // Inference-Header-Content-Length; empty: not there
  std::string content_type;
};

struct HttpReply {
  int status = 200;
  std::string body, type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
};
// {"error": text}; with Retry-After where the status says that later may help.
HttpReply error_reply(int status, const std::string& text);

struct HttpLimits {
  HeadLimits head;
  // Served at a time, each by a thread. Where others wait, idle and slow ones give way.
  int connections = 64;
  i64 bodies = 4;                      // room for that many bodies of the largest size, of all requests
  std::chrono::milliseconds head_time{10000}, body_time{30000}, write_time{30000};
  std::chrono::milliseconds idle_time{60000};   // between two requests of a connection
};

class HttpServer {
 public:
  using Handler = std::function<HttpReply(const HttpRequest&)>;
  // `handle` is called by many threads. What it throws is answered with 500. `seen` is told of every
  // answer that is sent without it: status.
  HttpServer(const HttpLimits& limits, Handler handle, std::function<void(int)> seen = {});
  ~HttpServer();
  // Port 0: any free one. The port; Exit::usage where it cannot be had.
  int bind(const std::string& host, int port);
  // Serves until stop() is called and everything that was begun is answered. After bind(), once.
  void run();
  // From now on every answer closes its connection: clients go elsewhere. Any thread.
  void drain();
  void stop();                         // any thread, any time
  i64 connections() const;             // open now

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cohort
