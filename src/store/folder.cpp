#include "store/folder.h"

#include <unistd.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"

namespace cohort {
namespace {

using nlohmann::json;

constexpr const char* manifest_name = "manifest.json";

std::string without_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

class CountingWriter : public FileWriter {
 public:
  CountingWriter(FileWriter& inner, FileEntry& entry) : inner_(inner), entry_(entry) {}
  // In pieces: the disk works early, and what is hashed is still in the cache.
  void write(const void* data, i64 bytes) override {
    for (i64 at = 0; at < bytes; at += kPiece) {
      const char* piece = static_cast<const char*>(data) + at;
      const i64 size = std::min(kPiece, bytes - at);
      inner_.write(piece, size);
      hasher_.add(piece, static_cast<std::size_t>(size));
    }
    entry_.bytes += bytes;
    entry_.checksum = hasher_.value();
  }
  void sync() override { inner_.sync(); }
  void close() override {}

 private:
  static constexpr i64 kPiece = i64{1} << 20;
  FileWriter& inner_;
  FileEntry& entry_;
  Hasher hasher_;
};

// A manifest checks itself: the XXH64 of its dump without the checksum key.
std::string self_checksum(json manifest) {
  manifest.erase("manifest_checksum");
  return to_hex(hash_text(manifest.dump()));
}

std::string path_of_entry(const std::string& folder, const json& entry) {
  const std::string name = entry.at("name").get<std::string>();
  if (name.empty() || name.find('/') != std::string::npos || name == "..") {
    throw Error(Exit::data, "manifest names a file outside the folder: '" + name + "'");
  }
  return folder + "/" + name;
}

void check_size(const std::string& path, const json& entry, i64 have) {
  const i64 bytes = entry.at("bytes").get<i64>();
  if (have == bytes) return;
  fail(Exit::data, "{}: expected {} bytes, got {}: truncated or altered", path, bytes, have);
}

void check_sum(const std::string& path, const json& entry, u64 checksum) {
  const std::string expected = entry.at("checksum").get<std::string>(), got = to_hex(checksum);
  if (got == expected) return;
  fail(Exit::data, "{}: checksum expected {}, got {}: the file was altered", path, expected, got);
}

void check_entry(Files& files, const std::string& folder, const json& entry, bool deep) {
  const std::string path = path_of_entry(folder, entry);
  if (!files.exists(path)) throw Error(Exit::data, path + ": missing, the manifest lists it");
  check_size(path, entry, files.size(path));
  if (!deep) return;
  check_sum(path, entry,
            checksum_file(files, folder, entry.at("name").get<std::string>()).checksum);
}

json checked_manifest(Files& files, const std::string& path, bool deep) {
  const std::string name = path + "/" + manifest_name;
  if (!files.exists(name)) {
    fail(Exit::data, "{}: missing: not a finished folder of this program", name);
  }
  const std::string text = files.read(name);
  if (!text.ends_with("}\n")) {
    fail(Exit::data, "{}: expected a line end after the last brace: truncated or altered", name);
  }
  json manifest = json::parse(text);
  const std::string expected = manifest.at("manifest_checksum").get<std::string>();
  const std::string got = self_checksum(manifest);
  if (got != expected) {
    fail(Exit::data, "{}: checksum expected {}, got {}: the manifest was altered", name, expected,
         got);
  }
  for (const json& entry : manifest.at("files")) check_entry(files, path, entry, deep);
  return manifest;
}

}  // namespace

FileEntry write_file(Files& files, const std::string& folder, const std::string& name,
                     const std::function<void(FileWriter&)>& body) {
  auto writer = files.create(folder + "/" + name);
  FileEntry entry{name, 0, hash_text("")};
  CountingWriter counting(*writer, entry);
  body(counting);
  writer->sync();
  writer->close();
  return entry;
}

FolderWriter::FolderWriter(Files& files, std::string path)
    : files_(files), path_(without_slash(std::move(path))) {
  const std::string parent = std::filesystem::path(path_).parent_path().string();
  if (!parent.empty()) files_.make_folder(parent);
  for (i64 attempt = 0;; ++attempt) {
    temporary_ = fmt::format("{}.tmp-{}-{}", path_, ::getpid(), attempt);
    if (files_.make_folder_exclusive(temporary_)) return;
    if (attempt == 1000) fail(Exit::storage, "{}: no free temporary name", path_);
  }
}

FolderWriter::FolderWriter(Files& files, std::string path, std::string temporary)
    : files_(files), path_(without_slash(std::move(path))), temporary_(std::move(temporary)) {}

FolderWriter::~FolderWriter() {
  if (committed_) return;
  try {
    files_.remove(temporary_);
  } catch (const std::exception& error) {
    log::warn("unfinished folder left behind: {}", error.what());
  }
}

FileEntry FolderWriter::write(const std::string& name,
                              const std::function<void(FileWriter&)>& body) {
  entries_.push_back(write_file(files_, temporary_, name, body));
  return entries_.back();
}

void FolderWriter::add(const FileEntry& entry) { entries_.push_back(entry); }

void FolderWriter::commit(json facts, const std::function<bool()>& allow) {
  json list = json::array();
  for (const FileEntry& entry : entries_) {
    list.push_back({{"name", entry.name}, {"bytes", entry.bytes},
                    {"checksum", to_hex(entry.checksum)}});
  }
  facts["files"] = std::move(list);
  facts["manifest_checksum"] = self_checksum(facts);
  const std::string text = facts.dump(1) + "\n";
  auto writer = files_.create(temporary_ + "/" + manifest_name);
  writer->write(text.data(), static_cast<i64>(text.size()));
  writer->sync();
  writer->close();
  files_.sync_folder(temporary_);
  if (allow && !allow()) {
    fail(Exit::storage, "{}: not written: a newer attempt of this job has taken over; stop this one",
         path_);
  }
  // A folder cannot be renamed over a full one: the old one steps aside first.
  std::string old;
  if (files_.exists(path_)) {
    old = temporary_ + ".old";
    files_.rename(path_, old);
  }
  try {
    files_.rename(temporary_, path_);
  } catch (...) {
    if (!old.empty()) files_.rename(old, path_);
    throw;
  }
  committed_ = true;
  files_.sync_folder(std::filesystem::path(path_).parent_path().string());
  if (!old.empty()) files_.remove(old);
}

namespace {

// Errors of reading become errors of the caller's kind.
template <class Work>
auto under(int exit_code, const std::string& path, Work work) {
  try {
    return work();
  } catch (const Error& error) {
    throw Error(static_cast<Exit>(exit_code), error.what());
  } catch (const json::exception& error) {
    fail(static_cast<Exit>(exit_code), "{}/{}: not a valid manifest: {}", path, manifest_name,
         error.what());
  }
}

}  // namespace

json open_folder(Files& files, const std::string& path, bool deep, int exit_code) {
  return under(exit_code, path,
               [&] { return checked_manifest(files, without_slash(path), deep); });
}

std::string read_listed(Files& files, const std::string& path, const json& entry,
                        int exit_code) {
  return under(exit_code, path, [&] {
    const std::string name = path_of_entry(without_slash(path), entry);
    std::string bytes = files.read(name);
    check_size(name, entry, static_cast<i64>(bytes.size()));
    check_sum(name, entry, hash_text(bytes));
    return bytes;
  });
}

FileEntry checksum_file(Files& files, const std::string& folder, const std::string& name) {
  const std::string bytes = files.read(folder + "/" + name);
  return {name, static_cast<i64>(bytes.size()), hash_text(bytes)};
}

}  // namespace cohort
