#include "serve/repository_check.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/text.h"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Names = std::vector<std::string>;

constexpr const char* kRepository = "a serving repository (versions/, current, history.jsonl)";
constexpr const char* kTriton = "a model repository of Triton (NAME/config.pbtxt)";

bool has(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool number_of(const std::string& text, bool padded) {
  const auto number = parse_i64(text);
  return number && *number > 0 &&
         text == (padded ? fmt::format("{:06}", *number) : std::to_string(*number));
}

// What a folder holds, without what file systems and tools leave in empty ones.
Names names_in(Files& files, const std::string& folder) {
  Names names;
  for (const std::string& name : files.list(folder))
    if (name[0] != '.' && name != "lost+found") names.push_back(name);
  return names;
}

bool is_folder(Files& files, const std::string& path) {
  try {
    files.list(path);
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::string described(const Names& names) {
  std::string what = has(names, "MANIFEST.sha256") ? "a bundle: "
                     : has(names, "run.json")      ? "a run's folder: "
                     : has(names, "manifest.json") ? "a shard set or checkpoint: "
                     : has(names, "config.pbtxt")  ? "a model of Triton: "
                                                   : "";
  const std::size_t told = std::min<std::size_t>(names.size(), 4);
  what += join(Names(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(told)), ", ");
  return names.size() > told ? fmt::format("{} and {} more", what, names.size() - told) : what;
}

[[noreturn]] void refuse(const std::string& folder, const std::string& expected,
                         const std::string& got) {
  fail(Exit::usage, "{}: expected {}, got {}; nothing was written: give another folder", folder,
       expected, got);
}

bool is_repository(Files& files, const std::string& folder, const Names& names) {
  if (!has(names, "versions") || has(names, "manifest.json") || has(names, "MANIFEST.sha256"))
    return false;
  if (has(names, "history.jsonl")) return true;
  const std::string versions = folder + "/versions";
  if (!is_folder(files, versions)) return false;
  // A first publication that was killed: nothing but what it makes.
  const auto of_first = [](const std::string& name) {
    return name == "versions" || name == "lock" || name == "current" ||
           name.starts_with("current.tmp") || name.starts_with("history.jsonl.tmp");
  };
  const Names inside = names_in(files, versions);
  return std::all_of(names.begin(), names.end(), of_first) &&
         std::all_of(inside.begin(), inside.end(), [](const std::string& name) {
           return number_of(name.substr(0, name.find(".tmp")), true);
         });
}

// Of the folder of one model.
bool is_triton_model(Files& files, const std::string& folder) {
  if (!is_folder(files, folder)) return false;
  const Names names = names_in(files, folder);
  if (has(names, "manifest.json") || has(names, "MANIFEST.sha256")) return false;
  if (has(names, "config.pbtxt")) return true;
  return std::all_of(names.begin(), names.end(), [](const std::string& name) {
    return name == "labels.txt" || name.find(".tmp") != std::string::npos || number_of(name, false);
  });
}

bool is_triton(Files& files, const std::string& folder, const Names& names) {
  for (const char* file : {"manifest.json", "MANIFEST.sha256", "config.pbtxt", "run.json"})
    if (has(names, file)) return false;
  const auto model = [&](const std::string& name) {
    return is_triton_model(files, folder + "/" + name);
  };
  const auto complete = [&](const std::string& name) {
    return files.exists(folder + "/" + name + "/config.pbtxt");
  };
  return std::any_of(names.begin(), names.end(), complete) ||
         std::all_of(names.begin(), names.end(), model);
}

// What a folder above must not be, "" where it is nothing of the kind.
std::string whole_folder(Files& files, const std::string& folder) {
  const auto there = [&](const char* name) { return files.exists(folder + "/" + name); };
  if (there("MANIFEST.sha256")) return "a bundle";
  if (there("versions") && there("history.jsonl")) return "a serving repository";
  try {
    if (there("manifest.json") &&
        files.read(folder + "/manifest.json").find("\"manifest_checksum\"") != std::string::npos)
      return "a shard set or checkpoint";
  } catch (const Error&) {   // not ours to read, not ours
  }
  return "";
}

void check_above(Files& files, const std::string& folder, const std::string& expected) {
  std::set<std::string> above;
  std::error_code error;
  for (fs::path path : {fs::path(folder), fs::weakly_canonical(folder, error)})
    for (path = path.parent_path(); path.has_relative_path(); path = path.parent_path())
      above.insert(path.string());
  for (const std::string& path : above) {
    const std::string what = whole_folder(files, path);
    if (!what.empty()) refuse(folder, expected, fmt::format("one inside {}, {}", what, path));
  }
}

using IsOne = bool (*)(Files&, const std::string&, const Names&);

// Whether the folder is one already.
bool check_place(Files& files, const std::string& folder, const char* kind, IsOne is_one) {
  const std::string expected = fmt::format("a new or empty folder or {}", kind);
  if (folder.empty()) fail(Exit::usage, "expected {}, got an empty name", expected);
  check_above(files, folder, expected);
  if (!files.exists(folder)) return false;
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (fs::exists(status) && !fs::is_directory(status)) refuse(folder, expected, "a file");
  const Names names = names_in(files, folder);
  if (names.empty()) return false;
  if (!is_one(files, folder, names)) refuse(folder, expected, described(names));
  return true;
}

// "name (kind), name (kind)" of the objects of a list, sorted; with the shape where there is one.
std::string told(const json& list, const char* key) {
  Names all;
  for (const json& item : list) {
    std::string what = item.at(key).get<std::string>();
    if (item.contains("shape")) what += " [" + join(item.at("shape").get<Names>(), ", ") + "]";
    all.push_back(fmt::format("{} ({})", item.at("name").get<std::string>(), what));
  }
  std::sort(all.begin(), all.end());
  return join(all, ", ");
}

// Whether clients of a model with the outputs `before` find all of them in `now`.
bool has_all(const json& now, const json& before) {
  return std::all_of(before.begin(), before.end(), [&](const json& output) {
    const std::string wanted = told(json::array({output}), "dtype");
    return std::any_of(now.begin(), now.end(), [&](const json& other) {
      return told(json::array({other}), "dtype") == wanted;
    });
  });
}

// The first label that is another one; "" where there is none, or where current has none.
std::string label_difference(const json& mine, const json& theirs) {
  const json now = mine.value("labels", json::array());
  const json before = theirs.value("labels", json::array());
  if (before.empty()) return "";
  if (now.size() != before.size())
    return fmt::format("has {} labels; current has {}", now.size(), before.size());
  for (std::size_t k = 0; k < now.size(); ++k)
    if (now[k] != before[k])
      return fmt::format("has other labels: {} is {}; current's: {}", k, now[k].dump(),
                         before[k].dump());
  return "";
}

}  // namespace

void check_repository_place(Files& files, const std::string& folder) {
  check_place(files, folder, kRepository, is_repository);
}

void require_repository(Files& files, const std::string& folder) {
  if (!check_place(files, folder, kRepository, is_repository))
    fail(Exit::usage, "{}: expected {}, got {}; publish a bundle to it first", folder, kRepository,
         files.exists(folder) ? "an empty folder" : "nothing");
}

void check_triton_place(Files& files, const std::string& folder, const std::string& name) {
  check_place(files, folder, kTriton, is_triton);
  const std::string model = folder + "/" + name;
  if (files.exists(model) && !is_triton_model(files, model))
    refuse(model, "a model of Triton (config.pbtxt)",
           is_folder(files, model) ? described(names_in(files, model)) : "a file");
}

std::string interface_difference(const json& mine, const json& theirs) {
  const std::string now = told(mine.at("columns"), "kind");
  const std::string before = told(theirs.at("columns"), "kind");
  if (now != before) return fmt::format("takes other columns: {}; current's: {}", now, before);
  if (!has_all(mine.at("outputs"), theirs.at("outputs")))
    return fmt::format("has other outputs: {}; current's: {}", told(mine.at("outputs"), "dtype"),
                       told(theirs.at("outputs"), "dtype"));
  const std::string label = label_difference(mine, theirs);
  if (!label.empty()) return label;
  if (mine.contains("two_tower") != theirs.contains("two_tower"))
    return mine.contains("two_tower") ? "has two towers, current has none"
                                      : "has no two towers, as current has";
  return "";
}

}  // namespace cohort
