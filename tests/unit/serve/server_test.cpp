#include "serve/server.h"

#include <gmock/gmock.h>

#include <cstring>
#include <future>
#include <limits>

#include "serve/server_infer.h"
#include "unit/serve/server_fake.h"
#include "unit/serve/tiny.h"

namespace cohort {
namespace {

using nlohmann::json;
using testing::HasSubstr;

struct Fixture {
  FakeModel fake;
  Server server;
  explicit Fixture(ServerOptions options = quick()) : server(fake.served(), options) {}
  static ServerOptions quick() {
    ServerOptions options;
    options.batch.wait = std::chrono::microseconds(0);
    return options;
  }
  HttpReply get(const std::string& path) { return server.handle({"GET", path, "", "", ""}); }
  HttpReply post(const std::string& path, const std::string& body, const std::string& length = "") {
    return server.handle({"POST", path, body, length, "application/json"});
  }
  HttpReply infer(const json& body) { return post("/v2/models/fake/infer", body.dump()); }
};

json tensor(const std::string& name, const std::string& datatype, const json& shape,
            const json& data) {
  return {{"name", name}, {"datatype", datatype}, {"shape", shape}, {"data", data}};
}
json numbers(int rows) {
  json data = json::array();
  for (int r = 0; r < rows; ++r) data.push_back(0.25);
  return tensor("n", "FP32", {rows}, data);
}

void expect_error(const HttpReply& reply, int status, const std::string& what) {
  EXPECT_EQ(reply.status, status) << reply.body;
  const json body = json::parse(reply.body);
  ASSERT_TRUE(body.contains("error"));
  EXPECT_THAT(body.at("error").get<std::string>(), HasSubstr(what));
}

TEST(Server, HealthAndMetadata) {
  Fixture f;
  EXPECT_EQ(json::parse(f.get("/v2").body).at("name"), "cohort");
  for (const char* path : {"/v2/health/live", "/v2/health/ready", "/v2/models/fake/ready",
                           "/v2/models/fake/versions/1/ready", "/", "/metrics", "/v1/model"})
    EXPECT_EQ(f.get(path).status, 200) << path;
  const json model = json::parse(f.get("/v2/models/fake").body);
  EXPECT_EQ(model.at("versions"), json({"1"}));
  EXPECT_EQ(model.at("inputs").size(), 6u);
  EXPECT_EQ(model.at("inputs")[0].at("datatype"), "FP32");
  EXPECT_EQ(model.at("inputs")[2].at("shape"), json::array({-1}));
  EXPECT_EQ(model.at("outputs")[0].at("shape"), json({-1, 2}));
  f.server.set_ready(false);
  EXPECT_EQ(f.get("/v2/health/live").status, 200);
  for (const char* path : {"/v2/health/ready", "/v2/models/fake/ready"})
    EXPECT_EQ(f.get(path).status, 503) << path;
}

TEST(Server, WrongPathsAndMethods) {
  Fixture f;
  for (const char* path : {"/nothing", "/v2/models", "/v2/models/other", "/v2/health", "/v1",
                           "/v2/models/fake/versions/2", "/v2/models/fake/versions",
                           "/v2/models/fake/stop", "/v2/models/fake/ready/now", "//", "/v2/../v2"})
    expect_error(f.get(path), 404, "");
  expect_error(f.get("/v2/models/fake/infer"), 405, "POST");
  expect_error(f.get("/v1/score"), 405, "POST");
  for (const char* path : {"/", "/metrics", "/v2", "/v2/health/live", "/v2/models/fake", "/v1/model"})
    expect_error(f.post(path, "{}"), 405, "GET");
}

TEST(Server, InferAnswersAllOutputsOrThoseAskedFor) {
  Fixture f;
  const HttpReply reply =
      f.infer({{"id", "a \"1\""}, {"inputs", {tensor("n", "FP64", {2, 1}, {{0.25}, {0.75}})}}});
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json body = json::parse(reply.body);
  EXPECT_EQ(body.at("id"), "a \"1\"");
  EXPECT_EQ(body.at("model_name"), "fake");
  EXPECT_EQ(body.at("model_version"), "1");
  ASSERT_EQ(body.at("outputs").size(), 3u);
  EXPECT_EQ(body.at("outputs")[0],
            tensor("probabilities", "FP32", {2, 2}, {0.25, 0.75, 0.75, 0.25}));
  EXPECT_EQ(body.at("outputs")[1],
            tensor("label", "BYTES", json::array({2}), {"bad \"one\"", "good"}));
  EXPECT_EQ(body.at("outputs")[2].at("data"), json({2.5, 0.0, 7.5, 0.0}));

  const json label = json::parse(
      f.infer({{"inputs", {numbers(1)}}, {"outputs", {{{"name", "label"}}}}}).body);
  ASSERT_EQ(label.at("outputs").size(), 1u);
  EXPECT_FALSE(label.contains("id"));
  expect_error(f.infer({{"inputs", {numbers(1)}}, {"outputs", {{{"name", "loss"}}}}}), 400,
               "unknown output 'loss'");
  EXPECT_EQ(json::parse(f.infer({{"inputs", {tensor("n", "FP32", json::array({0}), json::array())}}})
                            .body).at("outputs")[0].at("shape"), json({0, 2}));
}

TEST(Server, PredictionsComeWithTheirRawValuesWhereThereAreSome) {
  FakeModel fake;
  const auto model = fake.served();
  model->loss = LossKind::mse;
  const RowReply reply{{{1.5, 2}, {}, {7, 9}, ""}, {}};
  for (const bool has_value : {false, true}) {
    model->has_value = has_value;
    const json told = json::parse(model_metadata(*model));
    InferRequest request;
    for (const json& output : told.at("outputs"))
      request.outputs.push_back({output.at("name").get<std::string>(), false});
    const json body = json::parse(write_infer(request, *model, {reply}).body);
    ASSERT_EQ(told.at("outputs").size(), has_value ? 2u : 1u);
    ASSERT_EQ(body.at("outputs").size(), has_value ? 2u : 1u);
    EXPECT_EQ(body.at("outputs")[0], tensor("prediction", "FP32", {1, 2}, {1.5, 2}));
    if (!has_value) continue;
    EXPECT_EQ(body.at("outputs")[1], tensor("value", "FP32", {1, 2}, {7, 9}));
  }
}

TEST(Server, TensorsBecomeTheColumnsOfRawRows) {
  FakeModel fake;
  const auto model = fake.served();
  const auto rows = [&](const json& inputs) {
    return read_infer({"POST", "", json{{"inputs", inputs}}.dump(), "", ""}, *model).rows;
  };
  EXPECT_EQ(rows({tensor("who", "INT64", {2}, {3, 4}), tensor("text", "BYTES", {2, 1}, {"a b", ""}),
                  tensor("events", "INT32", {2, 3}, {1, 2, 3, 4, 5, 6}),
                  tensor("xy", "FP32", {2, 1, 2}, {{{1, 2}}, {{3, 4}}})}),
            (std::vector<json>{
                {{"who", 3}, {"text", "a b"}, {"events", {1, 2, 3}}, {"xy", {{1, 2}}}},
                {{"who", 4}, {"text", ""}, {"events", {4, 5, 6}}, {"xy", {{3, 4}}}}}));
  EXPECT_EQ(rows({tensor("events", "BYTES", {2}, {"1 2", "3"}),
                  tensor("xy", "BYTES", {2, 2}, {"1", "2", "3", "4"})}),
            (std::vector<json>{{{"events", "1 2"}, {"xy", {"1", "2"}}},
                               {{"events", "3"}, {"xy", {"3", "4"}}}}));
}

std::string with_length(const std::string& text) {
  const u32 length = static_cast<u32>(text.size());
  return std::string(reinterpret_cast<const char*>(&length), 4) + text;
}

TEST(Server, BinaryTensorsInAndOut) {
  Fixture f;
  const float values[] = {0.5f, 0.125f};
  const std::string png = "\x89PNG\r\n\x1a\n";
  const std::string bytes = std::string(reinterpret_cast<const char*>(values), 8) +
                            with_length("text") + with_length("") + with_length(png) +
                            with_length("aGk=");
  const json head = {{"inputs",
                      {{{"name", "n"}, {"datatype", "FP32"}, {"shape", {2}},
                        {"parameters", {{"binary_data_size", 8}}}},
                       {{"name", "text"}, {"datatype", "BYTES"}, {"shape", {2}},
                        {"parameters", {{"binary_data_size", 12}}}},
                       {{"name", "image"}, {"datatype", "BYTES"}, {"shape", {2, 1}},
                        {"parameters", {{"binary_data_size", 20}}}}}},
                     {"outputs", {{{"name", "probabilities"}, {"parameters", {{"binary_data", true}}}},
                                  {{"name", "label"}, {"parameters", {{"binary_data", true}}}},
                                  {{"name", "logits"}}}}};
  const HttpRequest request{"POST", "", head.dump() + bytes, std::to_string(head.dump().size()), ""};
  const std::vector<json> rows = read_infer(request, *f.fake.served()).rows;
  const json file = json::binary({0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'});
  EXPECT_EQ(rows.at(0), (json{{"n", 0.5}, {"text", "text"}, {"image", file}}));
  EXPECT_EQ(rows.at(1), (json{{"n", 0.125}, {"text", ""}, {"image", "aGk="}}));

  const HttpReply reply = f.post("/v2/models/fake/infer", request.body, request.header_length);
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.type, "application/octet-stream");
  ASSERT_EQ(reply.headers.at(0).first, "Inference-Header-Content-Length");
  const std::size_t length = std::stoul(reply.headers[0].second);
  const json body = json::parse(reply.body.substr(0, length));
  EXPECT_EQ(body.at("outputs")[0].at("parameters").at("binary_data_size"), 16);
  EXPECT_TRUE(body.at("outputs")[2].contains("data"));
  float p[4];
  std::memcpy(p, reply.body.data() + length, 16);
  EXPECT_THAT(p, testing::ElementsAre(0.5f, 0.5f, 0.125f, 0.875f));
  EXPECT_EQ(reply.body.substr(length + 16), with_length("good") + with_length("bad \"one\""));
  json all = head;
  all.erase("outputs");
  all["parameters"] = {{"binary_data_output", true}};
  const HttpReply every = f.post("/v2/models/fake/infer", all.dump() + bytes,
                                 std::to_string(all.dump().size()));
  EXPECT_EQ(every.type, "application/octet-stream");
}

TEST(Server, BadInferRequestsAreToldWhy) {
  Fixture f;
  const auto one = [&](const json& input) { return f.infer({{"inputs", {input}}}); };
  expect_error(f.infer({{"inputs", json::array()}}), 400, "inputs");
  expect_error(f.infer({{"inputs", {1}}}), 400, "object");
  expect_error(f.infer({{"id", 7}, {"inputs", {numbers(1)}}}), 400, "id");
  expect_error(f.infer({{"inputs", {numbers(1), numbers(1)}}}), 400, "twice");
  expect_error(f.infer({{"inputs", {numbers(1), tensor("who", "INT32", {2}, {1, 2})}}}), 400, "who");
  expect_error(f.infer({{"inputs", {numbers(1)}}, {"parameters", {{"top", 3}}}}), 400, "two-tower");
  expect_error(one(tensor("m", "FP32", {1}, {1})), 400, "unknown input 'm'; the model takes n, who");
  expect_error(one(tensor("n", "FP8", {1}, {1})), 400, "FP8");
  expect_error(one(tensor("n", "FP32", {2}, {1})), 400, "shape [2]");
  expect_error(one(tensor("n", "FP32", {1}, {1, 2})), 400, "and more");
  expect_error(one(tensor("n", "FP32", {1, 2}, {1, 2})), 400, "[N, 1]");
  expect_error(one(tensor("n", "FP32", {-1}, {1})), 400, "dimension");
  expect_error(one(tensor("n", "FP32", {1.5}, {1})), 400, "dimension");
  expect_error(one(tensor("n", "FP32", json::array(), {1})), 400, "shape");
  expect_error(one(tensor("n", "FP32", {1}, {"1"})), 400, "no number");
  expect_error(one(tensor("n", "FP32", {1}, json::object())), 400, "list");
  expect_error(one(tensor("text", "BYTES", {1}, {1})), 400, "no text");
  expect_error(one(tensor("text", "INT32", {1}, {1})), 400, "BYTES");
  expect_error(one(tensor("n", "FP32", {1 << 20, 1 << 20}, {1})), 400, "elements");
  expect_error(one(tensor("n", "FP32", {100000, 0}, json::array())), 400, "rows");
  expect_error(one({{"name", "n"}, {"datatype", "FP32"}, {"shape", {1}}}), 400, "data");
  expect_error(one({{"name", "n"}, {"datatype", "FP32"}, {"shape", {1}},
                    {"parameters", {{"binary_data_size", 4}}}}), 400, "binary_data_size");
  expect_error(f.infer({{"inputs", {tensor("who", "INT32", {2}, {1, 2})}}}), 400,
               "row 0: column 'n': expected a number");
  const json binary = {{"inputs", {{{"name", "text"}, {"datatype", "BYTES"}, {"shape", {1}},
                                    {"parameters", {{"binary_data_size", 4}}}}}}};
  const auto bytes = [&](const std::string& behind) {
    return f.post("/v2/models/fake/infer", binary.dump() + behind,
                  std::to_string(binary.dump().size()));
  };
  expect_error(bytes(std::string("\xff\xff\xff\xff", 4)), 400, "beyond");
  expect_error(bytes(std::string(8, '\0')), 400, "behind the last");
  expect_error(f.post("/v2/models/fake/infer", "{}", "9"), 400, "Inference-Header-Content-Length");
  expect_error(f.post("/v2/models/fake/infer", "{}", "-1"), 400, "Inference-Header-Content-Length");
}

TEST(Server, BodiesThatAreNoJson) {
  Fixture f;
  const std::string deep = "{\"rows\":" + std::string(100000, '[') + std::string(100000, ']') + "}";
  for (const char* path : {"/v2/models/fake/infer", "/v1/score"}) {
    for (const char* body : {"", "{", "nonsense", "{\"rows\": [1e999]}", "{} {}", "\xff\xfe{}"})
      expect_error(f.post(path, body), 400, "JSON");
    expect_error(f.post(path, "[]"), 400, "object");
    expect_error(f.post(path, deep), 400, "deeper");
  }
}

TEST(Server, ScoreAnswersRowByRow) {
  Fixture f;
  const json body =
      json::parse(f.post("/v1/score", "{\"rows\":[{\"n\":0.5},{\"m\":1},{\"n\":1}]}").body);
  ASSERT_EQ(body.at("answers").size(), 3u);
  EXPECT_EQ(body.at("answers")[0].at("probabilities"), json({0.5, 0.5}));
  EXPECT_THAT(body.at("answers")[1].at("error").get<std::string>(), HasSubstr("column 'n'"));
  EXPECT_EQ(body.at("model").at("digest"), "digest-of-1");
  EXPECT_GE(body.at("milliseconds").get<double>(), 0);
  EXPECT_EQ(f.post("/v1/score", "{\"row\":{\"n\":0.5}}").status, 200);
  expect_error(f.post("/v1/score", "{\"row\":{\"m\":0.5}}"), 400, "column 'n'");
  expect_error(f.post("/v1/score", "{\"row\":{},\"rows\":[]}"), 400, "expected");
  expect_error(f.post("/v1/score", "{\"rows\":{}}"), 400, "list");
  expect_error(f.post("/v1/score", "{\"row\":{\"n\":1},\"tpo\":1}"), 400, "unknown key 'tpo'");
  expect_error(f.post("/v1/score", "{\"row\":{\"n\":1},\"top\":3}"), 400, "two-tower");
  expect_error(f.post("/v1/score", "{\"row\":{\"break\":1}}"), 500, "log");
}

TEST(Server, TheBestItems) {
  FakeModel fake;
  const auto model = fake.served();
  model->two_tower = true;
  Server server(model, Fixture::quick());
  const json body = {{"inputs", {numbers(2)}}, {"parameters", {{"top", 2}}}};
  const json reply = json::parse(server.handle({"POST", "/v2/models/fake/infer", body.dump(), "", ""}).body);
  EXPECT_EQ(reply.at("outputs")[0],
            tensor("items", "BYTES", {2, 2}, {"item0", "item1", "item0", "item1"}));
  EXPECT_EQ(reply.at("outputs")[1].at("data"), json({1.0, 0.9, 1.0, 0.9}));
  EXPECT_EQ(reply.at("outputs").size(), 2u);
  model->has_value = true;
  RowReply one;
  one.top.items = {{"a", 0.5, 3.0}};
  InferRequest request;
  request.top = 2;
  request.outputs = {{"items", false}, {"scores", false}, {"values", false}};
  const json told = json::parse(write_infer(request, *model, {one}).body);
  EXPECT_EQ(told.at("outputs")[2], tensor("values", "FP32", {1, 2}, {3.0, 0.0}));
}

TEST(Server, OverloadIsTold) {
  ServerOptions options = Fixture::quick();
  options.batch = {1, 1, std::chrono::microseconds(0), 1};
  options.time = std::chrono::milliseconds(20);
  Fixture f(options);
  f.fake.held = true;
  expect_error(f.post("/v1/score", "{\"row\":{\"n\":1}}"), 504, "in time");
  const auto first = [&] { return f.post("/v1/score", "{\"row\":{\"n\":1}}"); };
  EXPECT_EQ(first().status, 504);       // waits in the queue for good
  const HttpReply full = first();
  expect_error(full, 503, "queue");
  EXPECT_EQ(full.headers.at(0).first, "Retry-After");
  f.fake.held = false;
}

TEST(Server, ClassificationOfOutputsIsRefused) {
  Fixture f;
  const json output = {{"name", "probabilities"}, {"parameters", {{"classification", 2}}}};
  expect_error(f.infer({{"inputs", {numbers(1)}}, {"outputs", {output}}}), 400, "'classification'");
}

TEST(Server, MetricsTellWhatHappened) {
  Fixture f;
  const std::string before = f.get("/metrics").body;
  for (const char* line :
       {"cohort_rows_total{outcome=\"answered\"} 0\n", "cohort_rows_total{outcome=\"refused\"} 0\n",
        "cohort_reloads_total{outcome=\"done\"} 0\n", "cohort_reloads_total{outcome=\"refused\"} 0\n"})
    EXPECT_THAT(before, HasSubstr(line));
  f.infer({{"inputs", {numbers(3)}}});
  f.infer({{"inputs", {tensor("who", "INT32", {2}, {1, 2})}}});
  f.post("/v1/score", "no");
  f.server.count_refused(413);
  f.server.count_reload(false);
  const std::string text = f.get("/metrics").body;
  for (const char* line :
       {"cohort_requests_total{route=\"infer\",code=\"200\"} 1\n",
        "cohort_requests_total{route=\"infer\",code=\"400\"} 1\n",
        "cohort_requests_total{route=\"score\",code=\"400\"} 1\n",
        "cohort_requests_total{route=\"refused\",code=\"413\"} 1\n",
        "cohort_rows_total{outcome=\"answered\"} 3\n", "cohort_rows_total{outcome=\"refused\"} 2\n",
        "cohort_reloads_total{outcome=\"refused\"} 1\n", "cohort_request_seconds_count 3\n",
        "cohort_batch_rows_bucket{le=\"2\"} 1\n", "cohort_batch_rows_bucket{le=\"+Inf\"} 2\n",
        "cohort_batch_rows_sum 5\n", "# TYPE cohort_queue_rows gauge\ncohort_queue_rows 0\n",
        "digest=\"digest-of-1\",run=\"run \\\"one\\\"\",step=\"7\"} 1\n"})
    EXPECT_THAT(text, HasSubstr(line));
}

TEST(Server, AReplacedModelIsServedAndTold) {
  Fixture f;
  FakeModel second;
  f.server.replace(second.served("2"));
  EXPECT_EQ(f.get("/v2/models/fake/versions/1").status, 404);
  EXPECT_EQ(f.get("/v2/models/fake/versions/2").status, 200);
  EXPECT_EQ(json::parse(f.infer({{"inputs", {numbers(1)}}}).body).at("model_version"), "2");
  const auto broken = second.served("3");
  broken->make = []() -> AnswerRows { throw std::runtime_error("no memory"); };
  EXPECT_THROW(f.server.replace(broken), std::runtime_error);
  EXPECT_EQ(json::parse(f.infer({{"inputs", {numbers(1)}}}).body).at("model_version"), "2");
}

TEST(Server, NumbersAndIdsAsBytesAreAnsweredAsRowsAre) {
  const Tiny tiny = make_two_tower("staged");
  const auto model = served_model(tiny.bundle("b"), {"tiny", "1"}, 8);
  Server server(model, Fixture::quick());
  std::vector<json> rows = tiny.raw_rows();
  for (json& row : rows)   // what FP32 holds
    for (const Preprocess::Column& column : model->columns)
      if (column.kind == "number" && row.at(column.name).is_string())
        row[column.name] = std::stof(row.at(column.name).get<std::string>());
      else if (column.kind == "number")
        row[column.name] = row.at(column.name).get<float>();
  const auto ask = [&](const BinaryRequest& binary) { return server.handle(binary.to("tiny")); };
  const json expected = json::parse(
      server.handle({"POST", "/v1/score", json{{"rows", rows}}.dump(), "", ""}).body).at("answers");
  const BinaryRequest good = binary_of(*model, rows);
  const InferRequest read = read_infer(good.to("tiny"), *model);
  ASSERT_EQ(read.rows.size(), rows.size());
  EXPECT_TRUE(read.rows[0].is_binary());   // the short way was taken
  const HttpReply reply = ask(good);
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json outputs = json::parse(reply.body).at("outputs");
  for (std::size_t r = 0; r < rows.size(); ++r)
    EXPECT_NEAR(outputs[0].at("data")[r].get<double>(),
                expected[r].at("probability").get<double>(), 1e-6) << r;
  // What is wrong is told as it is of objects.
  BinaryRequest bad = good;
  const auto first = [&](const char* kind) {
    for (std::size_t k = 0; k < model->columns.size(); ++k)
      if (model->columns[k].kind == kind) return k;
    return model->columns.size();
  };
  rows[1][model->columns[first("id")].name] = "nobody";
  expect_error(ask(binary_of(*model, rows)), 400,
               "row 1: column '" + model->columns[first("id")].name + "'");
  bad.inputs.erase(first("number"));
  expect_error(ask(bad), 400, "");
  bad = binary_of(*model, tiny.raw_rows());
  bad.bytes.pop_back();
  expect_error(ask(bad), 400, "binary_data_size");
  bad.bytes += "abc";
  expect_error(ask(bad), 400, "behind the last input");
  bad = binary_of(*model, tiny.raw_rows());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::size_t at = 0;
  for (std::size_t k = 0; k < first("number"); ++k)
    at += bad.inputs[k].at("parameters").at("binary_data_size").get<std::size_t>();
  std::memcpy(bad.bytes.data() + at, &nan, sizeof nan);
  expect_error(ask(bad), 400, "row 0: column '" + model->columns[first("number")].name + "'");
}

}  // namespace
}  // namespace cohort
