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
#include "fields/image.h"
#include "serve/http_head.h"
#include "serve/server.h"
#include "unit/serve/server_fake.h"
#include "unit/serve/tiny.h"

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

// A request's answer: 200 or 400, of JSON, maybe with bytes behind.
void expect_answer(const HttpReply& reply, const std::string& body) {
  EXPECT_TRUE(reply.status == 200 || reply.status == 400) << reply.status << body;
  std::string text = reply.body;
  if (!reply.headers.empty() && reply.headers[0].first == "Inference-Header-Content-Length")
    text.resize(std::stoul(reply.headers[0].second));
  EXPECT_FALSE(json::parse(text, nullptr, false).is_discarded()) << text;
}

const std::vector<std::string> json_words = {
    "[",    "{",     "]",    "}",   "\"",        ",",          "-1", "1e99", "\\u0000",
    "null", "65537", "true", "0.5", "\"FP64\"", "\"BYTES\"", "\"binary_data_size\":"};

TEST(ServerFuzz, InferAndScoreRequests) {
  FakeModel fake;
  ServerOptions options;
  options.batch.wait = std::chrono::microseconds(0);
  Server server(fake.served(), options);
  std::string length;
  const std::string infer = binary_request(length);
  const std::string score = R"({"rows":[{"n":0.5,"text":"a"},{"n":1e3}],"top":0})";
  std::set<int> codes;
  Stream random(mix_key(11, 21));
  const auto ask = [&](const std::string& path, const std::string& body, const std::string& head) {
    const HttpReply reply = server.handle({"POST", path, body, head, ""});
    codes.insert(reply.status);
    expect_answer(reply, body);
  };
  ask("/v2/models/fake/infer", infer, length);
  EXPECT_EQ(codes, std::set<int>{200});
  for (int k = 0; k < 20000; ++k) {
    const std::string body = mutate(infer, random, json_words);
    // The head's length follows the body's half of the time, so that mutations reach the tensors.
    const std::size_t shift = body.size() - infer.size() + std::stoul(length);
    ask("/v2/models/fake/infer", body,
        random.below(2) == 0 ? std::to_string(shift) : mutate(length, random, {"9", "-", " "}));
    ask("/v1/score", mutate(score, random, json_words), "");
  }
  EXPECT_EQ(codes, (std::set<int>{200, 400}));
}

// Every kind of column but a picture.
Tiny make_mixed() {
  std::string csv = "n,who,text,events,xy,label\n";
  for (int r = 0; r < 20; ++r)
    csv += fmt::format("{},u{},a word{} more,{} {} 1,0.5 {} 1 2,{}\n", 0.25 * r, r % 5, r % 3, r % 7,
                       r % 2, r, r % 2 ? "yes" : "no");
  return make_tiny("mixed", csv,
                   "  - {name: n, kind: number}\n  - {name: who, kind: id}\n"
                   "  - {name: text, kind: tokens}\n  - {name: events, kind: ids}\n"
                   "  - {name: xy, kind: numbers, width: 2}\n  - {name: label, kind: label}\n",
                   "  inputs: {n: {normalize: standard}, who: {}, text: {max_length: 8},\n"
                   "           events: {max_length: 6}, xy: {max_length: 5}}\n"
                   "  layers:\n"
                   "    - embedding: {name: w, from: who, dim: 2}\n"
                   "    - embedding: {name: te, from: text, dim: 3}\n"
                   "    - max_over_time: {name: t, from: te}\n"
                   "    - embedding: {name: ee, from: events, dim: 3}\n"
                   "    - lstm: {name: e, from: ee, units: 3}\n"
                   "    - lstm: {name: x, from: xy, units: 3}\n"
                   "    - concat: {name: all, from: [n, w, t, e, x]}\n"
                   "    - dense: {units: classes}\n"
                   "  loss: {cross_entropy: {target: label}}\n");
}

Tiny make_pictures() {
  std::map<std::string, std::string> files;
  for (const char* split : {"train", "test"})
    for (int k = 0; k < 6; ++k)
      files[fmt::format("{}/{}/{}.png", split, k % 2 ? "cat" : "dog", k)] =
          encode_png({4, 5, 3, std::string(60, static_cast<char>('a' + k))});
  return make_tiny_of("pictures", files,
                      "sources:\n"
                      "  - {path: train, format: image_folder, size: [4, 5], resize: true}\n"
                      "  - {path: test, format: image_folder, size: [4, 5], resize: true, split: test}\n"
                      "fields: [{name: image, kind: image}, {name: label, kind: label}]\n",
                      "  inputs: {image: {normalize: standard}}\n"
                      "  layers:\n    - conv2d: {from: image, filters: 2, kernel: 3}\n"
                      "    - flatten: {}\n    - dense: {units: classes}\n"
                      "  loss: {cross_entropy: {target: label}}\n");
}

// Requests of a real model's rows, as bytes, as JSON and as rows: mutated ones reach what makes them
// ready.
void ask_mutated(const Tiny& tiny, u64 seed) {
  const auto model = served_model(tiny.bundle("b"), {"tiny", "1"}, 4);
  ServerOptions options;
  options.batch.wait = std::chrono::microseconds(0);
  Server server(model, options);
  std::vector<json> rows = tiny.raw_rows();
  rows.resize(3);
  const HttpRequest binary = binary_of(*model, rows).to("tiny");
  json body = {{"rows", rows}}, inputs = json::array();
  for (const Preprocess::Column& column : model->columns) {
    json data = json::array();
    for (const json& row : rows) data.push_back(row.at(column.name));
    inputs.push_back({{"name", column.name}, {"datatype", "BYTES"}, {"shape", {3}}, {"data", data}});
  }
  const std::string score = body.dump(), tensors = json{{"inputs", inputs}}.dump();
  std::vector<std::string> words = json_words;
  if (model->two_tower) words.push_back("\"top\":3,");
  std::map<std::string, std::set<int>> codes;
  const auto ask = [&](const char* kind, const HttpRequest& request) {
    const HttpReply reply = server.handle(request);
    expect_answer(reply, request.body);
    codes[kind].insert(reply.status);
  };
  const std::size_t length = std::stoul(binary.header_length);
  ask("binary", binary);
  ask("tensors", {"POST", binary.path, tensors, "", ""});
  ask("score", {"POST", "/v1/score", score, "", ""});
  for (const auto& [kind, statuses] : codes) EXPECT_EQ(statuses, std::set<int>{200}) << kind;
  Stream random(mix_key(11, seed));
  for (int k = 0; k < 1500; ++k) {
    const std::string head = k % 2 ? binary.body.substr(0, length)
                                   : mutate(binary.body.substr(0, length), random, words);
    const std::string bytes = mutate(binary.body.substr(length), random, words);
    ask("binary", {"POST", binary.path, head + bytes, std::to_string(head.size()), ""});
    ask("tensors", {"POST", binary.path, mutate(tensors, random, words), "", ""});
    ask("score", {"POST", "/v1/score", mutate(score, random, words), "", ""});
  }
  for (const auto& [kind, statuses] : codes)
    EXPECT_EQ(statuses, (std::set<int>{200, 400})) << kind;
}

TEST(ServerFuzz, RowsOfRealModels) {
  ask_mutated(make_mixed(), 31);
  ask_mutated(make_pictures(), 32);
  ask_mutated(make_two_tower("fuzz"), 33);
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
