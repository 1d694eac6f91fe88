// The KServe v2 inference protocol in JSON, with Triton's binary tensors: bytes to rows, answers to
// bytes. See docs/serving.md.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "serve/http.h"
#include "serve/server_model.h"

namespace cohort {

constexpr i64 most_rows = 1 << 16;     // of a request
constexpr int most_depth = 32;         // of JSON

// Why a request is refused: thrown by what reads it.
struct BadRequest {
  int status = 400;
  std::string reason;
};

// JSON of at most that depth, else BadRequest.
nlohmann::json parse_request(std::string_view text);

struct WantedOutput {
  std::string name;
  bool binary = false;
};
struct InferRequest {
  std::string id;
  bool has_id = false;
  std::vector<nlohmann::json> rows;
  std::vector<WantedOutput> outputs;   // all of the model's where the request names none
  i64 top = 0;
};
InferRequest read_infer(const HttpRequest& request, const ServedModel& model);
// `replies`: one for each row, without errors.
HttpReply write_infer(const InferRequest& request, const ServedModel& model,
                      const std::vector<RowReply>& replies);
// GET /v2/models/NAME.
std::string model_metadata(const ServedModel& model);

}  // namespace cohort
