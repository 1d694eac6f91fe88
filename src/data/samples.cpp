#include "data/samples.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "data/make_fields.h"
#include "fields/base64.h"
#include "fields/image.h"
#include "store/files.h"

namespace cohort {
namespace {

// The split that rows are kept of is the least one.
std::pair<int, std::string> rank_of(const std::string& split) {
  return {split == "test" ? 0 : split == "validation" ? 1 : split == "train" ? 3 : 2, split};
}

}  // namespace

Samples::Samples(const Recipe& recipe, const RawSchema& schema)
    : recipe_(recipe), schema_(schema) {
  if (schema.columns.empty()) return;  // no row came
  const auto read = [&](const std::string& name) { columns_[name] = schema.column(name); };
  for (const FieldConfig& field : recipe.fields) {
    for (const std::string& name : columns_of(field)) read(name);
    for (const std::string& name : field.one_hot) read(name);
  }
}

void Samples::add(const RawRow& row) {
  if (rows_.empty() || rank_of(row.split) < rank_of(split_)) {
    rows_.clear();
    split_ = row.split;
  }
  if (row.split != split_) return;
  const u64 hashed[2] = {recipe_.seed, static_cast<u64>(row.id)};
  const std::pair<u64, i64> key{hash_bytes(hashed, sizeof hashed), row.id};
  if (rows_.size() == most_rows) {
    if (rows_.rbegin()->first < key) return;
    rows_.erase(std::prev(rows_.end()));
  }
  RawRow& kept = rows_[key] = row;
  if (row.picture_file) kept.image.clear();
}

std::string Samples::line(const RawRow& row) const {
  nlohmann::json columns = nlohmann::json::object();
  for (const auto& [name, index] : columns_) columns[name] = row.cells[index];
  for (const FieldConfig& field : recipe_.fields) {
    if (field.kind != "image") continue;
    const Shape& shape = schema_.image;
    columns[field.name] =
        to_base64(row.picture_file ? real_files().read(row.place)
                                   : encode_png({shape[0], shape[1], shape[2], row.image}));
  }
  const nlohmann::json json = {{"row", row.id}, {"split", row.split}, {"columns", columns}};
  return json.dump() + "\n";
}

std::string Samples::text() const {
  std::string text;
  for (const auto& [key, row] : rows_) text += line(row);
  return text;
}

}  // namespace cohort
