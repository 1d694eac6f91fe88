// A folder of bundles by version, one of them current (docs/serving.md):
//
//   versions/000001/   a bundle: copied aside, synced, verified, renamed
//   current            a symbolic link to versions/N, replaced in one step
//   history.jsonl      what happened, an object a line
//   lock               held by whoever changes the repository
//
// Whatever is killed, `current` names a complete, verified bundle, or does not exist yet. What a
// killed process had done and not told is told in history.jsonl by the next one that changes it.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/types.h"
#include "store/linked_files.h"

namespace cohort {

struct PublishOptions {
  std::string metric;             // empty: promoted whatever its metrics are
  double max_worse = 0;           // than current's, still promoted
  i64 keep = 0;                   // versions, see prune(); 0: all
  int threads = 0;                // that verify; 0: all cores
  bool force = false;             // promoted also where it takes or answers others than current
};

struct Published {
  i64 version = 0;
  std::string digest;             // root digest, as `cohort export` printed it
  bool again = false;             // the repository had this bundle already: nothing was copied
  bool promoted = false;
  std::string reason;             // why promoted, or why not
};

struct ServedVersion {
  i64 number = 0;
  std::string time, digest, run;  // when published; of the bundle
  i64 step = 0;
  std::vector<std::pair<std::string, double>> metrics;
  bool current = false, previous = false;   // what rollback() would make current
};

// Errors are Exit::storage unless said otherwise.
class Repository {
 public:
  struct Verdict {
    bool promoted = false;
    std::string reason;
  };
  // Looks at nothing yet.
  Repository(LinkedFiles& files, std::string path);
  // Verifies the bundle (checksums, golden rows), adds it as the next version, and promotes it where
  // `metric`, on the same data and split, is not worse than current's by more than max_worse, and
  // where clients of current can go on with it (interface_difference). A bundle that is there
  // already keeps its number. Exit::usage for a metric that it does not have, and, before anything
  // is written, for a folder that is no repository (check_repository_place).
  Published publish(const std::string& bundle, const PublishOptions& options);
  // Makes the version that was current before current again; its number. Exit::usage without any,
  // and where there is no repository.
  i64 rollback();
  // Removes all but the newest `keep`, current, the one before it (rollback()) and the one that it
  // replaced, which readers may have open; their numbers.
  std::vector<i64> prune(i64 keep);
  // Ascending. Takes no lock: it may see the middle of a change, never half a version.
  std::vector<ServedVersion> list() const;
  // The folder of the current version, with the link resolved: open that, so that a promotion
  // meanwhile does not matter. Empty where nothing is promoted yet.
  std::string current() const;
  const std::string& path() const { return path_; }

 private:
  struct History;
  std::string at(const std::string& name) const { return path_ + "/" + name; }
  std::string folder_of(i64 version) const;
  std::vector<i64> versions() const;
  i64 linked() const;             // version that `current` names, 0: none
  History read_history() const;
  void tell(History& history, nlohmann::json line);
  std::unique_ptr<FileLock> open();
  void clean();
  void repair(History& history);
  Verdict judge(const nlohmann::json& mine, i64 now, const PublishOptions& options) const;
  void add(const std::string& bundle, i64 version, const std::string& digest);
  void link(i64 version);
  std::vector<i64> remove_old(History& history, i64 keep);
  LinkedFiles& files_;
  std::string path_;
};

}  // namespace cohort
