// Reusable blocks in a list of one-key maps (the layers of a model): an item {use: {block: NAME, ...}}
// is replaced by the items of the block before the list is read. Inside a block `input` is the value
// that the block reads, $parameter stands for an argument, and names are the block's own.
#include <algorithm>
#include <map>

#include "base/config.h"
#include "base/config_node.h"
#include "base/error.h"
#include "base/text.h"

namespace cohort {

using Node = Document::Node;
using NodePtr = std::shared_ptr<Node>;
using Arguments = std::map<std::string, NodePtr>;

namespace {

constexpr std::size_t most_items = 10'000;   // nested repeats multiply

struct Block {
  NodePtr node, items;
  std::vector<std::string> parameters;
  bool used = false;
  std::vector<std::string> read;             // parameters that some item names
};

struct Use {
  std::string block, name, from;
  i64 repeat = 1;
  Arguments arguments;
};

// Where items are written out: at the top, or in one repetition of a block.
struct Scope {
  std::string block;                         // "" at the top
  std::string prefix;                        // "stage1.0."
  std::string input, previous;               // full names
  const Arguments* arguments = nullptr;
  std::map<std::string, std::string> names;  // as written -> full
  bool top() const { return block.empty(); }
};

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
  const std::string near = nearest(word, known);
  return near.empty() ? "expected one of: " + join(known, ", ") : "did you mean '" + near + "'?";
}

NodePtr text_node(const std::string& text, const Node& at) {
  auto node = std::make_shared<Node>();
  node->kind = Node::Kind::scalar;
  node->scalar = text;
  node->quoted = true;
  node->place = node->key_place = at.place;
  return node;
}

void set(Node& map, const std::string& key, const NodePtr& value) {
  for (auto& [name, node] : map.entries) {
    if (name != key) continue;
    node = value;
    return;
  }
  map.entries.emplace_back(key, value);
}

bool is_name(const std::string& text) {
  const auto fits = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; };
  return !text.empty() && std::all_of(text.begin(), text.end(), fits);
}

}  // namespace

class BlockExpander {
 public:
  BlockExpander(const std::string& blocks_path, const std::string& list_path)
      : blocks_path_(blocks_path), list_path_(list_path) {}

  static void bind(Binder& b, Block& block) {
    b.key("parameters", block.parameters, any(),
          "Names whose values `with` gives: $filters stands for one, $filters*4 for a product.");
    if (b.mode() == Binder::Mode::describe)
      b.impl_->describe("layers", "list of maps", "", "required",
                        "As model.layers. The value `input` is what the block reads; its last "
                        "layer is what it gives.");
    else
      block.items = b.impl_->take("layers");
  }

  static void bind(Binder& b, Use& use) {
    b.key("name", use.name, any(),
          "Before the names of its layers: <name>.<layer>, repeated <name>.<number>.<layer>; "
          "default: the block's name and the index.");
    b.key("from", use.from, any(), "The value it reads; default: the layer before.");
    b.required("block", use.block, any(), "One of model.blocks.");
    b.key("repeat", use.repeat, between(1, 1000), "Times in a row, each reading the one before.");
    if (b.mode() == Binder::Mode::describe)
      b.impl_->describe("with", "map", "", "{}", "A value for each parameter of the block.");
    else
      read_arguments(b, use);
  }

  // The items of `list` with every use written out.
  NodePtr expand(const NodePtr& blocks, const NodePtr& list) {
    if (blocks) read_blocks(*blocks);
    Scope top;
    write_out(*list, top);
    for (const auto& [name, block] : blocks_) check_used(name, block);
    auto expanded = std::make_shared<Node>(*list);
    expanded->items = items_;
    return expanded;
  }

 private:
  static Binder reader(const NodePtr& node, const std::string& path) {
    auto impl = std::make_shared<Binder::Impl>();
    impl->node = node;
    impl->path = path;
    return Binder(impl);
  }

  static void read_arguments(Binder& b, Use& use) {
    const NodePtr with = b.impl_->take("with");
    if (!with) return;
    if (with->kind != Node::Kind::map) b.error("expected a map, got " + with->what(), "with");
    for (const auto& [name, value] : with->entries) {
      if (value->kind != Node::Kind::scalar)
        fail(Exit::usage, "{}: with.{}: expected one value, got {}", value->place, name,
             value->what());
      use.arguments[name] = value;
    }
  }

  void read_blocks(const Node& blocks) {
    if (blocks.kind != Node::Kind::map)
      fail(Exit::usage, "{}: {}: expected a map of blocks, got {}", blocks.place, blocks_path_,
           blocks.what());
    for (const auto& [name, node] : blocks.entries) {
      const std::string path = blocks_path_ + "." + name;
      if (node->kind != Node::Kind::map)
        fail(Exit::usage, "{}: {}: expected a map of keys, got {}", node->place, path, node->what());
      Block block;
      block.node = node;
      Binder b = reader(node, path);
      bind(b, block);
      b.finish();
      if (!block.items || block.items->kind != Node::Kind::list || block.items->items.empty())
        b.error("expected at least one layer under the key 'layers'", "layers");
      for (const std::string& parameter : block.parameters) {
        if (!is_name(parameter) || std::count(block.parameters.begin(), block.parameters.end(),
                                              parameter) > 1)
          b.error("expected distinct names of letters, digits and _, got '" + parameter + "'",
                  "parameters");
      }
      blocks_[name] = block;
    }
  }

  void check_used(const std::string& name, const Block& block) const {
    if (!block.used)
      fail(Exit::usage, "{}: block '{}' is never used; remove it", block.node->key_place, name);
    for (const std::string& parameter : block.parameters) {
      if (std::find(block.read.begin(), block.read.end(), parameter) == block.read.end())
        fail(Exit::usage, "{}: parameter '{}' of block '{}' is never used; remove it",
             block.node->place, parameter, name);
    }
  }

  void write_out(const Node& list, Scope& scope) {
    for (std::size_t k = 0; k < list.items.size(); ++k) {
      const Node& item = *list.items[k];
      if (items_.size() >= most_items)
        fail(Exit::usage, "{}: more than {} layers; repeat less", item.place, most_items);
      const bool one_key = item.kind == Node::Kind::map && item.entries.size() == 1;
      const NodePtr body = one_key ? item.entries[0].second : nullptr;
      if (body && item.entries[0].first == "use")
        write_use(body, k, scope);
      else if (body && (body->kind == Node::Kind::map || body->kind == Node::Kind::null))
        write_layer(item, k, scope);
      else
        items_.push_back(list.items[k]);   // refused where the list is read
    }
  }

  void write_layer(const Node& item, std::size_t index, Scope& scope) {
    const NodePtr copy = substituted(item, scope);
    const auto& [kind, body] = copy->entries[0];
    body->kind = Node::Kind::map;
    check_names(*body);
    const NodePtr given = body->find("name");
    const std::string name = given && !given->scalar.empty() ? given->scalar
                                                             : kind + std::to_string(index);
    const NodePtr from = body->find("from");
    if (from && from->kind == Node::Kind::list) {
      for (NodePtr& part : from->items) part = text_node(resolve(*part, scope), *part);
    } else if (from && !from->scalar.empty()) {
      set(*body, "from", text_node(resolve(*from, scope), *from));
    } else if (!scope.top() && scope.previous == scope.input) {
      set(*body, "from", text_node(scope.input, *body));
    }
    scope.previous = declare(name, scope.prefix + name, *body, scope);
    set(*body, "name", text_node(scope.previous, given ? *given : *body));
    items_.push_back(copy);
  }

  // What would be replaced unread.
  static void check_names(const Node& body) {
    for (const char* key : {"name", "from"}) {
      const NodePtr node = body.find(key);
      const bool list = node && node->kind == Node::Kind::list && std::string(key) == "from";
      if (node && !list && node->kind != Node::Kind::scalar && node->kind != Node::Kind::null)
        fail(Exit::usage, "{}: {}: expected a name, got {}", node->place, key, node->what());
    }
  }

  void write_use(const NodePtr& body, std::size_t index, Scope& scope) {
    const NodePtr given = substituted(*body, scope);
    Use use;
    if (given->kind != Node::Kind::map)
      fail(Exit::usage, "{}: use: expected a map with the key 'block', got {}", given->place,
           given->what());
    Binder b = reader(given, list_path_ + "[].use");
    bind(b, use);
    b.finish();
    Block& block = block_named(use, b);
    check_arguments(use, block, *given);
    if (use.name.empty()) use.name = use.block + std::to_string(index);
    std::string input = scope.previous;
    if (!use.from.empty()) input = resolve(*given->find("from"), scope);
    if (input.empty()) b.error("no layer comes before the block; name what it reads with 'from'");
    stack_.push_back(use.block);
    for (i64 k = 0; k < use.repeat; ++k) {
      Scope inner;
      inner.block = use.block;
      inner.prefix = scope.prefix + use.name + (use.repeat > 1 ? "." + std::to_string(k) : "") + ".";
      inner.input = inner.previous = input;
      inner.arguments = &use.arguments;
      write_out(*block.items, inner);
      input = inner.previous;
    }
    stack_.pop_back();
    scope.previous = declare(use.name, input, *given, scope);
  }

  Block& block_named(const Use& use, const Binder& b) {
    const auto found = blocks_.find(use.block);
    if (found == blocks_.end()) {
      std::vector<std::string> known;
      for (const auto& [name, block] : blocks_) known.push_back(name);
      b.error(fmt::format("unknown block '{}'; {}", use.block,
                          known.empty() ? "there are none: add it under " + blocks_path_
                                        : did_you_mean(use.block, known)),
              "block");
    }
    if (std::find(stack_.begin(), stack_.end(), use.block) != stack_.end())
      b.error(fmt::format("block '{}' uses itself ({} > {})", use.block, join(stack_, " > "),
                          use.block),
              "block");
    found->second.used = true;
    return found->second;
  }

  void check_arguments(const Use& use, const Block& block, const Node& given) const {
    for (const auto& [name, value] : use.arguments) {
      if (std::find(block.parameters.begin(), block.parameters.end(), name) != block.parameters.end())
        continue;
      fail(Exit::usage, "{}: block '{}' has no parameter '{}'; {}", value->key_place, use.block, name,
           block.parameters.empty() ? "it has none" : did_you_mean(name, block.parameters));
    }
    for (const std::string& parameter : block.parameters) {
      if (!use.arguments.count(parameter))
        fail(Exit::usage, "{}: block '{}' needs the parameter '{}'; give it in with", given.place,
             use.block, parameter);
    }
  }

  // Makes `name` known in its scope; returns the full name that it stands for.
  std::string declare(const std::string& name, const std::string& full, const Node& at,
                      Scope& scope) const {
    if (!scope.names.emplace(name, full).second || (!scope.top() && name == "input"))
      fail(Exit::usage, "{}: the name '{}' is taken{}; choose another", at.place, name,
           scope.top() ? " by an earlier layer" : " in block '" + scope.block + "'");
    return full;
  }

  std::string resolve(const Node& from, const Scope& scope) const {
    const std::string& name = from.scalar;
    if (!scope.top() && name == "input") return scope.input;
    const auto found = scope.names.find(name);
    if (found != scope.names.end()) return found->second;
    if (scope.top()) return name;   // an input, or an error that build_graph() finds
    std::vector<std::string> known = {"input"};
    for (const auto& [key, full] : scope.names) known.push_back(key);
    fail(Exit::usage, "{}: block '{}' has no earlier layer '{}'; {}", from.place, scope.block, name,
         did_you_mean(name, known));
  }

  // A copy that the caller may change, with every $parameter replaced.
  NodePtr substituted(const Node& node, const Scope& scope) {
    auto copy = std::make_shared<Node>(node);
    for (NodePtr& item : copy->items) item = substituted(*item, scope);
    for (auto& [key, value] : copy->entries) value = substituted(*value, scope);
    if (scope.top() || node.kind != Node::Kind::scalar || node.scalar[0] != '$')
      return copy;
    const std::vector<std::string> factors = split(node.scalar, '*');
    if (factors.size() > 1) {
      copy->scalar = std::to_string(product(factors, node, scope));
      copy->quoted = false;
      return copy;
    }
    const NodePtr value = argument(node.scalar, node, scope);
    copy->scalar = value->scalar;
    copy->quoted = value->quoted;
    copy->place = value->place;
    return copy;
  }

  i64 product(const std::vector<std::string>& factors, const Node& node, const Scope& scope) {
    i64 result = 1;
    for (const std::string& factor : factors) {
      std::string text(trim(factor));
      if (text.rfind('$', 0) == 0) text = argument(text, node, scope)->scalar;
      const auto number = parse_i64(text);
      if (!number || __builtin_mul_overflow(result, *number, &result))
        fail(Exit::usage, "{}: expected a product of whole numbers, got '{}' with '{}'", node.place,
             node.scalar, text);
    }
    return result;
  }

  NodePtr argument(const std::string& text, const Node& node, const Scope& scope) {
    const std::string name = text.substr(1);
    const auto found = scope.arguments->find(name);
    Block& block = blocks_.at(scope.block);
    if (found == scope.arguments->end())
      fail(Exit::usage, "{}: block '{}' has no parameter '{}'; {}", node.place, scope.block, name,
           block.parameters.empty() ? "add it to its parameters"
                                    : did_you_mean(name, block.parameters));
    block.read.push_back(name);
    return found->second;
  }

  std::string blocks_path_, list_path_;
  std::map<std::string, Block> blocks_;
  std::vector<std::string> stack_;
  std::vector<NodePtr> items_;
};

void Binder::expand_blocks(const std::string& blocks, const std::string& list) {
  const std::string doc = "Parts of the model that are used more than once, by {use: {block: NAME}}.";
  if (mode() == Mode::describe) {
    auto outer = enter(blocks, doc, true);
    auto inner = outer->enter("<name>", doc, false);
    Block block;
    BlockExpander::bind(*inner, block);
  }
  if (mode() != Mode::read) return;
  const NodePtr given = impl_->take(blocks), items = impl_->node->find(list);
  const auto is_use = [](const NodePtr& item) { return item->find("use") != nullptr; };
  if (!items || items->kind != Node::Kind::list) return;
  if (!given && std::none_of(items->items.begin(), items->items.end(), is_use)) return;
  const auto copy = std::make_shared<Node>(*impl_->node);
  set(*copy, list, BlockExpander(impl_->full(blocks), impl_->full(list)).expand(given, items));
  impl_->node = copy;
}

void Binder::describe_use() {
  Use use;
  BlockExpander::bind(*this, use);
}

}  // namespace cohort
