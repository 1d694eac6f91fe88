// What a bundle says of itself to whoever serves it.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "serve/bundle_impl.h"

namespace cohort {
namespace {

using nlohmann::json;

std::string shape_text(const json& shape) {
  std::vector<std::string> parts;
  for (const json& extent : shape) parts.push_back(extent.get<std::string>());
  return "[" + join(parts, ", ") + "]";
}

std::string tensors_text(const json& tensors) {
  std::string text;
  for (const json& t : tensors)
    text += fmt::format("| `{}` | {} | {} |\n", t["name"].get<std::string>(),
                        t["dtype"].get<std::string>(), shape_text(t["shape"]));
  return text;
}

std::string columns_text(const json& columns) {
  std::string text;
  for (const json& c : columns)
    text += fmt::format("| `{}` | {} | `{}` |\n", c["name"].get<std::string>(),
                        c["kind"].get<std::string>(), c["field"].get<std::string>());
  return text;
}

std::string metrics_text(const json& lineage) {
  std::string text;
  for (const auto& [name, value] : lineage["metrics"].items())
    text += fmt::format("- {} on {}: {}\n", name, lineage["split"].get<std::string>(),
                        value.dump());
  return text;
}

// A row short enough to be shown; pictures and long texts are cut.
std::string sample_row(const BundleContent& content) {
  json row = json::parse(content.golden.at(0).raw);
  for (auto& [name, value] : row.items())
    if (value.is_string() && value.get_ref<const std::string&>().size() > 200) value = "...";
  return row.dump();
}

constexpr const char* files_text =
    "| file | what |\n|---|---|\n"
    "| `model.onnx` | numbers in, answers out; normalisation is inside |\n"
    "| `weights.safetensors` | the parameters by name |\n"
    "| `preprocess.json` | from a raw row to the numbers that `model.onnx` takes |\n"
    "| `golden.jsonl` | raw rows with the trainer's answers |\n"
    "| `manifest.json` | lineage, labels, inputs, outputs, checksums of every file |\n"
    "| `MANIFEST.sha256` | checksum of the manifest: `sha256sum -c MANIFEST.sha256` |\n";

constexpr const char* tower_files_text =
    "| `user_tower.onnx`, `item_tower.onnx` | the towers alone |\n"
    "| `scorer.onnx` | the answer to two vectors |\n"
    "| `items.safetensors` | `vectors`: one of every item, in order of the id; features |\n"
    "| `users.safetensors` | features of every user, by id |\n"
    "| `index.faiss` | nearest items (if the exporting build had FAISS: see the manifest) |\n";

// Which ONNX models have their weights in a file beside them.
std::string data_files_text(const json& facts) {
  std::string names;
  for (const auto& [name, sum] : facts["sha256"].items())
    if (name.ends_with(".onnx.data")) names += (names.empty() ? "`" : ", `") + name + "`";
  if (names.empty()) return "";
  return "| " + names + " | weights of the model of that name (ONNX external data): keep both in "
         "one folder, open the model by its path |\n";
}

std::string python_text(const json& facts) {
  std::string feeds;
  for (const json& t : facts["inputs"]) {
    std::vector<std::string> shape;
    for (const json& extent : t["shape"]) {
      const std::string text = extent.get<std::string>();
      shape.push_back(parse_i64(text) ? text : "1");
    }
    feeds += fmt::format("    \"{}\": np.zeros(({},), np.{}),\n", t["name"].get<std::string>(),
                         join(shape, ", "), t["dtype"].get<std::string>());
  }
  return fmt::format("```python\nimport numpy as np, onnxruntime\n"
                     "session = onnxruntime.InferenceSession(\"model.onnx\")\n"
                     "print(session.run(None, {{   # zeros; make yours by preprocess.json\n{}}}))\n"
                     "```\n", feeds);
}

std::string labels_text(const std::vector<std::string>& labels, LossKind loss) {
  if (loss == LossKind::bce)
    return fmt::format("`probability` is that of \"{}\"; the other case is \"{}\".\n\n", labels.at(1),
                       labels.at(0));
  const auto told = std::min<std::ptrdiff_t>(20, std::ssize(labels));
  const std::vector<std::string> some(labels.begin(), labels.begin() + told);
  return fmt::format("{} classes, named under \"labels\" in `manifest.json`: {}{}\n\n",
                     labels.size(), join(some, ", "), some.size() < labels.size() ? ", ..." : "");
}

std::string asking_text(const std::string& row, bool two_tower) {
  std::string text = "## Asking it\n\nOne line for each answer, from raw rows (long ones are cut "
                     "here):\n\n```sh\ncohort score . <<'ROWS'\n" + row + "\nROWS\n```\n\n";
  if (two_tower)
    text += "The best ten items for every row that names a user: `cohort score . --top 10`. "
            "Features of a\nknown user may be left out.\n\n";
  return text + "Over HTTP: `cohort serve .`; its page at / takes rows by hand, and it speaks the "
                "KServe v2 protocol\nunder /v2.\n\n```sh\ncurl -s localhost:8000/v1/score -d @- "
                "<<'REQUEST'\n{\"rows\": [" + row + "]}\nREQUEST\n```\n\n";
}

}  // namespace

std::string readme_text(const json& facts, const BundleContent& content) {
  const json& lineage = facts["lineage"];
  const std::string run = lineage["run"].get<std::string>();
  std::string text = fmt::format(
      "# {}, step {}\n\nA trained model with all that is needed to serve it. Check it first: "
      "`cohort verify .` reads every\nfile, compares every checksum and scores "
      "`golden.jsonl`.\n\n{}{}{}\n",
      run, lineage["step"].get<i64>(), files_text,
      facts.contains("two_tower") ? tower_files_text : "", data_files_text(facts));
  if (!lineage["metrics"].empty()) text += "## How good it is\n\n" + metrics_text(lineage) + "\n";
  text += "## A raw row\n\nA JSON object with these columns:\n\n"
          "| column | kind | field |\n|---|---|---|\n" +
          columns_text(facts["columns"]) + "\n```json\n" + sample_row(content) + "\n```\n\n";
  text += "## Inputs of model.onnx\n\nN rows, padded to T steps (ids with -1, numbers with 0).\n\n"
          "| input | type | shape |\n|---|---|---|\n" + tensors_text(facts["inputs"]) +
          "\n## Outputs\n\n| output | type | shape |\n|---|---|---|\n" +
          tensors_text(facts["outputs"]) + "\n";
  if (!content.labels.empty())
    text += labels_text(content.labels, std::get<Loss>(content.graph->nodes.back().op).kind);
  if (const auto& target = content.preprocess->target())
    text += fmt::format("A `prediction` is in the units that `{}` was trained in, `value` in those of "
                        "the raw data: see\n\"target\" in `preprocess.json`.\n\n", target->field);
  text += asking_text(sample_row(content), facts.contains("two_tower"));
  text += "Without this program:\n\n" + python_text(facts);
  return text;
}

}  // namespace cohort
