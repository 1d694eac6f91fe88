#include "train/json_lines.h"

#include <nlohmann/json.hpp>

#include "base/text.h"

namespace cohort {

template <class Json>
std::vector<Json> read_json_lines(Files& files, const std::string& path) {
  std::vector<Json> lines;
  if (!files.exists(path)) return lines;
  for (const std::string& text : split(files.read(path), '\n')) {
    Json line = Json::parse(text, nullptr, false);
    if (line.is_object()) lines.push_back(std::move(line));
  }
  return lines;
}

template std::vector<nlohmann::json> read_json_lines(Files&, const std::string&);
template std::vector<nlohmann::ordered_json> read_json_lines(Files&, const std::string&);

}  // namespace cohort
