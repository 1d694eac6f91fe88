// Strict YAML. One bind() function per config struct names its keys, types, ranges and meaning;
// the same description reads a file, writes the resolved file and documents itself:
//
//   void bind(Binder& b, ScheduleConfig& c) {
//     b.key("warmup_steps", c.warmup_steps, at_least(0), "Steps of linear warm-up.");
//     b.key("kind", c.kind, one_of({"constant", "cosine"}), "Shape after the warm-up.");
//   }
//
// Errors (Exit::usage) name file:line:column, the full key path, what was expected and got, and for
// an unknown key the nearest known one. Duplicate keys, anchors/aliases to self, NaN where a finite
// number is needed, and numbers that do not fit 64 bits are errors.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/types.h"

namespace cohort {

// What values a key accepts. `check` returns an empty string or what was expected.
struct Rule {
  std::string text;  // for the reference: ">= 1", "one of: sgd, adam"
  std::function<std::string(double)> check_number;
  std::function<std::string(const std::string&)> check_text;
};
Rule any();
Rule at_least(double low);
Rule above(double low);
Rule between(double low, double high);              // both ends included
Rule below_one();                                   // [0, 1)
Rule one_of(std::vector<std::string> values);

// A parsed YAML file with overrides applied. Keeps the place of every node.
class Document {
 public:
  static Document load(const std::string& path);                          // Exit::usage on errors
  static Document parse(const std::string& text, const std::string& name);
  // "a.b.c=value"; value is YAML. Indices address lists: "model.layers.2.dense.units=10".
  void override_key(const std::string& assignment);
  const std::string& name() const;
  std::string json() const;   // the same as JSON; plain numbers, true, false and null as such

 public:
  struct Node;   // config_node.h

 private:
  friend class Binder;
  std::shared_ptr<Node> root_;
  std::string name_;
};

// One row of the config reference.
struct KeyDoc {
  std::string path, type, rule, default_value, text;
};

class Binder {
 public:
  enum class Mode { read, write, describe };

  // Reads `target` from the document; unknown keys are an error. T has a free bind(Binder&, T&).
  template <class T>
  static void read(const Document& document, T& target) {
    Binder b = reader(document);
    bind(b, target);
    b.finish();
  }
  // The resolved config as YAML text that reads back equal.
  template <class T>
  static std::string write(const T& source) {
    Binder b = writer();
    bind(b, const_cast<T&>(source));
    return b.text();
  }
  template <class T>
  static std::vector<KeyDoc> describe() {
    Binder b = describer();
    T defaults{};
    bind(b, defaults);
    return b.docs();
  }

  Mode mode() const;
  // An optional key: keeps the struct's value where the file has none. V is one of bool, i64, u64,
  // double, std::string, std::optional of these, std::vector of i64, double or std::string.
  // Rules apply to each element of a vector.
  template <class V>
  void key(const std::string& name, V& value, const Rule& rule, const std::string& doc);
  // The same, but absence is an error.
  template <class V>
  void required(const std::string& name, V& value, const Rule& rule, const std::string& doc);

  // A nested map bound by bind(Binder&, T&).
  template <class T>
  void group(const std::string& name, T& value, const std::string& doc) {
    if (auto inner = enter(name, doc, false)) {
      bind(*inner, value);
      leave(*inner);
    }
  }
  // A nested map that may be absent (nullopt).
  template <class T>
  void optional_group(const std::string& name, std::optional<T>& value, const std::string& doc) {
    if (mode() == Mode::write && !value) return;
    if (auto inner = enter(name, doc, true)) {
      if (!value) value.emplace();
      bind(*inner, *value);
      leave(*inner);
      if (mode() == Mode::describe) value.reset();
    }
  }
  // A list of maps: one T each. A list in the file replaces the struct's, it does not extend it.
  template <class T>
  void list(const std::string& name, std::vector<T>& values, const std::string& doc) {
    if (mode() == Mode::read && has(name)) values.clear();
    each(name, doc, static_cast<i64>(values.size()), [&](Binder& inner, i64 index) {
      if (index >= static_cast<i64>(values.size())) values.emplace_back();
      bind(inner, values[static_cast<std::size_t>(index)]);
    });
  }
  // A map from free names to maps: one T each, in file order. It replaces the struct's as well.
  template <class T>
  void named(const std::string& name, std::vector<std::pair<std::string, T>>& values,
             const std::string& doc) {
    if (mode() == Mode::read && has(name)) values.clear();
    each_named(name, doc, names_of(values), [&](Binder& inner, const std::string& key, i64 index) {
      if (index >= static_cast<i64>(values.size())) values.emplace_back(key, T{});
      bind(inner, values[static_cast<std::size_t>(index)].second);
    });
  }
  // A one-key map {tag: {...}}: reading returns the tag found, which must be in `tags`; the caller
  // then binds the inner map. In describe mode every tag is visited in turn.
  void tagged(const std::vector<std::string>& tags, std::string& tag, const std::string& doc,
              const std::function<void(Binder&)>& bind_inner);

  // A list of one-key maps whose items may be {use: {block: NAME, ...}}: read mode replaces them in
  // `list` by the items of the map `blocks`, before list() reads it (see config_blocks.cpp); describe
  // mode documents `blocks`, and describe_use() the keys of a use.
  void expand_blocks(const std::string& blocks, const std::string& list);
  void describe_use();

  // Fails at this node (or at its key `name`): "file:line:column: path: message".
  [[noreturn]] void error(const std::string& message, const std::string& name = "") const;
  // "file:line:column" of this node, for errors found later (shape inference).
  std::string place() const;
  bool has(const std::string& name) const;  // read mode: the file has this key

 private:
  friend class BlockExpander;
  struct Impl;
  explicit Binder(std::shared_ptr<Impl> impl);
  static Binder reader(const Document& document);
  static Binder writer();
  static Binder describer();
  std::string text() const;
  std::vector<KeyDoc> docs() const;
  void finish();  // unknown keys left over -> error
  std::optional<Binder> enter(const std::string& name, const std::string& doc, bool optional);
  void leave(Binder& inner);
  void each(const std::string& name, const std::string& doc, i64 have,
            const std::function<void(Binder&, i64)>& item);
  void each_named(const std::string& name, const std::string& doc,
                  const std::vector<std::string>& have,
                  const std::function<void(Binder&, const std::string&, i64)>& item);
  template <class T>
  static std::vector<std::string> names_of(const std::vector<std::pair<std::string, T>>& values) {
    std::vector<std::string> names;
    for (const auto& [name, value] : values) names.push_back(name);
    return names;
  }
  std::shared_ptr<Impl> impl_;
};

}  // namespace cohort
