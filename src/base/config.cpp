#include "base/config.h"

#include <yaml-cpp/yaml.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "base/config_node.h"
#include "base/error.h"
#include "base/text.h"

namespace cohort {

using NodePtr = std::shared_ptr<Document::Node>;

std::string Document::Node::what() const {
  switch (kind) {
    case Kind::null:
      return "nothing";
    case Kind::scalar:
      return "'" + scalar.substr(0, 80) + "'";
    case Kind::list:
      return fmt::format("a list of {}", items.size());
    case Kind::map:
      return fmt::format("a map of {} keys", entries.size());
  }
  return "?";
}

namespace {

constexpr int max_depth = 64;
constexpr i64 max_nodes = 1'000'000;  // an alias bomb ends here

struct Parser {
  std::string name;
  i64 nodes = 0;

  std::string place(const YAML::Mark& mark) const {
    return mark.is_null() ? name : fmt::format("{}:{}:{}", name, mark.line + 1, mark.column + 1);
  }

  template <class Node>
  std::shared_ptr<Node> convert(const YAML::Node& from, int depth) {
    auto to = std::make_shared<Node>();
    to->place = place(from.Mark());
    if (depth > max_depth)
      fail(Exit::usage, "{}: nested deeper than {} levels; flatten the file", to->place, max_depth);
    if (++nodes > max_nodes)
      fail(Exit::usage, "{}: more than {} nodes; expected a config file", to->place, max_nodes);
    if (from.IsScalar()) {
      to->kind = Node::Kind::scalar;
      to->scalar = from.Scalar();
      to->quoted = from.Tag() == "!";
    } else if (from.IsSequence()) {
      to->kind = Node::Kind::list;
      for (const auto& item : from) to->items.push_back(convert<Node>(item, depth + 1));
    } else if (from.IsMap()) {
      to->kind = Node::Kind::map;
      for (const auto& entry : from) add(*to, entry.first, convert<Node>(entry.second, depth + 1));
    }
    return to;
  }

  template <class Node>
  void add(Node& map, const YAML::Node& key, std::shared_ptr<Node> value) {
    if (!key.IsScalar())
      fail(Exit::usage, "{}: expected a plain key, got a nested one", place(key.Mark()));
    if (map.find(key.Scalar()))
      fail(Exit::usage, "{}: key '{}' is given twice; remove one", place(key.Mark()), key.Scalar());
    value->key_place = place(key.Mark());
    if (value->kind == Node::Kind::null) value->place = value->key_place;
    map.entries.emplace_back(key.Scalar(), std::move(value));
  }
};

// yaml-cpp takes 0x04 for the end of the file, and would hide what follows.
void refuse_control_bytes(const std::string& text, const std::string& name) {
  i64 line = 1, column = 1;
  for (const char c : text) {
    if ((c >= 0 && c < ' ' && c != '\n' && c != '\r' && c != '\t') || c == 127)
      fail(Exit::usage, "{}:{}:{}: expected text, got the control byte 0x{:02x}", name, line,
           column, static_cast<unsigned>(c));
    ++column;
    if (c == '\n') {
      ++line;
      column = 1;
    }
  }
}

YAML::Node load_yaml(const std::string& text, const std::string& name) {
  refuse_control_bytes(text, name);
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1)
      fail(Exit::usage, "{}: expected one YAML document, got {} (a line '---' starts another)",
           name, documents.size());
    return documents.empty() ? YAML::Node() : documents[0];
  } catch (const YAML::Exception& e) {
    fail(Exit::usage, "{}: not valid YAML: {}", Parser{name, 0}.place(e.mark), e.msg);
  }
}

}  // namespace

Document Document::parse(const std::string& text, const std::string& name) {
  Document document;
  document.name_ = name;
  Parser parser{name, 0};
  try {
    document.root_ = parser.convert<Node>(load_yaml(text, name), 0);
  } catch (const YAML::Exception& e) {
    fail(Exit::usage, "{}: not valid YAML: {}", name, e.what());
  }
  if (document.root_->kind == Node::Kind::null) document.root_->kind = Node::Kind::map;
  if (document.root_->kind != Node::Kind::map)
    fail(Exit::usage, "{}: expected a map of keys, got {}", document.root_->place,
         document.root_->what());
  return document;
}

Document Document::load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(Exit::usage, "{}: cannot open the file; check the path", path);
  std::stringstream text;
  text << file.rdbuf();
  if (file.bad() || text.str().empty())
    fail(Exit::usage, "{}: cannot read the file, or it is empty", path);
  return parse(text.str(), path);
}

const std::string& Document::name() const { return name_; }

void Document::override_key(const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  const std::string place = "command line: " + assignment;
  if (equals == std::string::npos || equals == 0)
    fail(Exit::usage, "{}: expected key=value, for example train.epochs=3", place);
  Parser parser{place, 0};
  NodePtr value = parser.convert<Node>(load_yaml(assignment.substr(equals + 1), place), 0);
  value->place = value->key_place = place;
  NodePtr at = root_;
  const std::vector<std::string> keys = split(assignment.substr(0, equals), '.');
  if (keys.size() > max_depth)
    fail(Exit::usage, "{}: nested deeper than {} levels", place, max_depth);
  for (std::size_t k = 0; k < keys.size(); ++k) {
    const bool last = k + 1 == keys.size();
    if (at->kind == Node::Kind::null) at->kind = Node::Kind::map;
    if (at->kind == Node::Kind::list) {
      const auto index = parse_i64(keys[k]);
      if (!index || *index < 0 || *index >= static_cast<i64>(at->items.size()))
        fail(Exit::usage, "{}: '{}' is no index of {}", place, keys[k], at->what());
      NodePtr& item = at->items[static_cast<std::size_t>(*index)];
      if (last) item = value;
      at = item;
      continue;
    }
    if (at->kind != Node::Kind::map)
      fail(Exit::usage, "{}: '{}' lies below {}, which is not a map", place, keys[k], at->what());
    NodePtr child = at->find(keys[k]);
    if (!child) {
      child = std::make_shared<Node>();
      child->place = child->key_place = place;
      at->entries.emplace_back(keys[k], child);
    }
    if (last) *child = *value;
    at = child;
  }
}

Rule any() { return {}; }

namespace {
Rule number_rule(std::string text, std::function<bool(double)> good) {
  return {text, [text, good](double x) { return good(x) ? std::string() : text; }, {}};
}
}  // namespace

Rule at_least(double low) {
  return number_rule(fmt::format(">= {}", low), [low](double x) { return x >= low; });
}
Rule above(double low) {
  return number_rule(fmt::format("> {}", low), [low](double x) { return x > low; });
}
Rule between(double low, double high) {
  return number_rule(fmt::format("from {} to {}", low, high),
                     [low, high](double x) { return x >= low && x <= high; });
}
Rule below_one() {
  return number_rule("from 0 to below 1", [](double x) { return x >= 0 && x < 1; });
}
Rule one_of(std::vector<std::string> values) {
  const std::string text = "one of: " + join(values, ", ");
  return {text, {}, [values, text](const std::string& word) {
            for (const std::string& value : values)
              if (value == word) return std::string();
            const std::string near = nearest(word, values);
            return near.empty() ? text : text + " (did you mean '" + near + "'?)";
          }};
}

}  // namespace cohort
