#include "fields/schema.h"

#include <nlohmann/json.hpp>

namespace cohort {

void to_json(nlohmann::json& json, const Field& field) {
  json = {{"name", field.name},       {"dtype", name_of(field.dtype)},
          {"shape", field.shape},     {"ragged", field.ragged},
          {"classes", field.classes}, {"vocabulary", field.vocabulary},
          {"stats",
           {{"mean", field.stats.mean},
            {"stddev", field.stats.stddev},
            {"min", field.stats.min},
            {"max", field.stats.max},
            {"max_length", field.stats.max_length},
            {"mean_length", field.stats.mean_length}}}};
  for (const OneHot& column : field.one_hot) {
    json["one_hot"].push_back({{"column", column.column}, {"names", column.names}});
  }
}

void from_json(const nlohmann::json& json, Field& field) {
  field.name = json.at("name").get<std::string>();
  field.dtype = dtype_from(json.at("dtype").get<std::string>());
  field.shape = json.at("shape").get<Shape>();
  field.ragged = json.at("ragged").get<bool>();
  field.classes = json.at("classes").get<i64>();
  field.vocabulary = json.at("vocabulary").get<std::string>();
  const nlohmann::json& stats = json.at("stats");
  field.stats.mean = stats.at("mean").get<std::vector<double>>();
  field.stats.stddev = stats.at("stddev").get<std::vector<double>>();
  field.stats.min = stats.at("min").get<std::vector<double>>();
  field.stats.max = stats.at("max").get<std::vector<double>>();
  field.stats.max_length = stats.at("max_length").get<i64>();
  field.stats.mean_length = stats.at("mean_length").get<double>();
  field.one_hot.clear();
  if (!json.contains("one_hot")) return;
  for (const nlohmann::json& column : json.at("one_hot")) {
    field.one_hot.push_back({column.at("column").get<std::string>(),
                             column.at("names").get<std::vector<std::string>>()});
  }
}

}  // namespace cohort
