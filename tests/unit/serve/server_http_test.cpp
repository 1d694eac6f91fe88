#include "serve/http.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <thread>

#include "base/error.h"

namespace cohort {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::StartsWith;

// ---- heads

Head head_of(const std::string& text) { return read_head(text, {}); }

TEST(HttpHead, GoodOnesAreKeptAsTheyAre) {
  const std::string text = "POST /v1/score?a=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n";
  const Head head = head_of(text);
  EXPECT_EQ(head.status, 0) << head.reason;
  EXPECT_EQ(head.text, text);
  EXPECT_EQ(head.body_bytes, 12);
  EXPECT_FALSE(head.close);
  EXPECT_TRUE(head_of("POST / HTTP/1.1\r\ntransfer-encoding:  Chunked \r\n\r\n").chunked);
  EXPECT_TRUE(head_of("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n").close);
  EXPECT_TRUE(head_of("GET / HTTP/1.0\r\n\r\n").close);
}

TEST(HttpHead, RangesAreNotHonoured) {
  EXPECT_EQ(head_of("GET / HTTP/1.1\r\nRange: bytes=0-,0-,0-\r\nA: b\r\n\r\n").text,
            "GET / HTTP/1.1\r\nA: b\r\n\r\n");
}

TEST(HttpHead, WhatTwoReadersCouldUnderstandDifferentlyIsRefused) {
  const std::string post = "POST / HTTP/1.1\r\n";
  const std::pair<std::string, int> bad[] = {
      {"GET / HTTP/1.1\n\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", 400},
      {std::string("GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", 26), 400},
      {"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"GET http://a/ HTTP/1.1\r\n\r\n", 400},
      {"GET /a b HTTP/1.1\r\n\r\n", 400},
      {"GET /\r\n\r\n", 400},
      {"\r\n\r\n", 400},
      {"GET / HTTP/2.0\r\n\r\n", 505},
      {"DELETE / HTTP/1.1\r\n\r\n", 405},
      {post + "\r\n", 411},
      {post + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
      {post + "Content-Length: +1\r\n\r\n", 400},
      {post + "Content-Length: 1, 1\r\n\r\n", 400},
      {post + "Content-Length: 99999999999999999999\r\n\r\n", 400},
      {post + "Content-Length: 99999999999\r\n\r\n", 413},
      {post + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {post + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
      {"GET /" + std::string(3000, 'a') + " HTTP/1.1\r\n\r\n", 414},
      {"GET / HTTP/1.1\r\nA: " + std::string(40000, 'a') + "\r\n\r\n", 431}};
  for (const auto& [text, status] : bad) EXPECT_EQ(head_of(text).status, status) << text.substr(0, 80);
  std::string many = "GET / HTTP/1.1\r\n";
  for (int k = 0; k < 101; ++k) many += "a:b\r\n";
  EXPECT_EQ(head_of(many + "\r\n").status, 431);
}

// ---- connections

class Client {
 public:
  explicit Client(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    ::inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Client() { ::close(socket_); }
  bool connected() const { return connected_; }
  bool send(const std::string& text) {
    return ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(text.size());
  }
  void end() { ::shutdown(socket_, SHUT_WR); }
  // All that comes until the server closes, or until `enough` is in it. "" after a minute.
  std::string receive(const std::string& enough = "") {
    std::string all;
    pollfd one{socket_, POLLIN, 0};
    char piece[4096];
    while (::poll(&one, 1, 60000) == 1) {
      const ssize_t got = ::recv(socket_, piece, sizeof(piece), 0);
      if (got <= 0) return all;
      all.append(piece, static_cast<std::size_t>(got));
      if (!enough.empty() && all.find(enough) != std::string::npos) return all;
    }
    return "";
  }

 private:
  int socket_;
  bool connected_ = false;
};

std::string post(const std::string& body, const std::string& headers = "") {
  return "POST /echo HTTP/1.1\r\nHost: a\r\n" + headers + "Content-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}
const std::string get = "GET /hello%20you?q=1 HTTP/1.1\r\nHost: a\r\n\r\n";

struct Running {
  std::atomic<int> refused{0}, calls{0};
  std::atomic<bool> held{false};
  HttpServer http;
  int port;
  std::thread thread;
  explicit Running(const HttpLimits& limits = {})
      : http(limits, [this](const HttpRequest& r) { return answer(r); }, [this](int) { ++refused; }),
        port(http.bind("127.0.0.1", 0)),
        thread([this] { http.run(); }) {}
  ~Running() { end(); }
  void end() {
    http.stop();
    if (thread.joinable()) thread.join();
  }
  HttpReply answer(const HttpRequest& request) {
    ++calls;
    while (held) std::this_thread::sleep_for(milliseconds(1));
    if (request.path == "/throw") throw std::runtime_error("thrown");
    HttpReply reply;
    reply.body = request.method + " " + request.path + " [" + request.body + "]";
    return reply;
  }
};

HttpLimits small() {
  HttpLimits limits;
  limits.head.body_bytes = 1000;
  limits.head_time = limits.body_time = milliseconds(300);
  return limits;
}

TEST(Http, AnswersOneRequestAfterAnother) {
  Running server;
  Client client(server.port);
  for (int k = 0; k < 20; ++k) {
    ASSERT_TRUE(client.send(get));
    EXPECT_THAT(client.receive("[]"), StartsWith("HTTP/1.1 200 OK\r\n"));
    ASSERT_TRUE(client.send(post("body " + std::to_string(k))));
    EXPECT_THAT(client.receive("]"), HasSubstr("POST /echo [body " + std::to_string(k) + "]"));
  }
  ASSERT_TRUE(client.send(post("a") + get + post("b", "Connection: close\r\n")));   // pipelined
  const std::string all = client.receive();
  EXPECT_THAT(all, HasSubstr("[a]"));
  EXPECT_THAT(all, HasSubstr("GET /hello you []"));
  EXPECT_THAT(all, HasSubstr("[b]"));
}

TEST(Http, ChunkedBodiesAndThoseInPieces) {
  Running server(small());
  Client client(server.port);
  client.send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  EXPECT_THAT(client.receive("]"), HasSubstr("[abcde]"));
  for (const char c : post("abc")) client.send(std::string(1, c));
  EXPECT_THAT(client.receive("]"), HasSubstr("[abc]"));
  client.send(post("abc", "Expect: 100-continue\r\n"));
  EXPECT_THAT(client.receive("]"), HasSubstr("HTTP/1.1 100 Continue\r\n\r\n"));
}

TEST(Http, HostileRequestsGetAnErrorAndTheNextOneAnAnswer) {
  Running server(small());
  std::string chunks;
  for (int k = 0; k < 400; ++k) chunks += "4\r\nabcd\r\n";
  const std::string chunked = "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::pair<std::string, std::string> bad[] = {
      {"nonsense\r\n\r\n", "400"},
      {std::string(70000, 'a'), "431"},
      {"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n" + std::string(1001, 'a'), "413"},
      {"POST / HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n", "413"},
      {chunked + chunks + "0\r\n\r\n", "413"},
      {chunked + "zz\r\n", "400"},
      {chunked + "ffffffffffffffff\r\nabc", "4"},
      {post("a", "Content-Type: multipart/form-data; boundary=x\r\n"), "415"},
      {post("a", "Content-Encoding: nonsense\r\n"), "4"},
      {post("not gzip", "Content-Encoding: gzip\r\n"), "4"},
      {"GET /%0A HTTP/1.1\r\nConnection: close\r\n\r\n", "200"},
      {"PUT / HTTP/1.1\r\n\r\n", "405"},
      {post("abc", "Content-Length: 3\r\n"), "400"}};
  for (const auto& [text, status] : bad) {
    Client client(server.port);
    client.send(text);
    EXPECT_THAT(client.receive(), StartsWith("HTTP/1.1 " + status)) << text.substr(0, 90);
    Client next(server.port);
    next.send(get);
    EXPECT_THAT(next.receive("[]"), StartsWith("HTTP/1.1 200")) << text.substr(0, 90);
  }
  EXPECT_GE(server.refused, 12);
  Client thrown(server.port);
  thrown.send("GET /throw HTTP/1.1\r\n\r\n");
  EXPECT_THAT(thrown.receive("}"), StartsWith("HTTP/1.1 500"));
}

TEST(Http, WhoeverSendsALongBodyFirstIsAnsweredToo) {
  Running server(small());
  const std::string body(32 << 20, 'a');   // more than sockets hold
  for (const std::string& text :
       {"POST / HTTP/1.1\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body,
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2000000\r\n" + body + "\r\n0\r\n\r\n"}) {
    Client client(server.port);
    EXPECT_TRUE(client.send(text));
    EXPECT_THAT(client.receive(), StartsWith("HTTP/1.1 413"));
  }
}

TEST(Http, SlowRequestsEnd) {
  Running server(small());
  Client head(server.port), body(server.port), silent(server.port);
  head.send("GET / HTTP/1.1\r\nA: ");
  body.send("POST / HTTP/1.1\r\nContent-Length: 900\r\n\r\nabc");
  std::atomic<bool> over{false};
  std::thread drip([&] {   // bytes go on coming: only the whole time counts
    while (!over) {
      head.send("a");
      body.send("a");
      std::this_thread::sleep_for(milliseconds(20));
    }
  });
  EXPECT_THAT(head.receive(), StartsWith("HTTP/1.1 408"));
  EXPECT_THAT(body.receive(), StartsWith("HTTP/1.1 408"));
  over = true;
  drip.join();
}

TEST(Http, IdleConnectionsGiveWayWhereAllAreTaken) {
  HttpLimits limits;
  limits.connections = 2;
  Running server(limits);
  Client a(server.port), b(server.port), c(server.port);
  for (Client* client : {&a, &b}) {
    client->send(get);
    EXPECT_THAT(client->receive("[]"), StartsWith("HTTP/1.1 200"));
  }
  c.send(get);
  EXPECT_THAT(c.receive("[]"), StartsWith("HTTP/1.1 200"));
}

TEST(Http, SlowClientsGiveWayWhereAllAreTaken) {
  HttpLimits limits;
  limits.connections = 4;
  Running server(limits);
  std::vector<std::unique_ptr<Client>> slow;
  for (int k = 0; k < 12; ++k) {
    slow.push_back(std::make_unique<Client>(server.port));
    slow.back()->send(k % 2 == 0 ? "GET / HTTP/1.1\r\nA: "
                                 : "POST / HTTP/1.1\r\nContent-Length: 90000\r\n\r\n");
  }
  std::atomic<bool> over{false};
  std::thread drip([&] {
    while (!over) {
      for (auto& client : slow) client->send("a");
      std::this_thread::sleep_for(milliseconds(20));
    }
  });
  for (int k = 0; k < 3; ++k) {
    const auto start = std::chrono::steady_clock::now();
    Client client(server.port);
    client.send(get);
    EXPECT_THAT(client.receive("[]"), StartsWith("HTTP/1.1 200"));
    EXPECT_LT(std::chrono::steady_clock::now() - start, limits.head_time - milliseconds(2000));
  }
  over = true;
  drip.join();
}

TEST(Http, SlowClientsAreServedWhereNobodyWaits) {
  HttpLimits limits;
  limits.connections = 1;
  Running server(limits);
  Client client(server.port);
  for (const std::string& piece :
       {std::string("POST /echo HTTP/1.1\r\n"), std::string("Content-Length: 3\r\n\r\na"),
        std::string("b"), std::string("c")}) {
    client.send(piece);
    std::this_thread::sleep_for(milliseconds(300));
  }
  EXPECT_THAT(client.receive("]"), HasSubstr("[abc]"));
}

TEST(Http, BodiesTogetherAreBounded) {
  HttpLimits limits = small();
  limits.bodies = 1;
  Running server(limits);
  server.held = true;
  Client first(server.port), second(server.port);
  first.send(post(std::string(900, 'a')));
  while (server.calls < 1) std::this_thread::sleep_for(milliseconds(1));
  second.send(post(std::string(900, 'b')));
  const std::string reply = second.receive();
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(reply, HasSubstr("Retry-After: "));
  server.held = false;
  EXPECT_THAT(first.receive("]"), StartsWith("HTTP/1.1 200"));
  second.end();
  Client third(server.port);
  third.send(post(std::string(900, 'c')));
  EXPECT_THAT(third.receive("]"), StartsWith("HTTP/1.1 200"));
}

TEST(Http, AStopFinishesWhatWasBegun) {
  Running server;
  server.held = true;
  Client begun(server.port), idle(server.port);
  idle.send(get);
  begun.send(post("begun"));
  while (server.calls < 2) std::this_thread::sleep_for(milliseconds(1));
  server.http.drain();
  std::thread end([&] { server.end(); });
  std::this_thread::sleep_for(milliseconds(50));
  server.held = false;
  const std::string reply = begun.receive();
  EXPECT_THAT(reply, HasSubstr("[begun]"));
  EXPECT_THAT(reply, HasSubstr("Connection: close"));
  EXPECT_THAT(idle.receive(), HasSubstr("GET /hello you []"));
  end.join();
  EXPECT_FALSE(Client(server.port).connected());
  EXPECT_EQ(server.http.connections(), 0);
}

TEST(Http, APortThatIsTakenIsToldAndAStopBeforeTheStartHolds) {
  Running server;
  HttpServer other({}, [](const HttpRequest&) { return HttpReply{}; });
  EXPECT_THROW(other.bind("127.0.0.1", server.port), Error);
  HttpServer third({}, [](const HttpRequest&) { return HttpReply{}; });
  third.bind("127.0.0.1", 0);
  third.stop();
  third.run();
}

}  // namespace
}  // namespace cohort
