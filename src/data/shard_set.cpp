#include "data/shard_set.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "store/folder.h"
#include "store/hdf5.h"

namespace cohort {
namespace {

using nlohmann::json;
using Place = Hdf5Reader::Place;

struct FieldPlaces {  // per block
  std::vector<Place> values, lengths;
  std::vector<u64> checksums;
};
struct Shard {
  int handle = -1;
  i64 bytes = 0;
  std::vector<FieldPlaces> fields;  // the last one is /row_id
};

[[noreturn]] void refuse(const std::string& where, const std::string& expected,
                         const std::string& got) {
  fail(Exit::data, "{}: expected {}, got {}: shard the data again", where, expected, got);
}

constexpr const char* samples_name = "samples.jsonl";
constexpr i64 kMostRowsPerBlock = i64{1} << 40;  // far from overflow

class OpenShardSet : public ShardSet {
 public:
  explicit OpenShardSet(const std::string& path) : path_(path) {
    const json manifest =
        open_folder(real_files(), path, false, static_cast<int>(Exit::data));
    try {
      load(manifest);
    } catch (const json::exception& error) {
      fail(Exit::data, "{}/manifest.json: {}: not a shard set of this version", path,
           error.what());
    }
  }
  ~OpenShardSet() override {
    for (const Shard& shard : open_) {
      if (shard.handle >= 0) static_cast<void>(::close(shard.handle));
    }
  }
  const std::string& path() const override { return path_; }
  const std::vector<Field>& fields() const override { return fields_; }
  const std::vector<Vocabulary>& vocabularies() const override { return vocabularies_; }
  const std::vector<ShardInfo>& shards() const override { return shards_; }
  bool shuffled() const override { return shuffled_; }
  std::string fingerprint() const override { return fingerprint_; }
  std::string recipe() const override { return recipe_; }

  std::vector<Block> blocks(const std::string& split) const override {
    std::vector<Block> result;
    for (std::size_t s = 0; s < shards_.size(); ++s) {
      if (shards_[s].split != split) continue;
      for (i64 row = 0; row < shards_[s].rows; row += per_block_) {
        result.push_back({static_cast<i64>(s), row, std::min(per_block_, shards_[s].rows - row)});
      }
    }
    return result;
  }

  Column read(const Block& block, i64 field) const override {
    const Field& f = fields_.at(static_cast<std::size_t>(field));
    return read_field(block, static_cast<std::size_t>(field), f);
  }
  std::vector<i64> row_ids(const Block& block) const override {
    const Column column = read_field(block, fields_.size(), row_id_);
    std::vector<i64> ids(static_cast<std::size_t>(block.rows));
    std::memcpy(ids.data(), column.values.data(), ids.size() * sizeof(i64));
    return ids;
  }

  std::vector<SampleRow> samples() const override {
    std::vector<SampleRow> rows;
    if (samples_.is_null()) return rows;
    const std::string text =
        read_listed(real_files(), path_, samples_, static_cast<int>(Exit::data));
    for (const std::string& line : split(text, '\n')) {
      if (line.empty()) continue;
      try {
        const json row = json::parse(line);
        const json& columns = row.at("columns");
        for (const auto& [name, cell] : columns.get_ref<const json::object_t&>()) {
          static_cast<void>(cell.get_ref<const std::string&>());  // text, or type_error
        }
        rows.push_back({row.at("row").get<i64>(), row.at("split").get<std::string>(),
                        columns.dump()});
      } catch (const json::exception& error) {
        refuse(path_ + "/" + samples_name, "a row as JSON in every line", error.what());
      }
    }
    return rows;
  }

  std::vector<std::string> verify() const override {
    std::vector<std::string> problems;
    const auto attempt = [&](auto&& body) {
      try {
        body();
      } catch (const Error& error) {
        problems.push_back(error.what());
      }
    };
    attempt([&] { open_folder(real_files(), path_, true, static_cast<int>(Exit::data)); });
    std::vector<std::pair<i64, i64>> seen;  // row id, shard
    attempt([&] { samples(); });
    for (const std::string& split : splits_) {
      for (const Block& block : blocks(split)) {
        for (std::size_t f = 0; f < fields_.size(); ++f) {
          attempt([&] { read(block, static_cast<i64>(f)); });
        }
        attempt([&] {
          for (i64 id : row_ids(block)) seen.emplace_back(id, block.shard);
        });
      }
    }
    std::sort(seen.begin(), seen.end());
    for (std::size_t i = 1; i < seen.size(); ++i) {
      if (seen[i].first != seen[i - 1].first) continue;
      attempt([&] {
        refuse(path_ + "/" + shards_[static_cast<std::size_t>(seen[i].second)].file,
               "unique row ids", fmt::format("row id {} twice", seen[i].first));
      });
    }
    return problems;
  }

 private:
  const ShardInfo& info(const Block& block) const {
    return shards_.at(static_cast<std::size_t>(block.shard));
  }
  std::string where(const Block& block, const Field& field) const {
    return fmt::format("{}/{}: field '{}', block {} (rows {} to {})", path_, info(block).file,
                       field.name, block.first_row / per_block_, block.first_row,
                       block.first_row + block.rows - 1);
  }

  void read_bytes(const Block& block, const Field& field, Place place, void* to) const {
    const int handle = open_[static_cast<std::size_t>(block.shard)].handle;
    char* at = static_cast<char*>(to);
    while (place.bytes > 0) {
      const ssize_t n = ::pread(handle, at, static_cast<std::size_t>(place.bytes), place.offset);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        fail(Exit::data, "{}: read failed: {}", where(block, field),
             std::generic_category().message(errno));
      }
      if (n == 0) {
        refuse(where(block, field), fmt::format("{} bytes more", place.bytes), "end of file");
      }
      at += n;
      place.bytes -= n;
      place.offset += n;
    }
  }

  Column read_field(const Block& block, std::size_t index, const Field& field) const {
    const std::size_t b = static_cast<std::size_t>(block.first_row / per_block_);
    const FieldPlaces& places =
        open_.at(static_cast<std::size_t>(block.shard)).fields.at(index);
    const i64 element = count(field.shape) * size_of(field.dtype);
    Column column;
    std::vector<i32> lengths;
    i64 elements = block.rows;
    if (field.ragged) {
      lengths.resize(static_cast<std::size_t>(block.rows));
      read_bytes(block, field, {places.lengths.at(b).offset, block.rows * 4}, lengths.data());
      column.starts.push_back(0);
      for (i32 length : lengths) {
        if (length < 0) refuse(where(block, field), "lengths >= 0", std::to_string(length));
        column.starts.push_back(column.starts.back() + length);
      }
      elements = column.starts.back();
    }
    if (elements * element > places.values.at(b).bytes) {
      refuse(where(block, field), fmt::format("at most {} bytes", places.values[b].bytes),
             fmt::format("{} elements of {} bytes", elements, element));
    }
    column.values.resize(static_cast<std::size_t>(elements * element));
    read_bytes(block, field, {places.values[b].offset, elements * element}, column.values.data());
    Hasher hasher;
    hasher.add(column.values.data(), column.values.size());
    hasher.add(lengths.data(), lengths.size() * sizeof(i32));
    if (hasher.value() != places.checksums.at(b)) {
      refuse(where(block, field), "checksum " + to_hex(places.checksums[b]),
             to_hex(hasher.value()) + " (the bytes were altered)");
    }
    return column;
  }

  void load(const json& manifest) {
    if (manifest.at("format") != "cohort-shards" || manifest.at("version") != 1) {
      refuse(path_ + "/manifest.json", "format cohort-shards, version 1", "another one");
    }
    fields_ = manifest.at("fields").get<std::vector<Field>>();
    for (const Field& field : fields_) {
      if (field.dtype == DType::i64 && field.classes > 0) {
        refuse(path_ + "/manifest.json: field '" + field.name + "'", "ids of type int32", "int64");
      }
    }
    per_block_ = manifest.at("rows_per_block").get<i64>();
    if (per_block_ < 1 || per_block_ > kMostRowsPerBlock) {
      refuse(path_ + "/manifest.json", fmt::format("rows_per_block 1 to {}", kMostRowsPerBlock),
             std::to_string(per_block_));
    }
    shuffled_ = manifest.at("order") == "hash";
    recipe_ = manifest.at("recipe").get<std::string>();
    for (const json& file : manifest.at("files")) {
      if (file.at("name") == samples_name) samples_ = file;
    }
    fingerprint_ = manifest.at("manifest_checksum").get<std::string>();
    for (const json& v : manifest.at("vocabularies")) {
      vocabularies_.push_back({v.at("name").get<std::string>(),
                               v.at("entries").get<std::vector<std::string>>()});
    }
    for (const auto& item : manifest.at("rows").items()) splits_.push_back(item.key());
    for (const json& s : manifest.at("shards")) {
      shards_.push_back({s.at("file").get<std::string>(), s.at("split").get<std::string>(),
                         s.at("rows").get<i64>()});
      open_.emplace_back();
      load_shard(shards_.back(), s.at("checksums"), open_.back());
    }
    for (const std::string& split : splits_) {
      const i64 expected = manifest.at("rows").at(split).get<i64>();
      if (rows(split) != expected) {
        refuse(path_ + "/manifest.json", fmt::format("{} rows of {}", expected, split),
               std::to_string(rows(split)));
      }
    }
  }

  void load_shard(const ShardInfo& info, const json& sums, Shard& shard) {
    const std::string file = path_ + "/" + info.file;
    const Hdf5Reader reader(file);
    shard.bytes = real_files().size(file);
    for (const Field& field : fields_) {
      const std::string name = "/fields/" + field.name;
      FieldPlaces places = places_of(reader, info, field, name);
      read_sums(sums.at(field.name), info, places);
      check_places(places, file, shard.bytes);
      shard.fields.push_back(std::move(places));
    }
    FieldPlaces ids = places_of(reader, info, row_id_, "/row_id");
    read_sums(sums.at("/row_id"), info, ids);
    check_places(ids, file, shard.bytes);
    shard.fields.push_back(std::move(ids));
    shard.handle = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (shard.handle < 0) {
      fail(Exit::data, "{}: open failed: {}", file, std::generic_category().message(errno));
    }
  }

  i64 block_count(const ShardInfo& info) const {
    return (info.rows + per_block_ - 1) / per_block_;
  }

  void read_sums(const json& list, const ShardInfo& info, FieldPlaces& places) const {
    for (const json& sum : list) {
      try {
        places.checksums.push_back(from_hex(sum.get<std::string>()));
      } catch (const std::invalid_argument&) {
        refuse(path_ + "/manifest.json", "16 hex digits", sum.dump());
      }
    }
    if (static_cast<i64>(places.checksums.size()) != block_count(info)) {
      refuse(path_ + "/manifest.json", fmt::format("{} checksums", block_count(info)),
             std::to_string(places.checksums.size()));
    }
  }

  void check_places(const FieldPlaces& places, const std::string& file, i64 bytes) const {
    for (const auto* list : {&places.values, &places.lengths}) {
      for (const Place& place : *list) {
        if (place.offset < 0 || place.bytes < 0 || place.offset > bytes - place.bytes) {
          refuse(file, "chunks inside the file",
                 fmt::format("{} bytes at {}", place.bytes, place.offset));
        }
      }
    }
  }

  FieldPlaces places_of(const Hdf5Reader& reader, const ShardInfo& info, const Field& field,
                        const std::string& name) const {
    const std::string file = path_ + "/" + info.file;
    const auto checked = [&](const std::string& set, DType dtype, const Shape& shape) {
      const Hdf5Dataset found = reader.dataset(set);
      const Shape row(found.shape.begin() + 1, found.shape.end());
      const Shape chunk_row(found.chunk.begin() + 1, found.chunk.end());
      if (found.dtype != dtype || row != shape || chunk_row != shape) {
        refuse(file + ": " + set, fmt::format("{} {}", name_of(dtype), to_string(shape)),
               fmt::format("{} {}", name_of(found.dtype), to_string(row)));
      }
      return found;
    };
    const i64 per = std::min(per_block_, info.rows);
    const auto by_rows = [&](const std::string& set, DType dtype, const Shape& shape) {
      const Hdf5Dataset found = checked(set, dtype, shape);
      if (found.shape[0] != info.rows || found.chunk[0] != per) {
        refuse(file + ": " + set, fmt::format("{} rows in chunks of {}", info.rows, per),
               fmt::format("{} in {}", found.shape[0], found.chunk[0]));
      }
      std::vector<Place> places;
      for (i64 row = 0; row < info.rows; row += per_block_) places.push_back(reader.chunk(set, row));
      return places;
    };
    FieldPlaces places;
    if (!field.ragged) {
      places.values = by_rows(name, field.dtype, field.shape);
      return places;
    }
    places.lengths = by_rows(name + "/lengths", DType::i32, {});
    by_rows(name + "/offsets", DType::i64, {});
    const Hdf5Dataset values = checked(name + "/values", field.dtype, field.shape);
    for (i64 b = 0; b < block_count(info); ++b) {
      places.values.push_back(reader.chunk(name + "/values", b * values.chunk[0]));
    }
    return places;
  }

  std::string path_, fingerprint_, recipe_;
  json samples_;  // the file's entry in the manifest, or null
  std::vector<Field> fields_;
  Field row_id_{"/row_id", DType::i64, {}, false, 0, "", {}};
  std::vector<Vocabulary> vocabularies_;
  std::vector<ShardInfo> shards_;
  std::vector<std::string> splits_;
  std::vector<Shard> open_;
  i64 per_block_ = 1;
  bool shuffled_ = true;
};

}  // namespace

std::shared_ptr<ShardSet> ShardSet::open(const std::string& path) {
  return std::make_shared<OpenShardSet>(path);
}

const Field& ShardSet::field(const std::string& name) const {
  std::vector<std::string> names;
  for (const Field& field : fields()) {
    if (field.name == name) return field;
    names.push_back(field.name);
  }
  const std::string near = nearest(name, names);
  fail(Exit::data, "{}: no field '{}': expected one of {}{}", path(), name, join(names, ", "),
       near.empty() ? "" : ": did you mean '" + near + "'?");
}

i64 ShardSet::rows(const std::string& split) const {
  i64 total = 0;
  for (const ShardInfo& shard : shards()) total += shard.split == split ? shard.rows : 0;
  return total;
}

}  // namespace cohort
