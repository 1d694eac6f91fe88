// Binder::key for every value type.
#include <charconv>
#include <cmath>
#include <type_traits>

#include "base/config.h"
#include "base/config_node.h"
#include "base/error.h"
#include "base/text.h"

namespace cohort {

std::string quote_yaml(const std::string& text) {
  bool plain = !text.empty() && !parse_double(text);
  for (char c : text) {
    plain = plain && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '_' || c == '.' || c == '/' || c == '-' || c == ' ');
  }
  for (const char* word : {"true", "false", "null", "Null", "NULL", "yes", "no", "on", "off", "~"})
    plain = plain && text != word;
  if (plain && text[0] != '-' && text[0] != ' ' && text.back() != ' ' && text[0] != '.')
    return text;
  std::string quoted = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if ((c >= 0 && c < ' ') || c == 127) {
      quoted += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

namespace {

using Node = Document::Node;

template <class V>
struct IsOptional : std::false_type {};
template <class V>
struct IsOptional<std::optional<V>> : std::true_type {};
template <class V>
struct IsVector : std::false_type {};
template <class V>
struct IsVector<std::vector<V>> : std::true_type {};

template <class V>
std::string type_name() {
  if constexpr (IsOptional<V>::value)
    return type_name<typename V::value_type>();
  else if constexpr (IsVector<V>::value)
    return "list of " + type_name<typename V::value_type>();
  else if constexpr (std::is_same_v<V, bool>)
    return "bool";
  else if constexpr (std::is_integral_v<V>)
    return "integer";
  else if constexpr (std::is_same_v<V, double>)
    return "number";
  else
    return "text";
}

template <class V>
std::string show(const V& value) {
  if constexpr (IsOptional<V>::value) {
    return value ? show(*value) : "";
  } else if constexpr (IsVector<V>::value) {
    std::vector<std::string> parts;
    for (const auto& item : value) parts.push_back(show(static_cast<typename V::value_type>(item)));
    return "[" + join(parts, ", ") + "]";
  } else if constexpr (std::is_same_v<V, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_same_v<V, std::string>) {
    return quote_yaml(value);
  } else {
    return fmt::format("{}", value);
  }
}

std::string check_rule(const Rule& rule, double value) {
  return rule.check_number ? rule.check_number(value) : "";
}

// What was expected, or empty when `value` now holds what the node says.
template <class V>
std::string convert(const Node& node, V& value, const Rule& rule) {
  if (node.kind != Node::Kind::scalar) return type_name<V>();
  if constexpr (std::is_same_v<V, std::string>) {
    value = node.scalar;
    return rule.check_text ? rule.check_text(value) : "";
  } else if (node.quoted) {
    return type_name<V>() + " without quotes";
  } else if constexpr (std::is_same_v<V, bool>) {
    if (node.scalar != "true" && node.scalar != "false") return "true or false";
    value = node.scalar == "true";
    return "";
  } else if constexpr (std::is_same_v<V, double>) {
    const auto number = parse_double(node.scalar);
    if (!number || !std::isfinite(*number)) return "a finite number";
    value = *number;
    return check_rule(rule, value);
  } else {
    const char* end = node.scalar.data() + node.scalar.size();
    const auto [stop, code] = std::from_chars(node.scalar.data(), end, value);
    if (code != std::errc() || stop != end)
      return std::is_unsigned_v<V> ? "an integer from 0 to 18446744073709551615"
                                   : "an integer that fits 64 bits";
    return check_rule(rule, static_cast<double>(value));
  }
}

template <class V>
void read_value(const Node& node, V& value, const Rule& rule, const std::string& path) {
  const auto refuse = [&](const Node& at, const std::string& expected) {
    fail(Exit::usage, "{}: {}: expected {}, got {}", at.place, path, expected, at.what());
  };
  if constexpr (IsVector<V>::value) {
    if (node.kind != Node::Kind::list) refuse(node, type_name<V>());
    value.clear();
    for (const auto& item : node.items) {
      typename V::value_type element{};
      const std::string expected = convert(*item, element, rule);
      if (!expected.empty()) refuse(*item, expected);
      value.push_back(element);
    }
  } else if constexpr (IsOptional<V>::value) {
    value.emplace();
    const std::string expected = convert(node, *value, rule);
    if (!expected.empty()) refuse(node, expected);
  } else {
    const std::string expected = convert(node, value, rule);
    if (!expected.empty()) refuse(node, expected);
  }
}

}  // namespace

template <class V>
void Binder::key(const std::string& name, V& value, const Rule& rule, const std::string& doc) {
  Impl& impl = *impl_;
  if (impl.mode == Mode::describe) {
    impl.describe(name, type_name<V>(), rule.text, show(value), doc);
  } else if (impl.mode == Mode::write) {
    if constexpr (IsOptional<V>::value) {
      if (!value) {
        impl.line(name + ": null");
        return;
      }
    }
    impl.line(name + ": " + show(value));
  } else if (const auto node = impl.take(name)) {
    read_value(*node, value, rule, impl.full(name));
  } else if constexpr (IsOptional<V>::value) {
    if (impl.node->find(name)) value.reset();  // an explicit null
  }
}

template <class V>
void Binder::required(const std::string& name, V& value, const Rule& rule, const std::string& doc) {
  if (impl_->mode == Mode::describe) {
    impl_->describe(name, type_name<V>(), rule.text, "required", doc);
    return;
  }
  if (impl_->mode == Mode::read && !impl_->take(name))
    error(fmt::format("key '{}' is missing: expected {} ({})", name, type_name<V>(), doc));
  key(name, value, rule, doc);
}

#define COHORT_KEY(...)                                                                      \
  template void Binder::key<__VA_ARGS__>(const std::string&, __VA_ARGS__&, const Rule&,      \
                                         const std::string&);                                \
  template void Binder::required<__VA_ARGS__>(const std::string&, __VA_ARGS__&, const Rule&, \
                                              const std::string&)
COHORT_KEY(bool);
COHORT_KEY(i64);
COHORT_KEY(u64);
COHORT_KEY(double);
COHORT_KEY(std::string);
COHORT_KEY(std::optional<i64>);
COHORT_KEY(std::optional<double>);
COHORT_KEY(std::optional<std::string>);
COHORT_KEY(std::vector<i64>);
COHORT_KEY(std::vector<double>);
COHORT_KEY(std::vector<std::string>);

}  // namespace cohort
