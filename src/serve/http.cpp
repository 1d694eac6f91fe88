// The only file that includes httplib: it parses requests, decodes bodies and writes answers. Heads
// are checked before, and bytes come through Connection, as httplib alone has no bound on lines, on
// header lines, on decompressed bodies or on the time that a request takes.
#include "serve/http.h"

#include <httplib.h>
#include <sys/socket.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "serve/http_stream.h"

namespace cohort {
namespace {

const char* phrase(int status) {
  switch (status) {
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 411: return "Length Required";
    case 413: return "Payload Too Large";
    case 414: return "URI Too Long";
    case 431: return "Request Header Fields Too Large";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return "Bad Request";
  }
}

// Long bodies that are refused.
constexpr i64 waste_bytes = i64{1} << 28;
constexpr std::chrono::milliseconds waste_time{5000};

// Answered without httplib, which has not seen the request; the connection is closed behind it.
void send_alone(Connection& connection, int status, const std::string& reason) {
  const HttpReply reply = error_reply(status, reason);
  std::string text = fmt::format("HTTP/1.1 {} {}\r\nConnection: close\r\nContent-Type: {}\r\n"
                                 "Content-Length: {}\r\n", status, phrase(status), reply.type,
                                 reply.body.size());
  for (const auto& [name, value] : reply.headers) text += name + ": " + value + "\r\n";
  if (status == 405) text += "Allow: GET, HEAD, POST\r\n";
  text += "\r\n" + reply.body;
  connection.write(text.data(), text.size());
  connection.flush();
  if (status == 413) connection.discard(waste_bytes, waste_time);
}

class Stream : public httplib::Stream {
 public:
  explicit Stream(Connection& connection) : connection_(connection) {}
  bool is_readable() const override { return true; }
  bool is_writable() const override { return true; }
  ssize_t read(char* to, std::size_t size) override { return connection_.read(to, size); }
  ssize_t write(const char* from, std::size_t size) override {
    return connection_.write(from, size) ? static_cast<ssize_t>(size) : -1;
  }
  void get_remote_ip_and_port(std::string&, int& port) const override { port = 0; }
  void get_local_ip_and_port(std::string&, int& port) const override { port = 0; }
  socket_t socket() const override { return connection_.socket(); }

 private:
  Connection& connection_;
};

// A request being served by this thread.
struct Exchange {
  Connection* connection = nullptr;
  i64 body_bytes = 0;                  // taken from the room for bodies
  bool closes = false;                 // httplib says so to the client
  bool close = false;                  // found out meanwhile
};
thread_local Exchange* exchange = nullptr;

class Library : public httplib::Server {
 public:
  explicit Library(std::function<void(int)> serve) : serve_(std::move(serve)) {}
  // httplib's own backlog is 5: connections beyond would wait for seconds.
  void widen_backlog() { ::listen(svr_sock_, 1024); }
  bool process(httplib::Stream& stream, bool close, bool& closed) {
    return process_request(stream, close, closed, [](httplib::Request&) {});
  }

 private:
  bool process_and_close_socket(socket_t socket) override {
    serve_(static_cast<int>(socket));
    return true;
  }
  std::function<void(int)> serve_;
};

// Threads for connections, and how many of those have one, or wait for one.
struct Places {
  std::atomic<i64> taken{0}, waiting{0};
};
class Pool : public httplib::ThreadPool {
 public:
  Pool(int threads, Places& places)
      : ThreadPool(static_cast<std::size_t>(threads)), places_(places) {}
  void enqueue(std::function<void()> work) override {
    ++places_.waiting;
    ThreadPool::enqueue([this, work = std::move(work)] {
      --places_.waiting;
      ++places_.taken;
      work();
      --places_.taken;
    });
  }

 private:
  Places& places_;
};

void set_reply(httplib::Response& to, HttpReply reply) {
  to.status = reply.status;
  to.body = std::move(reply.body);
  to.set_header("Content-Type", reply.type);
  for (const auto& [name, value] : reply.headers) to.set_header(name, value);
}

}  // namespace

HttpReply error_reply(int status, const std::string& text) {
  HttpReply reply;
  reply.status = status;
  reply.body = nlohmann::json{{"error", text}}.dump(
      -1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (status == 429 || status == 503) reply.headers.emplace_back("Retry-After", "1");
  return reply;
}

struct HttpServer::State {
  State(const HttpLimits& l, Handler h, std::function<void(int)> s)
      : limits(l), handle(std::move(h)), seen(std::move(s)), library([this](int c) { serve(c); }) {
    library.new_task_queue = [this] { return new Pool(limits.connections, places); };
    library.set_payload_max_length(static_cast<std::size_t>(limits.head.body_bytes));
    // Told to clients; the connections themselves obey serve().
    library.set_keep_alive_max_count(1000000);
    library.set_keep_alive_timeout(limits.idle_time.count() / 1000);
    library.set_socket_options([](socket_t socket) {
      const int on = 1;   // httplib would let two servers share a port
      ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    });
    library.set_pre_routing_handler([this](const httplib::Request& from, httplib::Response& to) {
      if (from.method == "POST") return httplib::Server::HandlerResponse::Unhandled;
      answer(from, {}, to);
      return httplib::Server::HandlerResponse::Handled;
    });
    library.Post("[\\s\\S]*", [this](const httplib::Request& from, httplib::Response& to,
                                     const httplib::ContentReader& content) {
      post(from, to, content);
    });
    library.set_error_handler([this](const httplib::Request&, httplib::Response& to) {
      if (!to.body.empty()) return;
      exchange->close = true;
      if (seen) seen(to.status);
      set_reply(to, error_reply(to.status, "the request cannot be read"));
    });
  }

  void answer(const httplib::Request& from, std::string body, httplib::Response& to) {
    HttpRequest request;
    request.method = from.method;
    request.path = from.path;
    request.body = std::move(body);
    request.header_length = from.get_header_value("Inference-Header-Content-Length");
    request.content_type = from.get_header_value("Content-Type");
    HttpReply reply;
    try {
      reply = handle(request);
    } catch (const std::exception& e) {
      log::error("a request to {} failed: {}", request.path, e.what());
      reply = error_reply(500, "the server failed; its log says why");
      if (seen) seen(500);
    }
    set_reply(to, std::move(reply));
    if ((draining || stopping) && !exchange->closes) {
      exchange->close = true;
      to.set_header("Connection", "close");
    }
  }

  void refuse(httplib::Response& to, int status, const std::string& reason) {
    exchange->close = true;
    exchange->connection->discard(waste_bytes, waste_time);
    if (seen) seen(status);
    set_reply(to, error_reply(status, reason));
    if (!exchange->closes) to.set_header("Connection", "close");
  }

  void post(const httplib::Request& from, httplib::Response& to,
            const httplib::ContentReader& content) {
    if (from.is_multipart_form_data())
      return refuse(to, 415, "a form; expected Content-Type: application/json");
    const std::string encoding = from.get_header_value("Content-Encoding");
    if (!encoding.empty() && encoding != "identity" && encoding != "gzip" && encoding != "deflate" &&
        encoding != "br")
      return refuse(to, 415, "expected Content-Encoding: gzip, deflate, br or none");
    std::string body;
    bool long_body = false, no_room = false;
    const bool whole = content([&](const char* bytes, std::size_t count) {
      const i64 more = static_cast<i64>(count);
      exchange->body_bytes += more;
      no_room = bodies.fetch_add(more) + more > limits.bodies * limits.head.body_bytes;
      long_body = static_cast<i64>(body.size()) + more > limits.head.body_bytes;
      if (no_room || long_body) return false;
      body.append(bytes, count);
      return true;
    });
    const Connection& c = *exchange->connection;
    if (long_body || c.over())
      return refuse(to, 413, fmt::format("a body of more than {} bytes", limits.head.body_bytes));
    if (no_room) return refuse(to, 503, "too many large requests at a time");
    if (c.late()) return refuse(to, 408, "the body did not come in time");
    if (!whole) return refuse(to, to.status == 415 ? 415 : 400, "the body cannot be read");
    answer(from, std::move(body), to);
  }

  // Whether the connection stays open.
  bool serve_one(Connection& connection) {
    const auto refuse_head = [&](int status, const std::string& reason) {
      if (seen) seen(status);
      send_alone(connection, status, reason);
      return false;
    };
    switch (connection.read_head(Clock::now() + limits.head_time, limits.head.head_bytes)) {
      case Connection::Wait::late: return refuse_head(408, "the head did not come in time");
      case Connection::Wait::refused:
        return refuse_head(431, fmt::format("a head of more than {} bytes", limits.head.head_bytes));
      case Connection::Wait::ended: return false;
      case Connection::Wait::ready: break;
    }
    Head head = read_head(connection.take_head(), limits.head);
    if (head.status != 0) return refuse_head(head.status, head.reason);
    const i64 body = head.chunked ? 2 * limits.head.body_bytes + 4096 : head.body_bytes;
    connection.limit(Clock::now() + limits.body_time, static_cast<i64>(head.text.size()) + body);
    connection.put_back(std::move(head.text));
    Exchange now;
    now.connection = &connection;
    exchange = &now;
    Stream stream(connection);
    const bool close = head.close || draining || stopping;
    bool closed = close;
    now.closes = close;
    const bool good = library.process(stream, close, closed);
    exchange = nullptr;
    bodies -= now.body_bytes;
    return connection.flush() && good && !closed && !close && !now.close;
  }

  void serve(int socket) {
    Connection connection(socket, [this] {
      return places.waiting > 0 && places.taken >= limits.connections;
    });
    connection.write_time(limits.write_time);
    ++open;
    const auto stay = [&] { return !stopping && open < limits.connections; };
    try {
      while (connection.wait_for_bytes(Clock::now() + limits.idle_time, stay) ==
                 Connection::Wait::ready && serve_one(connection)) {}
    } catch (const std::exception& e) {
      log::error("a connection failed: {}", e.what());
    }
    exchange = nullptr;
    --open;
  }

  HttpLimits limits;
  Handler handle;
  std::function<void(int)> seen;
  std::atomic<i64> open{0}, bodies{0};
  Places places;
  std::atomic<bool> draining{false}, stopping{false}, started{false}, ended{false};
  Library library;
};

HttpServer::HttpServer(const HttpLimits& limits, Handler handle, std::function<void(int)> seen)
    : state_(std::make_unique<State>(limits, std::move(handle), std::move(seen))) {}

HttpServer::~HttpServer() = default;

int HttpServer::bind(const std::string& host, int port) {
  const bool any = port == 0;
  const bool bound = any ? (port = state_->library.bind_to_any_port(host)) > 0
                         : state_->library.bind_to_port(host, port);
  if (!bound)
    fail(Exit::usage, "cannot listen on {} port {}: is the address one of this host, and the port "
         "free and above 1023?", host, any ? 0 : port);
  state_->library.widen_backlog();
  return port;
}

void HttpServer::run() {
  state_->started = true;
  if (!state_->stopping) state_->library.listen_after_bind();
  state_->ended = true;
}

void HttpServer::drain() { state_->draining = true; }

void HttpServer::stop() {
  state_->stopping = true;
  // What httplib is told before it listens, it forgets.
  while (state_->started && !state_->ended && !state_->library.is_running())
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  state_->library.stop();
}

i64 HttpServer::connections() const { return state_->open; }

}  // namespace cohort
