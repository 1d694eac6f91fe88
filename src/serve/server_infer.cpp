#include "serve/server_infer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "serve/json_text.h"
#include "serve/server_tensor.h"

namespace cohort {
namespace {

using nlohmann::json;

template <class... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> text, Args&&... args) {
  throw BadRequest{400, fmt::format(text, std::forward<Args>(args)...)};
}

// Brackets outside of texts; what is no JSON is found by the parser.
int depth_of(std::string_view text) {
  int depth = 0, deepest = 0;
  bool inside = false;
  for (std::size_t k = 0; k < text.size(); ++k) {
    const char c = text[k];
    if (inside && c == '\\') ++k;
    else if (c == '"') inside = !inside;
    else if (!inside && (c == '[' || c == '{')) deepest = std::max(deepest, ++depth);
    else if (!inside && (c == ']' || c == '}')) --depth;
  }
  return deepest;
}

enum class Source { output, value, probabilities, label, items, scores, values };
struct OutputKind {
  std::string name;
  Source source;
  bool texts;
  i64 width;                           // 0: shape [N]
};

std::vector<OutputKind> outputs_of(const ServedModel& model, i64 top) {
  if (top > 0) {
    std::vector<OutputKind> best = {{"items", Source::items, true, top},
                                    {"scores", Source::scores, false, top}};
    if (model.has_value) best.push_back({"values", Source::values, false, top});
    return best;
  }
  switch (model.loss) {
    case LossKind::mse:
      if (!model.has_value) return {{"prediction", Source::output, false, model.width}};
      return {{"prediction", Source::output, false, model.width},
              {"value", Source::value, false, model.width}};
    case LossKind::bce:
      return {{"probability", Source::probabilities, false, 1}, {"logit", Source::output, false, 1}};
    case LossKind::cross_entropy: break;
  }
  return {{"probabilities", Source::probabilities, false, model.width},
          {"label", Source::label, true, 0},
          {"logits", Source::output, false, model.width}};
}

std::string names_of(const std::vector<OutputKind>& kinds) {
  std::string names;
  for (const OutputKind& kind : kinds) names += (names.empty() ? "" : ", ") + kind.name;
  return names;
}

bool flag(const json& object, const char* key, bool otherwise) {
  const auto parameters = object.find("parameters");
  if (parameters == object.end() || !parameters->is_object()) return otherwise;
  const auto found = parameters->find(key);
  if (found == parameters->end()) return otherwise;
  if (!found->is_boolean()) refuse("parameter '{}': expected true or false", key);
  return found->get<bool>();
}

i64 top_of(const json& body, const ServedModel& model) {
  const auto parameters = body.find("parameters");
  if (parameters == body.end() || !parameters->is_object() || !parameters->contains("top")) return 0;
  const json& top = parameters->at("top");
  if (!model.two_tower) refuse("parameter 'top': the model is not two-tower");
  if (!top.is_number_unsigned() || top.get<u64>() < 1 || top.get<u64>() > 10000)
    refuse("parameter 'top': expected a whole number from 1 to 10000");
  return top.get<i64>();
}

void read_outputs(const json& body, const ServedModel& model, InferRequest& to) {
  const bool binary = flag(body, "binary_data_output", false);
  const std::vector<OutputKind> kinds = outputs_of(model, to.top);
  const auto outputs = body.find("outputs");
  if (outputs == body.end() || (outputs->is_array() && outputs->empty())) {
    for (const OutputKind& kind : kinds) to.outputs.push_back({kind.name, binary});
    return;
  }
  if (!outputs->is_array() || outputs->size() > kinds.size())
    refuse("'outputs': expected a list of these, each once: {}", names_of(kinds));
  for (const json& output : *outputs) {
    if (!output.is_object() || !output.contains("name") || !output.at("name").is_string())
      refuse("an output has no name");
    const std::string name = output.at("name");
    const json parameters = output.value("parameters", json::object());
    if (parameters.is_object() && parameters.contains("classification"))
      refuse("output '{}': the parameter 'classification' (class_count) is not supported; expected "
             "label and probabilities to be asked for", name);
    if (std::none_of(kinds.begin(), kinds.end(), [&](const auto& k) { return k.name == name; }))
      refuse("unknown output '{}'; the model has {}", name, names_of(kinds));
    to.outputs.push_back({name, flag(output, "binary_data", binary)});
  }
}

const Preprocess::Column& column_named(const ServedModel& model, const std::string& name) {
  std::string names;
  for (const Preprocess::Column& column : model.columns) {
    if (column.name == name) return column;
    names += (names.empty() ? "" : ", ") + column.name;
  }
  refuse("unknown input '{}'; the model takes {}", name, names);
}

// Without a document for every row, where all are numbers and ids and nothing is wrong with them.
bool stage_rows(const std::vector<RequestTensor>& tensors, const ServedModel& model,
                InferRequest& to) {
  if (!model.stage || to.top > 0) return false;
  std::vector<RawColumn> columns(tensors.size());
  for (std::size_t k = 0; k < tensors.size(); ++k) {
    const std::string& kind = column_named(model, tensors[k].name).kind;
    if (kind != "number" && kind != "id") return false;
    if (!add_column(tensors[k], kind == "id", columns[k])) return false;
  }
  std::vector<std::vector<u8>> rows = model.stage(columns, tensors[0].shape[0]);
  for (std::vector<u8>& row : rows) to.rows.push_back(json::binary(std::move(row)));
  return !rows.empty();
}

void make_rows(std::vector<RequestTensor>& tensors, const ServedModel& model, InferRequest& to) {
  const i64 rows = tensors[0].shape[0];
  to.rows.assign(static_cast<std::size_t>(rows), json::object());
  for (RequestTensor& tensor : tensors) {
    const Preprocess::Column& column = column_named(model, tensor.name);
    tensor.expand();
    for (i64 r = 0; r < rows; ++r)
      to.rows[static_cast<std::size_t>(r)][tensor.name] = raw_value(tensor, r, column);
  }
}

void read_inputs(const json& body, std::string_view binary, const ServedModel& model,
                 InferRequest& to) {
  const auto inputs = body.find("inputs");
  if (inputs == body.end() || !inputs->is_array() || inputs->empty())
    refuse("expected 'inputs', a list of at least one");
  std::vector<RequestTensor> tensors;
  for (const json& input : *inputs) {
    RequestTensor tensor = read_tensor(input, binary);
    column_named(model, tensor.name);
    const i64 rows = tensor.shape[0], first = tensors.empty() ? rows : tensors[0].shape[0];
    if (rows > most_rows) refuse("{} rows; at most {} in a request", rows, most_rows);
    if (rows != first)
      refuse("input '{}': {} rows; the first input has {}", tensor.name, rows, first);
    for (const RequestTensor& other : tensors)
      if (other.name == tensor.name) refuse("input '{}' is there twice", tensor.name);
    tensors.push_back(std::move(tensor));
  }
  if (!binary.empty()) refuse("{} bytes behind the last input", binary.size());
  if (!stage_rows(tensors, model, to)) make_rows(tensors, model, to);
}

// Values of one output, row by row.
struct Values {
  std::vector<float> numbers;
  std::vector<std::string> texts;
};

void add_values(const OutputKind& kind, const ServedModel& model, const RowReply& reply,
                Values& to) {
  const auto& p = reply.answer.probabilities;
  switch (kind.source) {
    case Source::output:
      to.numbers.insert(to.numbers.end(), reply.answer.output.begin(), reply.answer.output.end());
      return;
    case Source::value:
      to.numbers.insert(to.numbers.end(), reply.answer.value.begin(), reply.answer.value.end());
      return;
    case Source::probabilities:
      to.numbers.insert(to.numbers.end(), p.begin(), p.end());
      return;
    case Source::label:
      to.texts.push_back(
          model.label(static_cast<std::size_t>(std::max_element(p.begin(), p.end()) - p.begin())));
      return;
    case Source::items:
    case Source::scores:
    case Source::values:
      break;
  }
  // A user with fewer items: the rest has empty names.
  for (std::size_t k = 0; k < static_cast<std::size_t>(kind.width); ++k) {
    const TopItem item = k < reply.top.items.size() ? reply.top.items[k] : TopItem{};
    const double number = kind.source == Source::values ? item.value.value_or(0) : item.score;
    if (kind.texts) to.texts.push_back(item.item);
    else to.numbers.push_back(static_cast<float>(number));
  }
}

std::string as_bytes(const Values& values) {
  std::string bytes(reinterpret_cast<const char*>(values.numbers.data()),
                    values.numbers.size() * sizeof(float));
  for (const std::string& text : values.texts) {
    const u32 length = static_cast<u32>(text.size());
    bytes.append(reinterpret_cast<const char*>(&length), 4);
    bytes += text;
  }
  return bytes;
}

std::string quoted(const std::string& text) {
  std::string out;
  add_json(out, text);
  return out;
}

const char* input_datatype(const std::string& kind) { return kind == "number" ? "FP32" : "BYTES"; }

}  // namespace

json parse_request(std::string_view text) {
  if (depth_of(text) > most_depth) refuse("JSON that is nested deeper than {}", most_depth);
  json body = json::parse(text, nullptr, false);
  if (body.is_discarded()) refuse("the body is not JSON (UTF-8, finite numbers)");
  if (!body.is_object()) refuse("the body is no JSON object");
  return body;
}

InferRequest read_infer(const HttpRequest& request, const ServedModel& model) {
  std::size_t length = request.body.size();
  if (!request.header_length.empty()) {
    const std::string& digits = request.header_length;
    const bool good = digits.size() <= 18 &&
                      digits.find_first_not_of("0123456789") == std::string::npos;
    if (!good || std::stoull(digits) > length)
      refuse("Inference-Header-Content-Length '{}'; the body has {} bytes", digits, length);
    length = std::stoull(digits);
  }
  const std::string_view bytes = request.body;
  const json body = parse_request(bytes.substr(0, length));
  InferRequest infer;
  if (body.contains("id")) {
    if (!body.at("id").is_string()) refuse("'id' is no text");
    infer.has_id = true;
    infer.id = body.at("id");
  }
  infer.top = top_of(body, model);
  read_outputs(body, model, infer);
  read_inputs(body, bytes.substr(length), model, infer);
  return infer;
}

HttpReply write_infer(const InferRequest& request, const ServedModel& model,
                      const std::vector<RowReply>& replies) {
  const std::vector<OutputKind> kinds = outputs_of(model, request.top);
  std::string outputs, binary;
  for (const WantedOutput& wanted : request.outputs) {
    const auto kind = std::find_if(kinds.begin(), kinds.end(),
                                   [&](const OutputKind& k) { return k.name == wanted.name; });
    if (kind == kinds.end()) refuse("unknown output '{}'", wanted.name);
    Values values;
    for (const RowReply& reply : replies) add_values(*kind, model, reply, values);
    outputs += fmt::format("{}{{\"name\":\"{}\",\"datatype\":\"{}\",\"shape\":[{}{}],",
                           outputs.empty() ? "" : ",", kind->name, kind->texts ? "BYTES" : "FP32",
                           replies.size(), kind->width > 0 ? fmt::format(",{}", kind->width) : "");
    if (wanted.binary) {
      const std::string bytes = as_bytes(values);
      outputs += fmt::format("\"parameters\":{{\"binary_data_size\":{}}}}}", bytes.size());
      binary += bytes;
    } else {
      outputs += "\"data\":";
      if (kind->texts) add_json_list(outputs, values.texts);
      else add_json_list(outputs, values.numbers);
      outputs += '}';
    }
  }
  HttpReply reply;
  reply.body = fmt::format("{{\"model_name\":{},\"model_version\":{},{}\"outputs\":[{}]}}",
                           quoted(model.name), quoted(model.version),
                           request.has_id ? "\"id\":" + quoted(request.id) + "," : "", outputs);
  const bool any_binary = std::any_of(request.outputs.begin(), request.outputs.end(),
                                      [](const WantedOutput& o) { return o.binary; });
  if (!any_binary) return reply;
  reply.headers.emplace_back("Inference-Header-Content-Length", std::to_string(reply.body.size()));
  reply.type = "application/octet-stream";
  reply.body += binary;
  return reply;
}

std::string model_metadata(const ServedModel& model) {
  json inputs = json::array(), outputs = json::array();
  for (const Preprocess::Column& column : model.columns)
    inputs.push_back({{"name", column.name}, {"datatype", input_datatype(column.kind)},
                      {"shape", {-1}}, {"parameters", {{"kind", column.kind}}}});
  for (const OutputKind& kind : outputs_of(model, 0)) {
    json shape = {-1};
    if (kind.width > 0) shape.push_back(kind.width);
    outputs.push_back({{"name", kind.name}, {"datatype", kind.texts ? "BYTES" : "FP32"},
                       {"shape", shape}});
  }
  return json{{"name", model.name}, {"versions", {model.version}}, {"platform", "cohort"},
              {"inputs", inputs}, {"outputs", outputs}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace cohort
