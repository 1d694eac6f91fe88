// A shard set opened for reading: see docs/shard_format.md. Errors are Exit::data and name
// shard file, field, block and row.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "fields/schema.h"

namespace cohort {

struct Block {               // consecutive rows of one shard
  i64 shard = 0, first_row = 0, rows = 0;
};
struct ShardInfo {
  std::string file, split;
  i64 rows = 0;
};
// One field of one block, decoded to memory. Fixed: rows * count(shape) elements. Ragged: values
// of all rows back to back, and starts (rows + 1 entries, in elements of the field).
struct Column {
  std::vector<u8> values;
  std::vector<i64> starts;
};

// A raw row kept for serving: a JSON object of the columns that fields read, as text; pictures are the
// base64 of a JPEG or PNG file under the field's name.
struct SampleRow {
  i64 row = 0;               // row id
  std::string split, columns;
};

class ShardSet {
 public:
  static std::shared_ptr<ShardSet> open(const std::string& path);
  virtual ~ShardSet() = default;
  virtual const std::string& path() const = 0;
  virtual const std::vector<Field>& fields() const = 0;
  const Field& field(const std::string& name) const;       // Exit::data with the nearest name
  virtual const std::vector<Vocabulary>& vocabularies() const = 0;
  virtual const std::vector<ShardInfo>& shards() const = 0;
  virtual std::vector<Block> blocks(const std::string& split) const = 0;  // shard order
  i64 rows(const std::string& split) const;
  virtual bool shuffled() const = 0;                        // rows in hash order
  virtual std::string fingerprint() const = 0;              // the manifest's checksum, hex
  virtual std::string recipe() const { return ""; }         // YAML; empty where another program wrote it
  // Up to 256 rows of the held-out split; none in sets made before they were kept.
  virtual std::vector<SampleRow> samples() const { return {}; }
  // Thread-safe; reads bytes by offset and verifies the block's checksum.
  virtual Column read(const Block& block, i64 field) const = 0;
  // Row ids (i64) of the block: unique over the set, stable over re-sharding.
  virtual std::vector<i64> row_ids(const Block& block) const = 0;
  // Reads everything, checks every checksum and count; lists problems, empty if whole.
  virtual std::vector<std::string> verify() const = 0;
};

}  // namespace cohort
