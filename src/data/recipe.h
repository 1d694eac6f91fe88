// What `cohort shard` reads: see docs/shard_format.md for the keys.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/config.h"

namespace cohort {

struct SourceConfig {
  std::string path, labels, format = "csv", split = "train", encoding = "utf-8", delimiter = ",";
  bool header = true, quotes = true;
  std::vector<std::string> columns;
  std::string label;
  std::vector<i64> size;  // image_folder: height and width
  i64 channels = 3;
  bool resize = false;
};
struct JoinConfig {
  std::string on, key;
  SourceConfig table;
};
struct FieldConfig {
  std::string name, kind = "number", column, part = "all", words = "unicode", over = "all";
  std::vector<std::string> columns;
  std::vector<std::string> one_hot;  // columns of names, each a block of 0/1 elements
  i64 width = 1, classes = 0, max_size = 0, min_count = 1;
  double scale = 1, offset = 0;
  bool log1p = false;
};
struct HoldOut {
  std::string from = "train", to = "validation", by;
  double fraction = 0.1;
};
struct Group {
  std::string key, time;
  std::vector<std::string> columns;
  i64 min_length = 1;
};
struct Aggregate {
  std::string user, time;
  i64 period = 86400, history = 14, min_events = 1;
  bool idle = true;
  double validation = 0.1, test = 0.1;
};
struct Recipe {
  std::string root = ".", output, order = "hash";
  u64 seed = 1;
  i64 rows_per_block = 64, rows_per_shard = 4096;
  double max_bad_fraction = 0;
  std::vector<SourceConfig> sources;
  std::vector<JoinConfig> joins;
  std::vector<FieldConfig> fields;
  std::vector<HoldOut> hold_out;
  std::optional<Group> group;
  std::optional<Aggregate> aggregate;
};
void bind(Binder& b, SourceConfig& c);
void bind(Binder& b, JoinConfig& c);
void bind(Binder& b, FieldConfig& c);
void bind(Binder& b, HoldOut& c);
void bind(Binder& b, Group& c);
void bind(Binder& b, Aggregate& c);
void bind(Binder& b, Recipe& c);

}  // namespace cohort
