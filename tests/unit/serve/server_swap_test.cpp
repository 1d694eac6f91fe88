// A model replaced under load.
#include <gtest/gtest.h>

#include <future>

#include "serve/server.h"
#include "unit/serve/server_fake.h"
#include "unit/serve/tiny.h"

namespace cohort {
namespace {

using nlohmann::json;

ServerOptions quick() {
  ServerOptions options;
  options.batch.wait = std::chrono::microseconds(0);
  return options;
}

// What a model staged, and what it calls its outputs, means nothing to another.
TEST(ServerSwap, ARequestIsReadAnsweredAndWrittenByOneModel) {
  FakeModel first, second;
  const auto with_stage = [](FakeModel& fake, const std::string& version) {
    const auto model = fake.served(version);
    model->stage = [version](const std::vector<RawColumn>&, i64 rows) {
      return std::vector<std::vector<u8>>(static_cast<std::size_t>(rows),
                                          {static_cast<u8>(version[0])});
    };
    model->make = [&fake, version]() -> AnswerRows {
      return [&fake, version](const std::vector<json>& rows, i64, const Unwanted&) {
        ++fake.entered;
        while (fake.held) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        std::vector<RowReply> replies(rows.size());
        for (std::size_t r = 0; r < rows.size(); ++r)
          if (rows[r].get_binary().at(0) == static_cast<u8>(version[0]))
            replies[r].answer.output = replies[r].answer.probabilities = {0.5, 0.5};
          else
            replies[r].answer.error = "staged by another model";
        return replies;
      };
    };
    return model;
  };
  const auto old = with_stage(first, "1");
  old->loss = LossKind::mse;
  ServerOptions options = quick();
  options.batch.workers = 1;
  Server server(old, options);
  BinaryRequest request;
  request.add("n", "FP32", 1, raw_bytes(0.5f));
  const auto ask = [&] { return server.handle(request.to("fake")); };
  first.held = true;
  std::vector<std::future<HttpReply>> begun;   // one in the worker's hands, one in the queue
  for (int k = 0; k < 2; ++k) begun.push_back(std::async(std::launch::async, ask));
  while (first.entered < 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::future<void> replaced =
      std::async(std::launch::async, [&] { server.replace(with_stage(second, "2")); });
  const std::string path = "/v2/models/fake/versions/2";
  while (server.handle({"GET", path, "", "", ""}).status != 200)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const auto expect_version = [](const HttpReply& reply, const char* version, std::size_t outputs) {
    ASSERT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(json::parse(reply.body).at("model_version"), version);
    EXPECT_EQ(json::parse(reply.body).at("outputs").size(), outputs);
  };
  expect_version(ask(), "2", 3);               // while the model before still has requests
  first.held = false;
  for (auto& reply : begun) expect_version(reply.get(), "1", 1);
  replaced.get();
  expect_version(ask(), "2", 3);
}

// Requests of many batches, more threads than one, scorers that take long to be made.
TEST(ServerSwap, NoRequestIsLostWhileAModelIsReplaced) {
  ServerOptions options = quick();
  options.batch.workers = 4;
  options.batch.rows = 4;
  FakeModel models[3];
  const auto slow = [&](int k) {
    const auto model = models[k].served(std::to_string(k));
    model->make = [make = model->make] {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      return make();
    };
    return model;
  };
  Server server(slow(0), options);
  std::atomic<bool> stop{false};
  std::atomic<int> answered{0};
  const json numbers = {{"name", "n"}, {"datatype", "FP32"}, {"shape", {50}},
                        {"data", std::vector<double>(50, 0.25)}};
  const std::string body = json{{"inputs", {numbers}}}.dump();
  std::vector<std::future<void>> clients;
  for (int c = 0; c < 4; ++c)
    clients.push_back(std::async(std::launch::async, [&] {
      while (!stop) {
        const HttpReply reply = server.handle({"POST", "/v2/models/fake/infer", body, "", ""});
        EXPECT_EQ(reply.status, 200) << reply.body;
        ++answered;
      }
    }));
  for (int k : {1, 2}) {
    const int before = answered;
    for (int n = 0; n < 60000 && !testing::Test::HasFailure() && answered < before + 20; ++n)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    server.replace(slow(k));
    EXPECT_EQ(models[k].made, 4);
  }
  stop = true;
  for (auto& client : clients) client.get();
}

// The same rows are other ids, and so other bytes, to a model that was trained on other data.
TEST(ServerSwap, ModelsOfOtherVocabulariesAreSwappedUnderBinaryLoad) {
  const Tiny tinies[] = {make_two_tower("swap_a"), make_two_tower("swap_b", false, "", 3)};
  std::shared_ptr<const ServedModel> models[2];
  std::vector<double> expected[2];
  ServerOptions options = quick();
  options.batch.workers = 3;
  options.batch.rows = 8;
  const std::vector<json> rows = tinies[0].raw_rows();
  const auto any = served_model(tinies[0].bundle("b"), {"tiny", "0"}, 8);
  const BinaryRequest binary = binary_of(*any, rows);
  const HttpRequest request = binary.to("tiny");
  for (int k : {0, 1}) {
    models[k] = served_model(tinies[k].bundle("b"), {"tiny", std::to_string(k)}, 8);
    Server alone(models[k], options);
    const HttpReply reply = alone.handle(request);
    ASSERT_EQ(reply.status, 200) << reply.body;
    expected[k] = json::parse(reply.body).at("outputs")[0].at("data").get<std::vector<double>>();
  }
  ASSERT_NE(expected[0], expected[1]);
  Server server(models[0], options);
  std::atomic<bool> stop{false};
  std::atomic<int> answered{0};
  std::vector<std::future<void>> clients;
  for (int c = 0; c < 3; ++c)
    clients.push_back(std::async(std::launch::async, [&] {
      while (!stop) {
        const HttpReply reply = server.handle(request);
        ASSERT_EQ(reply.status, 200) << reply.body;
        const json body = json::parse(reply.body);
        const auto got = body.at("outputs")[0].at("data").get<std::vector<double>>();
        const auto& wanted = expected[body.at("model_version") == "0" ? 0 : 1];
        for (std::size_t r = 0; r < wanted.size(); ++r) ASSERT_NEAR(got[r], wanted[r], 1e-6) << r;
        ++answered;
      }
    }));
  for (int k = 1; k <= 10; ++k) {
    const int before = answered;
    for (int n = 0; n < 60000 && !testing::Test::HasFailure() && answered < before + 3; ++n)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    server.replace(models[k % 2]);
  }
  stop = true;
  for (auto& client : clients) client.get();
}

}  // namespace
}  // namespace cohort
