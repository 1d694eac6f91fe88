#include "data/shard_writer.h"

#include <algorithm>
#include <cmath>
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

struct RowSpan {
  i64 begin = 0, end = 0;  // elements
};
RowSpan span_of(const FieldRows& rows, i64 row) {
  if (!rows.field.ragged) return {row, row + 1};
  const std::size_t r = static_cast<std::size_t>(row);
  return {rows.starts[r], rows.starts[r + 1]};
}

double value_at(const FieldRows& rows, i64 index) {
  if (rows.field.dtype == DType::u8) return rows.values[static_cast<std::size_t>(index)];
  float value = 0;
  std::memcpy(&value, rows.values.data() + index * 4, 4);
  return value;
}

// Mean and standard deviation by two passes in row order.
void number_stats(FieldRows& rows, const std::vector<i64>& train) {
  FieldStats& stats = rows.field.stats;
  const i64 width = rows.field.shape.empty() ? 1 : rows.field.shape.back();
  const i64 element = count(rows.field.shape);
  const std::size_t w = static_cast<std::size_t>(width);
  stats.mean.assign(w, 0);
  stats.stddev.assign(w, 0);
  stats.min.assign(w, INFINITY);
  stats.max.assign(w, -INFINITY);
  i64 n = 0;
  const auto each = [&](auto&& use) {
    for (i64 row : train) {
      const RowSpan span = span_of(rows, row);
      for (i64 i = span.begin * element; i < span.end * element; ++i) {
        use(static_cast<std::size_t>(i % width), value_at(rows, i));
      }
    }
  };
  each([&](std::size_t k, double value) {
    n += k == 0 ? 1 : 0;
    stats.mean[k] += value;
    stats.min[k] = std::min(stats.min[k], value);
    stats.max[k] = std::max(stats.max[k], value);
  });
  if (n == 0) {
    stats.min.assign(w, 0);
    stats.max.assign(w, 0);
    return;
  }
  for (double& mean : stats.mean) mean /= static_cast<double>(n);
  each([&](std::size_t k, double value) {
    stats.stddev[k] += (value - stats.mean[k]) * (value - stats.mean[k]);
  });
  for (double& value : stats.stddev) value = std::sqrt(value / static_cast<double>(n));
}

void fill_stats(FieldRows& rows, const std::vector<i64>& train) {
  Field& field = rows.field;
  field.stats = {};
  if (field.ragged) {
    for (std::size_t r = 0; r + 1 < rows.starts.size(); ++r) {
      field.stats.max_length =
          std::max(field.stats.max_length, rows.starts[r + 1] - rows.starts[r]);
    }
    double total = 0;
    for (i64 row : train) {
      const RowSpan span = span_of(rows, row);
      total += static_cast<double>(span.end - span.begin);
    }
    if (!train.empty()) field.stats.mean_length = total / static_cast<double>(train.size());
  }
  const bool numbers = field.dtype == DType::f32 || field.dtype == DType::u8;
  if (numbers && field.classes == 0) number_stats(rows, train);
}

struct ShardJob {
  const RowTable* table;
  std::vector<i64> rows;
  i64 per_block;
  i64 blocks() const { return (static_cast<i64>(rows.size()) + per_block - 1) / per_block; }
  std::pair<std::size_t, std::size_t> block(i64 b) const {
    const i64 end = std::min((b + 1) * per_block, static_cast<i64>(rows.size()));
    return {static_cast<std::size_t>(b * per_block), static_cast<std::size_t>(end)};
  }
};

Shape with_rows(i64 rows, const Shape& shape) {
  Shape all{rows};
  all.insert(all.end(), shape.begin(), shape.end());
  return all;
}

// Returns the checksum of every block.
std::vector<std::string> write_fixed(Hdf5Writer& file, const ShardJob& job, const std::string& name,
                                     const FieldRows& rows) {
  const i64 bytes = count(rows.field.shape) * size_of(rows.field.dtype);
  const i64 n = static_cast<i64>(job.rows.size());
  std::vector<u8> data(static_cast<std::size_t>(std::max<i64>(n * bytes, 1)));
  for (i64 i = 0; i < n; ++i) {
    std::memcpy(data.data() + i * bytes,
                rows.values.data() + job.rows[static_cast<std::size_t>(i)] * bytes,
                static_cast<std::size_t>(bytes));
  }
  std::vector<std::string> sums;
  for (i64 b = 0; b < job.blocks(); ++b) {
    const auto [begin, end] = job.block(b);
    const std::size_t size = static_cast<std::size_t>(bytes);
    sums.push_back(to_hex(hash_bytes(data.data() + begin * size, (end - begin) * size)));
  }
  file.dataset(name, {data.data(), rows.field.dtype, with_rows(n, rows.field.shape)},
               with_rows(std::min(n, job.per_block), rows.field.shape));
  return sums;
}

std::vector<std::string> write_ragged(Hdf5Writer& file, const ShardJob& job,
                                      const std::string& name, const FieldRows& rows) {
  const i64 element = count(rows.field.shape) * size_of(rows.field.dtype);
  std::vector<i64> offsets;
  std::vector<i32> lengths;
  i64 chunk = 1;
  for (i64 b = 0; b < job.blocks(); ++b) {
    i64 total = 0;
    for (auto [i, end] = job.block(b); i < end; ++i) {
      const RowSpan span = span_of(rows, job.rows[i]);
      lengths.push_back(static_cast<i32>(span.end - span.begin));
      total += span.end - span.begin;
    }
    chunk = std::max(chunk, total);
  }
  std::vector<u8> data(static_cast<std::size_t>(job.blocks() * chunk * element));
  std::vector<std::string> sums;
  for (i64 b = 0; b < job.blocks(); ++b) {
    i64 at = b * chunk;
    const auto [begin, end] = job.block(b);
    for (std::size_t i = begin; i < end; ++i) {
      const RowSpan span = span_of(rows, job.rows[i]);
      offsets.push_back(at);
      const i64 bytes = (span.end - span.begin) * element;
      if (bytes > 0) {
        std::memcpy(data.data() + at * element, rows.values.data() + span.begin * element,
                    static_cast<std::size_t>(bytes));
      }
      at += span.end - span.begin;
    }
    Hasher hasher;
    hasher.add(data.data() + b * chunk * element,
               static_cast<std::size_t>((at - b * chunk) * element));
    hasher.add(lengths.data() + begin, (end - begin) * sizeof(i32));
    sums.push_back(to_hex(hasher.value()));
  }
  const i64 n = static_cast<i64>(job.rows.size()), per = std::min(n, job.per_block);
  file.group(name);
  file.dataset(name + "/values",
               {data.data(), rows.field.dtype, with_rows(job.blocks() * chunk, rows.field.shape)},
               with_rows(chunk, rows.field.shape));
  file.dataset(name + "/offsets", {offsets.data(), DType::i64, {n}}, {per});
  file.dataset(name + "/lengths", {lengths.data(), DType::i32, {n}}, {per});
  return sums;
}

json write_shard(const ShardJob& job, const std::string& path) {
  Hdf5Writer file(path);
  file.group("/fields");
  json sums = json::object();
  FieldRows ids;
  ids.field.dtype = DType::i64;
  ids.values.resize(job.table->row_ids.size() * sizeof(i64));
  std::memcpy(ids.values.data(), job.table->row_ids.data(), ids.values.size());
  sums["/row_id"] = write_fixed(file, job, "/row_id", ids);
  for (const FieldRows& rows : job.table->fields) {
    const std::string name = "/fields/" + rows.field.name;
    sums[rows.field.name] = rows.field.ragged ? write_ragged(file, job, name, rows)
                                              : write_fixed(file, job, name, rows);
  }
  file.close();
  return sums;
}

std::vector<i64> ordered_rows(const RowTable& table, i64 split, const WriteOptions& options) {
  std::vector<std::pair<u64, i64>> keyed;
  for (std::size_t r = 0; r < table.split.size(); ++r) {
    if (table.split[r] != split) continue;
    const u64 key[2] = {options.seed, static_cast<u64>(table.row_ids[r])};
    keyed.emplace_back(options.shuffled ? hash_bytes(key, sizeof key) : 0, static_cast<i64>(r));
  }
  std::stable_sort(keyed.begin(), keyed.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<i64> rows;
  for (const auto& [key, row] : keyed) rows.push_back(row);
  return rows;
}

}  // namespace

void write_shards(RowTable& table, const WriteOptions& options, const json& lineage) {
  Files& files = real_files();
  FolderWriter folder(files, options.path);
  const i64 per_shard = (options.rows_per_shard + options.rows_per_block - 1) /
                        options.rows_per_block * options.rows_per_block;
  json shards = json::array(), counts = json::object();
  for (std::size_t s = 0; s < table.splits.size(); ++s) {
    const std::vector<i64> rows = ordered_rows(table, static_cast<i64>(s), options);
    counts[table.splits[s]] = rows.size();
    if (table.splits[s] == options.statistics_split) {
      for (FieldRows& field : table.fields) fill_stats(field, rows);
    }
    for (std::size_t at = 0, index = 0; at < rows.size(); ++index) {
      const std::size_t end = std::min(rows.size(), at + static_cast<std::size_t>(per_shard));
      const auto offset = [&](std::size_t i) { return rows.begin() + static_cast<i64>(i); };
      const ShardJob job{&table, {offset(at), offset(end)}, options.rows_per_block};
      const std::string name = fmt::format("{}-{:05}.h5", table.splits[s], index);
      const std::string path = folder.temporary() + "/" + name;
      json sums = write_shard(job, path);
      auto sync = files.append(path);
      sync->sync();
      sync->close();
      folder.add(checksum_file(files, folder.temporary(), name));
      shards.push_back({{"file", name}, {"split", table.splits[s]}, {"rows", job.rows.size()},
                        {"checksums", std::move(sums)}});
      log::info("wrote {} ({} rows)", name, job.rows.size());
      at = end;
    }
  }
  json fields = json::array(), vocabularies = json::array();
  for (const FieldRows& rows : table.fields) fields.push_back(rows.field);
  for (const Vocabulary& v : table.vocabularies) {
    vocabularies.push_back({{"name", v.name}, {"entries", v.entries}});
  }
  folder.commit({{"format", "cohort-shards"},
                 {"version", 1},
                 {"fields", fields},
                 {"rows", counts},
                 {"rows_per_block", options.rows_per_block},
                 {"shards", shards},
                 {"vocabularies", vocabularies},
                 {"sources", lineage},
                 {"recipe", options.recipe},
                 {"seed", options.seed},
                 {"order", options.shuffled ? "hash" : "keep"}});
}

}  // namespace cohort
