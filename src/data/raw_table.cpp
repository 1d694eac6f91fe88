#include "data/raw_table.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "data/image_folder.h"
#include "fields/csv.h"
#include "fields/idx.h"
#include "store/files.h"

namespace cohort {
namespace {

std::string load(const std::string& path, nlohmann::json& lineage) {
  if (path.ends_with(".parquet")) {
    fail(Exit::data,
         "{}: Parquet is not read; convert it: python3 -c \"import pandas; "
         "pandas.read_parquet('{}').to_csv('{}.csv', index=False)\"",
         path, path, path.substr(0, path.size() - 8));
  }
  if (!real_files().exists(path)) fail(Exit::data, "{}: no such file: check path and root", path);
  std::string bytes = real_files().read(path);
  lineage.push_back({{"path", path}, {"bytes", bytes.size()},
                     {"checksum", to_hex(hash_text(bytes))}});
  return bytes;
}

// Takes records of one source into the table, matching its columns by name.
class Intake {
 public:
  Intake(const SourceConfig& source, std::string path, RawTable& table)
      : source_(source), path_(std::move(path)), table_(table) {}

  void columns(std::vector<std::string> names) {
    width_ = names.size();
    if (!source_.label.empty()) names.push_back("label");
    if (table_.columns.empty()) table_.columns = names;
    if (table_.columns != names) {
      fail(Exit::data, "{}: columns [{}], expected [{}] as in the source before", path_,
           join(names, ", "), join(table_.columns, ", "));
    }
    ready_ = true;
  }
  bool ready() const { return ready_; }
  void row(const CsvRecord& record) {
    const std::string place = fmt::format("{}:{}", path_, record.line);
    std::string problem = record.problem;
    if (problem.empty() && record.cells.size() != width_) {
      problem = fmt::format("{} columns, expected {}", record.cells.size(), width_);
    }
    for (const std::string& cell : record.cells) {
      if (problem.empty() && !valid_utf8(cell)) problem = "not UTF-8 (set encoding: latin1?)";
    }
    if (!problem.empty()) {
      table_.rejects.push_back({place, problem});
      return;
    }
    RawRow& row = table_.rows.emplace_back();
    row.cells = record.cells;
    if (!source_.label.empty()) row.cells.push_back(source_.label);
    row.split = source_.split;
    row.place = place;
  }

 private:
  const SourceConfig& source_;
  std::string path_;
  RawTable& table_;
  std::size_t width_ = 0;
  bool ready_ = false;
};

void read_text(const SourceConfig& source, const std::string& path, RawTable& table,
               nlohmann::json& lineage) {
  std::string text = load(path, lineage);
  if (source.encoding == "latin1") text = latin1_to_utf8(text);
  Intake intake(source, path, table);
  if (source.format == "lines") {
    intake.columns({"text"});
    parse_lines(text, [&](const CsvRecord& record) { intake.row(record); });
    return;
  }
  const std::string delimiter = source.delimiter == "\\t" ? "\t" : source.delimiter;
  if (delimiter.size() != 1) {
    fail(Exit::usage, "delimiter '{}' of {}: expected one character", delimiter, path);
  }
  if (!source.header) intake.columns(source.columns);
  parse_csv(text, delimiter[0], source.quotes, [&](const CsvRecord& record) {
    if (intake.ready()) {
      intake.row(record);
    } else {
      intake.columns(record.cells);
    }
  });
}

void read_pictures(const SourceConfig& source, const std::string& root, RawTable& table,
                   nlohmann::json& lineage) {
  const std::string path = root + "/" + source.path, label_path = root + "/" + source.labels;
  load(path, lineage);
  load(label_path, lineage);
  const IdxArray pictures = read_idx(path), labels = read_idx(label_path);
  if (pictures.shape.size() != 3 || labels.shape.size() != 1 ||
      labels.shape[0] != pictures.shape[0]) {
    fail(Exit::data, "{}: shapes {} and labels {}: expected [N, H, W] and [N]", path,
         to_string(pictures.shape), to_string(labels.shape));
  }
  const Shape shape{pictures.shape[1], pictures.shape[2], 1};
  if (table.image.empty()) table.image = shape;
  if (table.image != shape) {
    fail(Exit::data, "{}: images {}, expected {}", path, to_string(shape), to_string(table.image));
  }
  table.columns = {"label"};
  const std::size_t bytes = static_cast<std::size_t>(count(shape));
  for (std::size_t i = 0; i < labels.bytes.size(); ++i) {
    RawRow& row = table.rows.emplace_back();
    row.cells = {std::to_string(static_cast<unsigned char>(labels.bytes[i]))};
    row.image = pictures.bytes.substr(i * bytes, bytes);
    row.split = source.split;
    row.place = fmt::format("{}:{}", path, i);
  }
}

}  // namespace

i64 RawTable::column(const std::string& name) const {
  const auto found = std::find(columns.begin(), columns.end(), name);
  if (found != columns.end()) return found - columns.begin();
  const std::string near = nearest(name, columns);
  fail(Exit::usage, "no column '{}': the sources have [{}]{}", name, join(columns, ", "),
       near.empty() ? "" : ": did you mean '" + near + "'?");
}

void read_source(const SourceConfig& source, const std::string& root, RawTable& table,
                 nlohmann::json& lineage) {
  if (source.format == "image_folder") {
    read_image_folder(source, root, table, lineage);
  } else if (source.format == "idx") {
    read_pictures(source, root, table, lineage);
  } else {
    read_text(source, root + "/" + source.path, table, lineage);
  }
}

}  // namespace cohort
