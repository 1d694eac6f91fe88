// A model without a bundle: what it answers can be told from the row.
#pragma once
#include <atomic>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

#include "serve/http.h"
#include "serve/server_model.h"

namespace cohort {

struct FakeModel {
  std::atomic<int> batches{0}, largest{0}, made{0}, entered{0}, prepared{0};
  std::atomic<bool> held{false};               // batches wait as long as this is set
  std::chrono::milliseconds slow{0};

  // {"n": x}: probabilities of {x, 1 - x}; a row without "n" has an error; "break": an exception.
  RowReply reply(const nlohmann::json& row) const {
    RowReply r;
    if (row.is_object() && row.contains("break")) throw std::runtime_error("broken row");
    if (!row.is_object() || !row.contains("n") || !row.at("n").is_number()) {
      r.answer.error = "column 'n': expected a number";
      return r;
    }
    const double n = row.at("n");
    r.answer.output = {10 * n, 0};
    r.answer.probabilities = {n, 1 - n};
    return r;
  }

  std::vector<RowReply> answer(const std::vector<nlohmann::json>& rows, i64 top,
                               const Unwanted& unwanted) {
    ++entered;
    while (held) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (slow.count() > 0) std::this_thread::sleep_for(slow);
    ++batches;
    if (static_cast<int>(rows.size()) > largest) largest = static_cast<int>(rows.size());
    std::vector<RowReply> all;
    for (const nlohmann::json& row : rows) {
      if (unwanted && unwanted(all.size())) {
        all.emplace_back();
        continue;
      }
      ++prepared;
      all.push_back(reply(row));
      if (top > 0 && all.back().answer.error.empty())
        for (i64 k = 0; k < top; ++k)
          all.back().top.items.push_back({"item" + std::to_string(k), 1.0 - 0.1 * static_cast<double>(k)});
    }
    return all;
  }

  std::shared_ptr<ServedModel> served(const std::string& version = "1") {
    auto model = std::make_shared<ServedModel>();
    model->name = "fake";
    model->version = version;
    model->digest = "digest-of-" + version;
    model->run = "run \"one\"";
    model->step = 7;
    model->columns = {{"n", "number", "n"}, {"who", "id", "who"}, {"text", "text", "tokens"},
                      {"events", "ids", "events"}, {"xy", "numbers", "xy"}, {"image", "image", "image"}};
    model->loss = LossKind::cross_entropy;
    model->width = 2;
    model->labels = {"good", "bad \"one\""};
    model->about = "{\"name\":\"fake\"}";
    model->make = [this]() -> AnswerRows {
      ++made;
      return [this](const std::vector<nlohmann::json>& rows, i64 top, const Unwanted& unwanted) {
        return answer(rows, top, unwanted);
      };
    };
    model->json_text = [](const RowReply& r) {
      return nlohmann::json{{"probabilities", r.answer.probabilities}}.dump();
    };
    return model;
  }
};

// Columns of a two-tower model's rows as bytes behind the JSON.
struct BinaryRequest {
  nlohmann::json inputs = nlohmann::json::array();
  std::string bytes;
  HttpRequest to(const std::string& model) const {
    const std::string head = nlohmann::json{{"inputs", inputs}}.dump();
    const std::string path = "/v2/models/" + model + "/infer";
    return {"POST", path, head + bytes, std::to_string(head.size()), ""};
  }
  void add(const std::string& name, const std::string& type, i64 rows, const std::string& data) {
    inputs.push_back({{"name", name}, {"datatype", type}, {"shape", {rows}},
                      {"parameters", {{"binary_data_size", data.size()}}}});
    bytes += data;
  }
};
template <class T>
std::string raw_bytes(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}
inline BinaryRequest binary_of(const ServedModel& model, const std::vector<nlohmann::json>& rows) {
  BinaryRequest request;
  for (const Preprocess::Column& column : model.columns) {
    std::string data;
    for (const nlohmann::json& row : rows) {
      const nlohmann::json& value = row.at(column.name);
      const std::string word = value.is_string() ? value.get<std::string>() : value.dump();
      if (column.kind == "number") data += raw_bytes(std::stof(word));
      else data += raw_bytes(static_cast<u32>(word.size())) + word;
    }
    request.add(column.name, column.kind == "number" ? "FP32" : "BYTES",
                static_cast<i64>(rows.size()), data);
  }
  return request;
}

}  // namespace cohort
