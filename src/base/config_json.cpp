// A document as JSON, for readers of other programs.
#include <regex>

#include "base/config_node.h"
#include "base/error.h"

namespace cohort {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      out += {'\\', c};
    else if (c >= 0 && c < ' ')
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    else
      out += c;
  }
  return out + "\"";
}

std::string scalar_text(const Document::Node& node) {
  static const std::regex plain("true|false|null|-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?");
  return !node.quoted && std::regex_match(node.scalar, plain) ? node.scalar : quoted(node.scalar);
}

std::string json_of(const Document::Node& node) {
  using Kind = Document::Node::Kind;
  if (node.kind == Kind::null) return "null";
  if (node.kind == Kind::scalar) return scalar_text(node);
  std::string out;
  for (const auto& item : node.items) out += (out.empty() ? "" : ",") + json_of(*item);
  if (node.kind == Kind::list) return "[" + out + "]";
  for (const auto& [key, value] : node.entries)
    out += (out.empty() ? "" : ",") + quoted(key) + ":" + json_of(*value);
  return "{" + out + "}";
}

}  // namespace

std::string Document::json() const { return json_of(*root_); }

}  // namespace cohort
