// A file system in memory with faults. Every effect is one operation; operation `fail_at` fails.
// What is durable: a file's bytes at its last sync, a folder's entries at its last sync_folder.
#pragma once
#include <algorithm>
#include <map>
#include <memory>
#include <string>

#include "base/error.h"
#include "store/linked_files.h"

namespace cohort {

enum class Fault {
  none,
  error,  // the operation fails, nothing of it happened, the process lives on
  torn,   // a write stores half, then fails; the process lives on
  crash,  // power loss after the operation: all that is not durable is gone
  kill,   // kill -9 after the operation: everything done so far stays
};

class MemoryFiles : public LinkedFiles {
 public:
  Fault fault = Fault::none;
  i64 fail_at = -1, operations = 0;

  void arm(Fault kind, i64 at) {
    fault = kind;
    fail_at = at;
    operations = 0;
    dead_ = false;
  }
  // A new process on the same disk.
  void reboot() {
    if (dead_ && fault == Fault::crash) forget(*root_);
    arm(Fault::none, -1);
  }
  void make_durable() { settle(*root_); }
  // Flips one bit of a byte.
  void flip(const std::string& path, std::size_t at) { node(path).data[at] ^= 16; }
  void truncate(const std::string& path, std::size_t bytes) { node(path).data.resize(bytes); }

  std::unique_ptr<FileWriter> create(const std::string& path) override {
    return open(path, true);
  }
  std::unique_ptr<FileWriter> append(const std::string& path) override {
    return open(path, false);
  }
  std::string read(const std::string& path) override {
    check_alive();
    return node(path).data;
  }
  void rename(const std::string& from, const std::string& to) override {
    step("rename");
    auto [source, source_name] = entry(from);
    const auto found = source->entries.find(source_name);
    if (found == source->entries.end()) fail(Exit::storage, "{}: missing", from);
    const auto moved = found->second;
    auto [target, target_name] = entry(to);
    const auto there = target->entries.find(target_name);
    if (there != target->entries.end() && there->second->folder) {
      fail(Exit::storage, "{}: exists", to);
    }
    source->entries.erase(source_name);
    target->entries[target_name] = moved;
    after();
  }
  void sync_folder(const std::string& path) override {
    step("sync_folder");
    Node& folder = node(path);
    folder.durable_entries = folder.entries;
    after();
  }
  void make_folder(const std::string& path) override {
    step("make_folder");
    for (std::size_t at = 0; at != std::string::npos;) {
      at = path.find('/', at + 1);
      auto [parent, name] = entry(path.substr(0, at));
      auto& child = parent->entries[name];
      if (!child) child = std::make_shared<Node>(Node{true, {}, {}, {}, {}, false});
    }
    after();
  }
  bool make_folder_exclusive(const std::string& path) override {
    step("make_folder_exclusive");
    auto [parent, name] = entry(path);
    auto& child = parent->entries[name];
    const bool made = !child;
    if (made) child = std::make_shared<Node>(Node{true, {}, {}, {}, {}, false});
    after();
    return made;
  }
  void remove(const std::string& path) override {
    step("remove");
    auto [parent, name] = entry(path);
    parent->entries.erase(name);
    after();
  }
  bool exists(const std::string& path) override {
    check_alive();
    return find(path) != nullptr;
  }
  i64 size(const std::string& path) override {
    check_alive();
    return static_cast<i64>(node(path).data.size());
  }
  std::vector<std::string> list(const std::string& path) override {
    check_alive();
    std::vector<std::string> names;
    for (const auto& [name, child] : node(path).entries) names.push_back(name);
    return names;
  }
  void make_link(const std::string& target, const std::string& path) override {
    step("symlink");
    auto [parent, name] = entry(path);
    if (parent->entries.count(name)) fail(Exit::storage, "{}: exists", path);
    parent->entries[name] = std::make_shared<Node>(Node{false, target, target, {}, {}, true});
    after();
  }
  std::string read_link(const std::string& path) override {
    check_alive();
    const std::size_t slash = path.find_last_of('/');
    const auto parent = slash == std::string::npos ? root_ : find(path.substr(0, slash));
    if (!parent) return "";
    const auto found = parent->entries.find(path.substr(slash + 1));
    if (found == parent->entries.end()) return "";
    if (!found->second->link) fail(Exit::storage, "{}: no link", path);
    return found->second->data;
  }
  std::unique_ptr<FileLock> lock(const std::string&) override { return nullptr; }   // one process

 private:
  struct Node {
    bool folder = false;
    std::string data, durable_data;
    std::map<std::string, std::shared_ptr<Node>> entries, durable_entries;
    bool link = false;   // symbolic, relative: data is its target
  };
  struct Writer : FileWriter {
    Writer(MemoryFiles& files, std::shared_ptr<Node> target) : files_(files), node_(target) {}
    void write(const void* data, i64 bytes) override {
      const char* text = static_cast<const char*>(data);
      if (files_.operations == files_.fail_at && files_.fault == Fault::torn) {
        node_->data.append(text, static_cast<std::size_t>(bytes / 2));
      }
      files_.step("write");
      node_->data.append(text, static_cast<std::size_t>(bytes));
      files_.after();
    }
    void sync() override {
      files_.step("sync");
      node_->durable_data = node_->data;
      files_.after();
    }
    void close() override {
      files_.step("close");
      files_.after();
    }
    MemoryFiles& files_;
    std::shared_ptr<Node> node_;
  };

  void check_alive() const {
    if (dead_) fail(Exit::storage, "the machine is down");
  }
  // Before an operation: errors happen instead of it.
  void step(const char* what) {
    check_alive();
    const bool now = operations++ == fail_at;
    if (now && (fault == Fault::error || fault == Fault::torn)) {
      fail(Exit::storage, "{}: No space left on device", what);
    }
  }
  // After an operation: the machine goes down.
  void after() {
    if (operations != fail_at + 1 || (fault != Fault::crash && fault != Fault::kill)) return;
    dead_ = true;
    fail(Exit::storage, "the machine went down");
  }
  std::unique_ptr<FileWriter> open(const std::string& path, bool truncate_it) {
    step("open");
    auto [parent, name] = entry(path);
    auto& child = parent->entries[name];
    if (!child) child = std::make_shared<Node>();
    if (truncate_it) child->data.clear();
    const auto target = child;
    after();
    return std::make_unique<Writer>(*this, target);
  }
  std::shared_ptr<Node> find(const std::string& path) {
    auto at = root_;
    for (std::size_t begin = 0; begin <= path.size();) {
      const std::size_t end = std::min(path.find('/', begin), path.size());
      const auto found = at->entries.find(path.substr(begin, end - begin));
      if (found == at->entries.end()) return nullptr;
      at = found->second;
      if (at->link) at = find(path.substr(0, begin) + at->data);
      if (!at) return nullptr;
      begin = end + 1;
    }
    return at;
  }
  Node& node(const std::string& path) {
    const auto found = find(path);
    if (!found) fail(Exit::storage, "{}: No such file or directory", path);
    return *found;
  }
  std::pair<std::shared_ptr<Node>, std::string> entry(const std::string& path) {
    const std::size_t slash = path.find_last_of('/');
    if (slash == std::string::npos) return {root_, path};
    const auto parent = find(path.substr(0, slash));
    if (!parent) fail(Exit::storage, "{}: No such file or directory", path);
    return {parent, path.substr(slash + 1)};
  }
  static void forget(Node& at) {
    at.data = at.durable_data;
    at.entries = at.durable_entries;
    for (auto& [name, child] : at.entries) forget(*child);
  }
  static void settle(Node& at) {
    at.durable_data = at.data;
    at.durable_entries = at.entries;
    for (auto& [name, child] : at.entries) settle(*child);
  }

  std::shared_ptr<Node> root_ = std::make_shared<Node>(Node{true, {}, {}, {}, {}, false});
  bool dead_ = false;
};

}  // namespace cohort
