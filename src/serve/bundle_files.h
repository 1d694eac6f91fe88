// The files of a bundle and their checksums; private to the bundle and its tests.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "store/files.h"

namespace cohort {

// Text of MANIFEST.sha256, as `sha256sum manifest.json` prints it.
std::string root_line(const std::string& digest);

struct CheckedFolder {
  std::string manifest, digest;               // text of manifest.json; its SHA-256
  std::map<std::string, std::string> files;   // bytes of those asked for
};

// Checks MANIFEST.sha256, manifest.json, size and both checksums of every file, and that none is
// missing or too many. Exit::storage naming the file. `keep`: those whose bytes are wanted, where
// they are there.
CheckedFolder check_bundle_files(Files& files, const std::string& folder,
                                 const std::vector<std::string>& keep);

}  // namespace cohort
