// The inside of Document and Binder (config*.cpp only): a parsed tree that owns its text and marks.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/config.h"

namespace cohort {

struct Document::Node {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::null;
  std::string scalar;
  bool quoted = false;    // "10" is text, 10 is a number
  std::string place;      // file:line:column or "command line: a.b=c"
  std::string key_place;  // where its key stands; empty in a list
  std::vector<std::shared_ptr<Node>> items;
  std::vector<std::pair<std::string, std::shared_ptr<Node>>> entries;

  std::shared_ptr<Node> find(const std::string& key) const {
    for (const auto& [name, node] : entries)
      if (name == key) return node;
    return nullptr;
  }
  std::string what() const;  // "a list of 3", "the text 'abc'": for messages
};

// `text` as a YAML scalar: quoted where YAML would read something else.
std::string quote_yaml(const std::string& text);

struct Binder::Impl {
  Mode mode = Mode::read;
  std::string path;                      // of this map, "" at the root
  std::shared_ptr<Document::Node> node;  // read
  std::vector<std::string> known, used;  // read
  std::shared_ptr<std::string> out = std::make_shared<std::string>();  // write
  std::string indent;
  std::size_t start = 0;  // write: length of `out` when this map began
  std::string lead;       // write: what the first line starts with ("- ")
  std::shared_ptr<std::vector<KeyDoc>> docs = std::make_shared<std::vector<KeyDoc>>();

  std::string full(const std::string& name) const {
    return path.empty() ? name : path + "." + name;
  }
  std::shared_ptr<Document::Node> take(const std::string& name) {
    known.push_back(name);
    auto child = node->find(name);
    return child && child->kind != Document::Node::Kind::null ? child : nullptr;
  }
  void line(const std::string& text) {
    *out += (lead.empty() ? indent : lead) + text + "\n";
    lead.clear();
  }
  void describe(const std::string& name, const std::string& type, const std::string& rule,
                const std::string& value, const std::string& doc) {
    docs->push_back({full(name), type, rule, value, doc});
  }
};

}  // namespace cohort
