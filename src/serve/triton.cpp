#include "serve/triton.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "serve/bundle_files.h"
#include "serve/repository_check.h"
#include "store/folder.h"

namespace cohort {
namespace {

using nlohmann::json;

constexpr i64 kMostRows = 64, kQueueMicroseconds = 1000;
constexpr const char* kLabels = "labels.txt";
// Before the number of a version that is not whole: Triton takes every name that begins with a digit
// for a version, "3.tmp" for the third.
constexpr const char* kAside = ".tmp-";

// A string of protobuf's text format.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20)
      out += fmt::format("\\{:03o}", static_cast<unsigned char>(c));
    else
      out += c;
  }
  return out + "\"";
}

std::string type_of(const json& tensor) {
  static const std::map<std::string, std::string> types = {
      {"float32", "TYPE_FP32"}, {"float64", "TYPE_FP64"}, {"int32", "TYPE_INT32"},
      {"int64", "TYPE_INT64"},  {"uint8", "TYPE_UINT8"}};
  const auto found = types.find(tensor.at("dtype").get<std::string>());
  if (found == types.end())
    fail(Exit::storage, "manifest.json: {}: type {} has no counterpart in Triton",
         tensor.at("name").dump(), tensor.at("dtype").dump());
  return found->second;
}

// A number, also where it stands as text; -1 for a symbol such as "T".
std::string extent_of(const json& extent) {
  const std::string text = extent.is_string() ? extent.get<std::string>() : extent.dump();
  return parse_i64(text) ? text : "-1";
}

// Without the rows, which Triton adds. A vector of one number a row has no dimension left, which
// Triton does not take: it is sent as [1] and reshaped.
std::string dims_of(const json& tensor) {
  std::vector<std::string> dims;
  const json& shape = tensor.at("shape");
  for (std::size_t k = 1; k < shape.size(); ++k)
    dims.push_back(extent_of(shape[k]));
  if (dims.empty()) return "  dims: [ 1 ]\n  reshape { shape: [ ] }\n";
  return "  dims: [ " + join(dims, ", ") + " ]\n";
}

std::string tensor_of(const char* side, const json& tensor, bool labelled) {
  std::string text = fmt::format("{} {{\n  name: {}\n  data_type: {}\n{}", side,
                                 quoted(tensor.at("name").get<std::string>()), type_of(tensor),
                                 dims_of(tensor));
  if (labelled) text += fmt::format("  label_filename: \"{}\"\n", kLabels);
  return text + "}\n";
}

// Of a classifier: index k of `probabilities` is line k.
std::string labels_of(const json& manifest) {
  std::string text;
  const json& outputs = manifest.at("outputs");
  if (std::none_of(outputs.begin(), outputs.end(),
                   [](const json& t) { return t.at("name") == "probabilities"; }))
    return text;
  for (const json& label : manifest.at("labels")) {
    std::string line = label.get<std::string>();
    std::replace_if(line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
    text += line + "\n";
  }
  return text;
}

void keep_or_write(Files& files, const std::string& path, const std::string& text) {
  if (!files.exists(path)) return write_atomically(files, path, text);
  if (files.read(path) != text)
    fail(Exit::usage, "{}: belongs to a model with other inputs, outputs or labels, whose versions "
         "would not be told apart by clients; publish under another --name", path);
}

// Versions are plain numbers, ascending.
std::vector<i64> versions_in(Files& files, const std::string& model) {
  std::vector<i64> found;
  for (const std::string& name : files.list(model)) {
    const auto number = parse_i64(name);
    if (number && *number > 0 && std::to_string(*number) == name) found.push_back(*number);
    if (name.find(".tmp") != std::string::npos) files.remove(model + "/" + name);
  }
  std::sort(found.begin(), found.end());
  return found;
}

void add_version(Files& files, const CheckedFolder& checked, const std::string& model, i64 number) {
  const std::string folder = fmt::format("{}/{}", model, number);
  const std::string aside = fmt::format("{}/{}{}", model, kAside, number);
  files.make_folder(aside);
  const auto put = [&](const std::string& name, const std::string& bytes) {
    write_file(files, aside, name, [&](FileWriter& out) {
      out.write(bytes.data(), static_cast<i64>(bytes.size()));
    });
  };
  for (const auto& [name, bytes] : checked.files) put(name, bytes);
  put("manifest.json", checked.manifest);
  files.sync_folder(aside);
  files.rename(aside, folder);
  files.sync_folder(model);
}

}  // namespace

std::string triton_config(const json& manifest, const std::string& name) {
  std::string text = fmt::format("name: {}\nbackend: \"onnxruntime\"\nplatform: "
                                 "\"onnxruntime_onnx\"\nmax_batch_size: {}\n",
                                 quoted(name), kMostRows);
  for (const json& tensor : manifest.at("inputs")) text += tensor_of("input", tensor, false);
  for (const json& tensor : manifest.at("outputs"))
    text += tensor_of("output", tensor,
                      !manifest.at("labels").empty() && tensor.at("name") == "probabilities");
  return text + fmt::format("dynamic_batching {{ max_queue_delay_microseconds: {} }}\n",
                            kQueueMicroseconds);
}

std::string publish_to_triton(LinkedFiles& files, const std::string& bundle,
                              const std::string& folder, const std::string& name, i64 keep) {
  if (name.empty() || name[0] == '.' || name.find('/') != std::string::npos)
    fail(Exit::usage, "--name '{}': expected the name of a folder", name);
  check_triton_place(files, folder, name);
  const CheckedFolder checked = check_bundle_files(
      files, bundle, {"model.onnx", "model.onnx.data", "preprocess.json", "golden.jsonl"});
  const json manifest = json::parse(checked.manifest);
  const std::string model = folder + "/" + name;
  const std::string config = triton_config(manifest, name), labels = labels_of(manifest);
  files.make_folder(folder);
  const auto lock = files.lock(folder + "/.lock-" + name);
  files.make_folder(model);
  std::vector<i64> there = versions_in(files, model);
  const i64 newest = there.empty() ? 0 : there.back();
  const auto version = [&](i64 number) { return model + "/" + std::to_string(number); };
  if (!labels.empty()) keep_or_write(files, model + "/" + kLabels, labels);
  keep_or_write(files, model + "/config.pbtxt", config);
  if (newest == 0 || !files.exists(version(newest) + "/manifest.json") ||
      files.read(version(newest) + "/manifest.json") != checked.manifest) {
    add_version(files, checked, model, newest + 1);
    files.sync_folder(folder);
    there.push_back(newest + 1);
  }
  for (std::size_t k = 0; keep > 0 && k + static_cast<std::size_t>(keep) < there.size(); ++k) {
    const std::string aside = fmt::format("{}/{}{}", model, kAside, there[k]);
    files.rename(version(there[k]), aside);
    files.sync_folder(model);
    files.remove(aside);
  }
  return version(there.back());
}

}  // namespace cohort
