#include "data/recipe.h"

#include <algorithm>
#include <limits>

#include "base/text.h"

namespace cohort {
namespace {

using Kinds = std::vector<std::string>;

// Keys that mean something for some kinds only: elsewhere they are errors to read, so that none is
// ignored in silence, and are not written.
class KindBinder {
 public:
  KindBinder(Binder& b, const std::string& kind) : b_(b), kind_(kind) {}

  template <class V>
  void key(const Kinds& kinds, const std::string& name, V& value, const Rule& rule,
           const std::string& doc) {
    const bool meant = std::find(kinds.begin(), kinds.end(), kind_) != kinds.end();
    if (!meant && b_.mode() == Binder::Mode::write) return;
    if (!meant && b_.has(name)) {
      b_.error("'" + name + "' has no meaning for " + kind_ + ", only for " + join(kinds, ", ") +
                   ": remove it",
               name);
    }
    b_.key(name, value, rule, doc);
  }

 private:
  Binder& b_;
  std::string kind_;
};

}  // namespace

void bind(Binder& b, SourceConfig& c) {
  b.required("path", c.path, any(), "File, or folder of class folders; under root.");
  b.key("format", c.format, one_of({"csv", "lines", "idx", "image_folder"}), "What the file is.");
  b.key("split", c.split, any(), "The split its rows go to.");
  const Kinds text{"csv", "lines"}, csv{"csv"}, idx{"idx"}, folder{"image_folder"};
  KindBinder k(b, c.format);
  k.key(idx, "labels", c.labels, any(), "idx: the file of labels.");
  k.key(text, "encoding", c.encoding, one_of({"utf-8", "latin1"}), "Of the text.");
  k.key(csv, "delimiter", c.delimiter, any(), "csv: one character between cells.");
  k.key(csv, "header", c.header, any(), "csv: the first record names the columns.");
  k.key(csv, "quotes", c.quotes, any(), "csv: double quotes enclose cells.");
  k.key(csv, "columns", c.columns, any(), "csv without header: names of the columns.");
  k.key(text, "label", c.label, any(), "csv, lines: value of an added column 'label'.");
  k.key(folder, "size", c.size, at_least(1),
        "image_folder: [height, width]; of the first by default.");
  k.key(folder, "channels", c.channels, any(), "image_folder: 1 for grey, 3 for RGB.");
  k.key(folder, "resize", c.resize, any(),
        "image_folder: scale other sizes (bilinear), else reject them.");
  if (b.mode() != Binder::Mode::read) return;
  if (c.channels != 1 && c.channels != 3) b.error("expected 1 or 3", "channels");
  if (!c.size.empty() && c.size.size() != 2) b.error("expected [height, width]", "size");
  if (c.resize && c.size.empty()) b.error("resize needs size: [height, width]", "resize");
  if (c.format == "csv" && c.header && !c.columns.empty()) {
    b.error("columns are named by the header: remove them or set header: false", "columns");
  }
  if (c.format == "csv" && !c.header && c.columns.empty()) {
    b.error("without a header the columns must be named: columns: [...]", "header");
  }
  if (c.format == "idx" && c.labels.empty()) b.error("idx needs labels: FILE", "path");
}

void bind(Binder& b, JoinConfig& c) {
  b.required("on", c.on, any(), "Column of the sources that holds the key.");
  b.required("key", c.key, any(), "Column of the joined table that holds the key.");
  b.group("table", c.table, "The table whose columns are added.");
}

void bind(Binder& b, FieldConfig& c) {
  b.required("name", c.name, any(), "Name of the field in the shard set.");
  b.key("kind", c.kind, one_of({"number", "numbers", "id", "ids", "label", "tokens", "image"}),
        "How cells become values.");
  const Kinds number{"number"}, series{"numbers"}, numeric{"number", "numbers"}, tokens{"tokens"},
      sequence{"ids", "tokens"}, ids{"id", "ids", "label"};
  KindBinder k(b, c.kind);
  k.key({"number", "numbers", "id", "ids", "label", "tokens"}, "column", c.column, any(),
        "The column read; the field's name by default.");
  k.key(number, "columns", c.columns, any(), "number: several columns, one element each.");
  k.key(number, "one_hot", c.one_hot, any(),
        "number: columns of names, one 0/1 element per name.");
  k.key(sequence, "part", c.part, one_of({"all", "history", "next"}),
        "Of a sequence: all, all but the last, or all but the first element.");
  k.key(series, "width", c.width, at_least(1), "numbers: numbers per element of the sequence.");
  k.key(ids, "classes", c.classes, between(0, std::numeric_limits<i32>::max()),
        "label, id, ids: values lie in [0, classes); 0: a vocabulary maps names to ids.");
  k.key(ids, "over", c.over, one_of({"all", "train"}),
        "id, ids, label: rows that make the vocabulary.");
  k.key(numeric, "scale", c.scale, any(), "number: multiplied after offset was added.");
  k.key(numeric, "offset", c.offset, any(), "number: added to the value.");
  k.key(numeric, "log1p", c.log1p, any(), "number: log(1 + value) first.");
  k.key(tokens, "words", c.words, one_of({"unicode", "space"}), "tokens: where words end.");
  k.key(tokens, "min_count", c.min_count, at_least(1), "tokens: rarer words are unknown.");
  k.key(tokens, "max_size", c.max_size, at_least(0),
        "tokens: size of the vocabulary; 0 for no limit.");
  if (b.mode() == Binder::Mode::read && !c.column.empty() && !c.columns.empty()) {
    b.error("column and columns exclude each other", "column");
  }
}

void bind(Binder& b, HoldOut& c) {
  b.key("from", c.from, any(), "Split to take rows from.");
  b.key("to", c.to, any(), "Split they go to.");
  b.key("fraction", c.fraction, between(0, 1), "Part of the rows, by hash.");
  b.key("by", c.by, any(), "Column: rows of one value stay together; the row by default.");
}

void bind(Binder& b, Group& c) {
  b.required("key", c.key, any(), "Column whose values make the groups.");
  b.required("time", c.time, any(), "Column of numbers that orders the rows of a group.");
  b.key("columns", c.columns, any(), "Columns that become sequences.");
  b.key("min_length", c.min_length, at_least(1), "Shorter groups are left out.");
}

void bind(Binder& b, Aggregate& c) {
  b.required("user", c.user, any(), "Column of the user.");
  b.required("time", c.time, any(), "Column of the time, in seconds.");
  b.key("period", c.period, at_least(1), "Seconds per step of the series.");
  b.key("history", c.history, at_least(1), "Steps of history of a row.");
  b.key("min_events", c.min_events, at_least(0), "Events a user must have before the next step.");
  b.key("idle", c.idle, any(), "Keep rows whose history holds no event.");
  b.key("validation", c.validation, below_one(), "Last part of the steps before the test steps.");
  b.key("test", c.test, below_one(), "Last part of the steps.");
  if (b.mode() == Binder::Mode::read && c.validation + c.test >= 1) {
    b.error("validation and test leave nothing for training", "test");
  }
}

void bind(Binder& b, Recipe& c) {
  b.key("root", c.root, any(), "Folder that paths of sources start from.");
  b.required("output", c.output, any(), "Folder of the shard set.");
  b.key("order", c.order, one_of({"hash", "keep"}), "Order of rows.");
  b.key("seed", c.seed, any(), "Of row order and hashed splits.");
  b.key("rows_per_block", c.rows_per_block, at_least(1), "Rows read together.");
  b.key("rows_per_shard", c.rows_per_shard, at_least(1), "Rows of one file.");
  b.key("max_bad_fraction", c.max_bad_fraction, between(0, 1), "More rejected rows are an error.");
  b.list("sources", c.sources, "Raw files.");
  b.list("joins", c.joins, "Tables joined to every row by a key.");
  b.list("fields", c.fields, "Fields of the shard set.");
  b.list("hold_out", c.hold_out, "Splits taken out of splits, in order.");
  b.optional_group("group", c.group,
                   "Rows of one key to one row: sequences in order of time, and 'deltas'.");
  b.optional_group("aggregate", c.aggregate,
                   "Counts per user and period: columns 'events' (history) and 'target' (next).");
  if (b.mode() == Binder::Mode::read && c.group && c.aggregate) {
    b.error("group and aggregate exclude each other", "group");
  }
}

}  // namespace cohort
