// Mutated requests to a server: whatever comes, an answer that can be read. Fixed seeds.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "base/hash.h"
#include "base/rng.h"
#include "serve/http_head.h"
#include "serve/server.h"
#include "unit/serve/server_fake.h"

namespace cohort {
namespace {

using nlohmann::json;

std::string mutate(std::string text, Stream& random, const std::vector<std::string>& words) {
  for (i64 edits = 1 + random.below(4); edits > 0 && !text.empty(); --edits) {
    const std::size_t at = static_cast<std::size_t>(random.below(static_cast<i64>(text.size())));
    const std::size_t length = static_cast<std::size_t>(1 + random.below(8));
    switch (random.below(6)) {
      case 0: text[at] = static_cast<char>(random.below(256)); break;
      case 1: text[at] = static_cast<char>(text[at] ^ (1 << random.below(8))); break;
      case 2: text.erase(at, length); break;
      case 3: text.insert(at, text.substr(at, length)); break;
      case 4:
        text.insert(at, words[static_cast<std::size_t>(random.below(static_cast<i64>(words.size())))]);
        break;
      default: if (random.below(4) == 0) text.resize(at); break;
    }
  }
  return text;
}

std::string binary_request(std::string& length) {
  const json head = {
      {"id", "1"},
      {"inputs",
       {{{"name", "n"}, {"datatype", "FP32"}, {"shape", {2}}, {"parameters", {{"binary_data_size", 8}}}},
        {{"name", "text"}, {"datatype", "BYTES"}, {"shape", {2, 1}},
         {"parameters", {{"binary_data_size", 14}}}},
        {{"name", "events"}, {"datatype", "INT64"}, {"shape", {2, 2}}, {"data", {1, 2, 3, 4}}},
        {{"name", "xy"}, {"datatype", "FP64"}, {"shape", {2, 1, 2}}, {"data", {{{1, 2}}, {{3, 4}}}}}}},
      {"outputs", {{{"name", "label"}, {"parameters", {{"binary_data", true}}}}, {{"name", "logits"}}}}};
  length = std::to_string(head.dump().size());
  std::string bytes(22, '\0');
  const float values[] = {0.5f, 1};
  std::memcpy(bytes.data(), values, 8);
  bytes[8] = 3;
  bytes[15] = 3;
  return head.dump() + bytes;
}

int connect_to(int port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<u16>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  return socket;
}

TEST(ServerFuzz, InferAndScoreRequests) {
  FakeModel fake;
  ServerOptions options;
  options.batch.wait = std::chrono::microseconds(0);
  Server server(fake.served(), options);
  std::string length;
  const std::string infer = binary_request(length);
  const std::string score = R"({"rows":[{"n":0.5,"text":"a"},{"n":1e3}],"top":0})";
  const std::vector<std::string> words = {"[",    "{",      "]",   "}",    "\"",  ",",  "-1",
                                          "1e99", "\\u0000", "null", "65537", "true", "0.5",
                                          "\"FP64\"", "\"BYTES\"", "\"binary_data_size\":"};
  std::set<int> codes;
  Stream random(mix_key(11, 21));
  const auto ask = [&](const std::string& path, const std::string& body, const std::string& head) {
    const HttpReply reply = server.handle({"POST", path, body, head, ""});
    codes.insert(reply.status);
    EXPECT_TRUE(reply.status == 200 || reply.status == 400) << reply.status << body;
    std::string text = reply.body;
    if (!reply.headers.empty() && reply.headers[0].first == "Inference-Header-Content-Length")
      text.resize(std::stoul(reply.headers[0].second));
    EXPECT_FALSE(json::parse(text, nullptr, false).is_discarded()) << text;
  };
  ask("/v2/models/fake/infer", infer, length);
  EXPECT_EQ(codes, std::set<int>{200});
  for (int k = 0; k < 20000; ++k) {
    const std::string body = mutate(infer, random, words);
    // The head's length follows the body's half of the time, so that mutations reach the tensors.
    const std::size_t shift = body.size() - infer.size() + std::stoul(length);
    ask("/v2/models/fake/infer", body,
        random.below(2) == 0 ? std::to_string(shift) : mutate(length, random, {"9", "-", " "}));
    ask("/v1/score", mutate(score, random, words), "");
  }
  EXPECT_EQ(codes, (std::set<int>{200, 400}));
}

TEST(ServerFuzz, Heads) {
  const std::string good =
      "POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: 25\r\nContent-Type: application/json\r\n\r\n";
  const std::vector<std::string> words = {"\r\n", "\r", "\n", ": ", "Content-Length: 1\r\n",
                                          "Transfer-Encoding: chunked\r\n", "Range: bytes=0-\r\n"};
  Stream random(mix_key(11, 22));
  i64 served = 0, refused = 0;
  for (int k = 0; k < 100000; ++k) {
    const std::string text = mutate(good, random, words);
    const Head head = read_head(text, {});
    (head.status == 0 ? served : refused) += 1;
    if (head.status != 0) {
      EXPECT_FALSE(head.reason.empty());
      continue;
    }
    EXPECT_EQ(end_of_head(head.text), head.text.size());
    EXPECT_LE(head.body_bytes, HeadLimits{}.body_bytes);
    EXPECT_FALSE(head.chunked && head.body_bytes > 0);
  }
  EXPECT_GT(served, 1000);
  EXPECT_GT(refused, 1000);
}

// Whole connections through the HTTP library.
TEST(ServerFuzz, Connections) {
  FakeModel fake;
  ServerOptions options;
  options.batch.wait = std::chrono::microseconds(0);
  Server server(fake.served(), options);
  HttpLimits limits;
  limits.head_time = limits.body_time = std::chrono::milliseconds(200);
  HttpServer http(limits, [&](const HttpRequest& request) { return server.handle(request); });
  const int port = http.bind("127.0.0.1", 0);
  std::thread thread([&] { http.run(); });
  const std::string good = "POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n"
                           "{\"rows\":[{\"n\":0.5}]}";
  const std::string chunked = "POST /v1/score HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "9\r\n{\"rows\":[\r\nb\r\n{\"n\":0.5}]}\r\n0\r\n\r\n";
  Stream random(mix_key(11, 23));
  const auto ask = [&](const std::string& text) {
    const int socket = connect_to(port);
    ::send(socket, text.data(), text.size(), MSG_NOSIGNAL);
    ::shutdown(socket, SHUT_WR);
    std::string reply;
    char piece[4096];
    for (ssize_t got; (got = ::recv(socket, piece, sizeof(piece), 0)) > 0;)
      reply.append(piece, static_cast<std::size_t>(got));
    ::close(socket);
    return reply;
  };
  for (int k = 0; k < 1500; ++k) {
    const std::string reply = ask(mutate(k % 2 == 0 ? good : chunked, random,
                                         {"\r\n", "0\r\n", "ffff", "Content-Encoding: gzip\r\n"}));
    EXPECT_TRUE(reply.empty() || reply.rfind("HTTP/1.1 ", 0) == 0) << reply;
  }
  EXPECT_EQ(ask(good).rfind("HTTP/1.1 200", 0), 0u);
  EXPECT_EQ(ask(chunked).rfind("HTTP/1.1 200", 0), 0u);
  http.stop();
  thread.join();
}

}  // namespace
}  // namespace cohort
