#include "serve/bundle_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "serve/bundle_hash.h"
#include "store/folder.h"

namespace cohort {
namespace {

using nlohmann::json;

constexpr const char* advice = "export or copy the bundle again";

std::string read_file(Files& files, const std::string& path) {
  if (!files.exists(path))
    fail(Exit::storage, "{}: missing: not a whole bundle; {}", path, advice);
  return files.read(path);
}

// Which of the two files that vouch for the others was altered: the manifest vouches for itself too.
void check_root(Files& files, const std::string& folder, CheckedFolder& checked) {
  const std::string path = folder + "/manifest.json", root = folder + "/MANIFEST.sha256";
  const std::string line = read_file(files, root);
  checked.manifest = read_file(files, path);
  checked.digest = sha256(checked.manifest);
  if (line == root_line(checked.digest)) return;
  try {
    const json manifest = open_folder(files, folder, false, static_cast<int>(Exit::storage));
    if (manifest.dump(1) + "\n" == checked.manifest)
      fail(Exit::storage, "{}: expected \"{}\", got \"{}\": the file was altered; {}", root,
           root_line(checked.digest).substr(0, 64), line.substr(0, 64), advice);
  } catch (const Error& e) {
    if (std::string(e.what()).starts_with(root)) throw;
  }
  fail(Exit::storage, "{}: SHA-256 expected {}, got {}: the file was altered; {}", path,
       line.substr(0, 64), checked.digest, advice);
}

// `entry` of manifest.json's "files" and its SHA-256. Returns the bytes.
std::string check_file(Files& files, const std::string& path, const json& entry,
                       const std::string& expected_sha) {
  std::string bytes = read_file(files, path);
  if (entry.at("bytes").get<u64>() != bytes.size())
    fail(Exit::storage, "{}: expected {} bytes, got {}: truncated or altered; {}", path,
         entry.at("bytes").get<u64>(), bytes.size(), advice);
  const auto compare = [&](const char* kind, const std::string& expected, const std::string& got) {
    if (expected != got)
      fail(Exit::storage, "{}: {} expected {}, got {}: the file was altered; {}", path, kind,
           expected, got, advice);
  };
  compare("XXH64", entry.at("checksum").get<std::string>(), to_hex(hash_text(bytes)));
  compare("SHA-256", expected_sha, sha256(bytes));
  return bytes;
}

}  // namespace

std::string root_line(const std::string& digest) { return digest + "  manifest.json\n"; }

CheckedFolder check_bundle_files(Files& files, const std::string& folder,
                                 const std::vector<std::string>& keep) {
  CheckedFolder checked;
  check_root(files, folder, checked);
  try {
    const json manifest = json::parse(checked.manifest);
    if (manifest.value("format", "") != "cohort bundle" || manifest.at("version") != 1)
      fail(Exit::storage, "{}/manifest.json: expected a cohort bundle of version 1, got {} of {}; "
           "open it with the program that wrote it", folder,
           manifest.value("format", "something else"), manifest.value("version", json()).dump());
    std::vector<std::string> listed = {"MANIFEST.sha256", "manifest.json"};
    for (const json& entry : manifest.at("files")) {
      const std::string name = entry.at("name").get<std::string>();
      listed.push_back(name);
      std::string bytes = check_file(files, folder + "/" + name, entry,
                                     manifest.at("sha256").at(name).get<std::string>());
      if (std::find(keep.begin(), keep.end(), name) != keep.end())
        checked.files[name] = std::move(bytes);
    }
    for (const std::string& name : files.list(folder))
      if (std::find(listed.begin(), listed.end(), name) == listed.end())
        fail(Exit::storage, "{}/{}: a file that the manifest does not list; remove it", folder, name);
  } catch (const json::exception& e) {
    fail(Exit::storage, "{}/manifest.json: not the manifest of a bundle: {}; {}", folder, e.what(),
         advice);
  }
  return checked;
}

}  // namespace cohort
