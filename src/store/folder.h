// A folder that is complete and verified, or does not exist. Files are written into "<path>.tmp-*",
// synced; manifest.json (name, bytes, XXH64 of every file, and the caller's facts) is written last;
// the folder is renamed and its parent synced. Used by shard sets, checkpoints and bundles.
#pragma once
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "store/files.h"

namespace cohort {

struct FileEntry {
  std::string name;
  i64 bytes = 0;
  u64 checksum = 0;
};

// Writes one file of a folder through a checksum: synced and closed when it returns.
FileEntry write_file(Files& files, const std::string& folder, const std::string& name,
                     const std::function<void(FileWriter&)>& body);

class FolderWriter {
 public:
  FolderWriter(Files& files, std::string path);
  // Goes on in a temporary folder beside `path` whose name several writers know.
  FolderWriter(Files& files, std::string path, std::string temporary);
  ~FolderWriter();                                  // removes the unfinished folder
  const std::string& temporary() const { return temporary_; }
  FileEntry write(const std::string& name, const std::function<void(FileWriter&)>& body);
  void add(const FileEntry& entry);                 // a file written by other means or writers
  // `facts` becomes manifest.json, with "files" and "manifest_checksum" added. `allow` is asked
  // right before the rename; false abandons with Exit::storage (a newer attempt took over).
  void commit(nlohmann::json facts, const std::function<bool()>& allow = {});

 private:
  Files& files_;
  std::string path_, temporary_;
  std::vector<FileEntry> entries_;
  bool committed_ = false;
};

// The manifest after checking its own checksum and the presence and size of every file; with
// `deep`, every file's checksum as well. Errors name file, expected and got, under `code`.
nlohmann::json open_folder(Files& files, const std::string& path, bool deep, int exit_code);
// All bytes of a file that a manifest lists, after checking size and checksum; errors as above.
std::string read_listed(Files& files, const std::string& path, const nlohmann::json& entry,
                        int exit_code);
FileEntry checksum_file(Files& files, const std::string& folder, const std::string& name);

}  // namespace cohort
