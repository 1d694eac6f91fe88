#include "data/shard_writer.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "store/folder.h"
#include "store/hdf5.h"

namespace cohort {
namespace {

using nlohmann::json;

Shape with_rows(i64 rows, const Shape& shape) {
  Shape all{rows};
  all.insert(all.end(), shape.begin(), shape.end());
  return all;
}

// One shard's file. The functions return the checksum of every block.
class ShardFile {
 public:
  ShardFile(const std::string& name, i64 rows, i64 per_block)
      : file_(name), rows_(rows), per_block_(per_block) {}

  json write(const ShardRows& rows) {
    file_.group("/fields");
    json sums = json::object();
    sums["/row_id"] = fixed("/row_id", DType::i64, {}, rows.row_ids.data());
    for (const FieldRows& field : rows.fields) {
      const std::string& name = field.field.name;
      sums[name] = field.field.ragged ? ragged("/fields/" + name, field)
                                      : fixed("/fields/" + name, field.field.dtype,
                                              field.field.shape, field.values.data());
    }
    return sums;
  }
  std::string bytes() { return file_.bytes(); }

 private:
  i64 blocks() const { return (rows_ + per_block_ - 1) / per_block_; }
  i64 end_of(i64 block) const { return std::min((block + 1) * per_block_, rows_); }

  std::vector<std::string> fixed(const std::string& name, DType dtype, const Shape& shape,
                                 const void* data) {
    const i64 bytes = count(shape) * size_of(dtype);
    const u8* at = static_cast<const u8*>(data);
    std::vector<std::string> sums;
    for (i64 b = 0; b < blocks(); ++b) {
      const i64 begin = b * per_block_;
      sums.push_back(to_hex(
          hash_bytes(at + begin * bytes, static_cast<std::size_t>((end_of(b) - begin) * bytes))));
    }
    file_.dataset(name, {const_cast<void*>(data), dtype, with_rows(rows_, shape)},
                  with_rows(std::min(rows_, per_block_), shape));
    return sums;
  }

  std::vector<std::string> ragged(const std::string& name, const FieldRows& rows) {
    const auto start = [&](i64 row) { return rows.starts[static_cast<std::size_t>(row)]; };
    const i64 element = count(rows.field.shape) * size_of(rows.field.dtype);
    i64 chunk = 1;
    for (i64 b = 0; b < blocks(); ++b) {
      chunk = std::max(chunk, start(end_of(b)) - start(b * per_block_));
    }
    std::vector<u8> data(static_cast<std::size_t>(blocks() * chunk * element));
    std::vector<i64> offsets;
    std::vector<i32> lengths;
    std::vector<std::string> sums;
    for (i64 b = 0; b < blocks(); ++b) {
      const i64 begin = b * per_block_, end = end_of(b);
      for (i64 r = begin; r < end; ++r) {
        offsets.push_back(b * chunk + start(r) - start(begin));
        lengths.push_back(static_cast<i32>(start(r + 1) - start(r)));
      }
      const std::size_t bytes = static_cast<std::size_t>((start(end) - start(begin)) * element);
      u8* to = data.data() + b * chunk * element;
      if (bytes > 0) std::memcpy(to, rows.values.data() + start(begin) * element, bytes);
      Hasher hasher;
      hasher.add(to, bytes);
      hasher.add(lengths.data() + begin, static_cast<std::size_t>(end - begin) * sizeof(i32));
      sums.push_back(to_hex(hasher.value()));
    }
    const i64 per = std::min(rows_, per_block_);
    file_.group(name);
    file_.dataset(name + "/values",
                  {data.data(), rows.field.dtype, with_rows(blocks() * chunk, rows.field.shape)},
                  with_rows(chunk, rows.field.shape));
    file_.dataset(name + "/offsets", {offsets.data(), DType::i64, {rows_}}, {per});
    file_.dataset(name + "/lengths", {lengths.data(), DType::i32, {rows_}}, {per});
    return sums;
  }

  Hdf5Writer file_;
  i64 rows_, per_block_;
};

}  // namespace

void FieldRows::add(const std::vector<u8>& row) {
  values.insert(values.end(), row.begin(), row.end());
  if (!field.ragged) return;
  if (starts.empty()) starts.push_back(0);
  starts.push_back(static_cast<i64>(values.size()) / (count(field.shape) * size_of(field.dtype)));
}

void ShardRows::clear() {
  for (FieldRows& rows : fields) {
    rows.values.clear();
    rows.starts.clear();
  }
  row_ids.clear();
}

struct ShardWriter::State {
  explicit State(const WriteOptions& o) : options(o), folder(real_files(), o.path) {}
  WriteOptions options;
  FolderWriter folder;
  json shards = json::array();
  std::vector<std::pair<std::string, i64>> rows;
  i64 index = 0;  // of the next file of the split
};

ShardWriter::ShardWriter(const WriteOptions& options) : state_(std::make_unique<State>(options)) {}
ShardWriter::~ShardWriter() = default;
const std::vector<std::pair<std::string, i64>>& ShardWriter::rows() const { return state_->rows; }

void ShardWriter::write(const std::string& split, const ShardRows& rows) {
  State& s = *state_;
  if (s.rows.empty() || s.rows.back().first != split) {
    s.rows.emplace_back(split, 0);
    s.index = 0;
  }
  const i64 n = static_cast<i64>(rows.row_ids.size());
  s.rows.back().second += n;
  const std::string name = fmt::format("{}-{:05}.h5", split, s.index++);
  ShardFile file(name, n, s.options.rows_per_block);
  json sums = file.write(rows);
  s.folder.write(name, [&](FileWriter& out) {
    const std::string bytes = file.bytes();
    out.write(bytes.data(), static_cast<i64>(bytes.size()));
  });
  s.shards.push_back(
      {{"file", name}, {"split", split}, {"rows", n}, {"checksums", std::move(sums)}});
  log::info("wrote {} ({} rows)", name, n);
}

void ShardWriter::write_samples(const std::string& text) {
  state_->folder.write("samples.jsonl", [&](FileWriter& out) {
    out.write(text.data(), static_cast<i64>(text.size()));
  });
}

void ShardWriter::commit(const std::vector<Field>& fields,
                         const std::vector<Vocabulary>& vocabularies, const json& sources) {
  State& s = *state_;
  json counts = json::object(), words = json::array();
  for (const auto& [split, n] : s.rows) counts[split] = n;
  for (const Vocabulary& v : vocabularies) {
    words.push_back({{"name", v.name}, {"entries", v.entries}});
  }
  s.folder.commit({{"format", "cohort-shards"},
                   {"version", 1},
                   {"fields", fields},
                   {"rows", std::move(counts)},
                   {"rows_per_block", s.options.rows_per_block},
                   {"shards", std::move(s.shards)},
                   {"vocabularies", std::move(words)},
                   {"sources", sources},
                   {"recipe", s.options.recipe},
                   {"seed", s.options.seed},
                   {"order", s.options.shuffled ? "hash" : "keep"}});
}

}  // namespace cohort
