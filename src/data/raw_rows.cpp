#include "data/raw_rows.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "data/image_folder.h"
#include "fields/csv.h"
#include "fields/idx.h"
#include "store/files.h"
#include "store/spill_sort.h"

namespace cohort {
namespace {

// Reads a file once, for its lineage and for `use`.
void read_raw(const std::string& path, nlohmann::json& lineage,
              const std::function<void(std::string_view)>& use) {
  if (path.ends_with(".parquet")) {
    fail(Exit::data,
         "{}: Parquet is not read; convert it: python3 -c \"import pandas; "
         "pandas.read_parquet('{}').to_csv('{}.csv', index=False)\"",
         path, path, path.substr(0, path.size() - 8));
  }
  if (!real_files().exists(path)) fail(Exit::data, "{}: no such file: check path and root", path);
  Hasher hasher;
  i64 bytes = 0;
  read_pieces(path, [&](std::string_view piece) {
    hasher.add(piece.data(), piece.size());
    bytes += static_cast<i64>(piece.size());
    use(piece);
  });
  lineage.push_back({{"path", path}, {"bytes", bytes}, {"checksum", to_hex(hasher.value())}});
}

// Why a cell is no text, or empty.
std::string problem_of(const std::string& cell) {
  if (!valid_utf8(cell)) return "not UTF-8 (set encoding: latin1?)";
  if (cell.find('\0') != std::string::npos) return "holds a zero byte (is the file UTF-16?)";
  return "";
}

// Takes records of one source: the first names the columns where there is a header.
class Intake {
 public:
  Intake(const SourceConfig& source, std::string path, RawSchema& schema, const RowSink& use,
         const RejectSink& reject)
      : source_(source), path_(std::move(path)), schema_(schema), use_(use), reject_(reject) {}

  void columns(std::vector<std::string> names) {
    width_ = names.size();
    if (!source_.label.empty()) names.push_back("label");
    schema_.set_columns(names, path_);
  }
  void header(const CsvRecord& record) {
    std::string problem = record.problem;
    for (const std::string& cell : record.cells) {
      if (problem.empty()) problem = problem_of(cell);
    }
    if (!problem.empty()) fail(Exit::data, "{}:{}: header: {}", path_, record.line, problem);
    columns(record.cells);
  }
  void record(CsvRecord&& record) {
    if (width_ == 0) return header(record);
    std::string problem = record.problem;
    if (problem.empty() && record.cells.size() != width_) {
      problem = fmt::format("{} columns, expected {}", record.cells.size(), width_);
    }
    for (const std::string& cell : record.cells) {
      if (problem.empty()) problem = problem_of(cell);
    }
    const std::string place = fmt::format("{}:{}", path_, record.line);
    if (!problem.empty()) return reject_(place, problem);
    if (!source_.label.empty()) record.cells.push_back(source_.label);
    use_({std::move(record.cells), source_.split, place, "", 0});
  }
  void end() const {
    if (width_ == 0) {
      fail(Exit::data, "{}: expected a header that names the columns, got an empty file", path_);
    }
  }

 private:
  const SourceConfig& source_;
  std::string path_;
  RawSchema& schema_;
  const RowSink& use_;
  const RejectSink& reject_;
  std::size_t width_ = 0;
};

void read_text(const SourceConfig& source, const std::string& path, RawSchema& schema,
               nlohmann::json& lineage, const RowSink& use, const RejectSink& reject) {
  const std::string delimiter = source.delimiter == "\\t" ? "\t" : source.delimiter;
  if (delimiter.size() != 1) {
    fail(Exit::usage, "delimiter '{}' of {}: expected one character", delimiter, path);
  }
  const bool csv = source.format == "csv";
  Intake intake(source, path, schema, use, reject);
  if (!csv) intake.columns({"text"});
  if (csv && !source.header) intake.columns(source.columns);
  CsvParser parser(csv ? std::optional(delimiter[0]) : std::nullopt, csv && source.quotes,
                   [&](CsvRecord&& record) { intake.record(std::move(record)); });
  bool first = true;
  read_raw(path, lineage, [&](std::string_view piece) {
    if (first && piece.starts_with("\xef\xbb\xbf")) piece.remove_prefix(3);  // byte order mark
    first = false;
    if (source.encoding == "latin1") {
      parser.feed(latin1_to_utf8(piece));
    } else {
      parser.feed(piece);
    }
  });
  parser.finish();
  intake.end();
}

void read_pictures(const SourceConfig& source, const std::string& root, RawSchema& schema,
                   nlohmann::json& lineage, const RowSink& use) {
  const std::string path = root + "/" + source.path, label_path = root + "/" + source.labels;
  for (const std::string& file : {path, label_path}) read_raw(file, lineage, [](auto) {});
  const IdxArray pictures = read_idx(path), labels = read_idx(label_path);
  if (pictures.shape.size() != 3 || labels.shape.size() != 1 ||
      labels.shape[0] != pictures.shape[0]) {
    fail(Exit::data, "{}: shapes {} and labels {}: expected [N, H, W] and [N]", path,
         to_string(pictures.shape), to_string(labels.shape));
  }
  const Shape shape{pictures.shape[1], pictures.shape[2], 1};
  if (schema.image.empty()) schema.image = shape;
  if (schema.image != shape) {
    fail(Exit::data, "{}: images {}, expected {}", path, to_string(shape), to_string(schema.image));
  }
  schema.set_columns({"label"}, path);
  const std::size_t bytes = static_cast<std::size_t>(count(shape));
  for (std::size_t i = 0; i < labels.bytes.size(); ++i) {
    use({{std::to_string(static_cast<unsigned char>(labels.bytes[i]))},
         source.split,
         fmt::format("{}:{}", path, i),
         pictures.bytes.substr(i * bytes, bytes),
         0});
  }
}

}  // namespace

void RawSchema::set_columns(const std::vector<std::string>& names, const std::string& path) {
  if (columns.empty()) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (std::count(names.begin(), names.end(), names[i]) > 1) {
        fail(Exit::data, "{}: two columns are named '{}': rename one", path, names[i]);
      }
    }
    columns = names;
  }
  if (columns != names) {
    fail(Exit::data, "{}: columns [{}], expected [{}] as in the source before", path,
         join(names, ", "), join(columns, ", "));
  }
}

std::size_t RawSchema::column(const std::string& name) const {
  const auto found = std::find(columns.begin(), columns.end(), name);
  if (found != columns.end()) return static_cast<std::size_t>(found - columns.begin());
  const std::string near = nearest(name, columns);
  fail(Exit::usage, "no column '{}': the sources have [{}]{}", name, join(columns, ", "),
       near.empty() ? "" : ": did you mean '" + near + "'?");
}

void read_source(const SourceConfig& source, const std::string& root, RawSchema& schema,
                 nlohmann::json& lineage, const RowSink& use, const RejectSink& reject) {
  if (source.format == "image_folder") {
    read_image_folder(source, root, schema, lineage, use, reject);
  } else if (source.format == "idx") {
    read_pictures(source, root, schema, lineage, use);
  } else {
    read_text(source, root + "/" + source.path, schema, lineage, use, reject);
  }
}

std::string pack_row(const RawRow& row) {
  std::string bytes;
  pack_value(bytes, row.id);
  pack_size(bytes, row.picture_file ? 1 : 0);
  pack_text(bytes, row.place);
  pack_text(bytes, row.image);
  pack_size(bytes, row.cells.size());
  for (const std::string& cell : row.cells) pack_text(bytes, cell);
  return bytes;
}

RawRow unpack_row(std::string_view bytes) {
  Unpacker packed(bytes);
  RawRow row;
  row.id = packed.value<i64>();
  row.picture_file = packed.size() != 0;
  row.place = packed.text();
  row.image = packed.text();
  row.cells.resize(packed.size());
  for (std::string& cell : row.cells) cell = packed.text();
  return row;
}

}  // namespace cohort
