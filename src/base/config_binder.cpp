#include <cmath>

#include "base/config.h"
#include "base/config_node.h"
#include "base/error.h"
#include "base/text.h"

namespace cohort {

namespace {

using Node = std::shared_ptr<Document::Node>;

}  // namespace

Binder::Binder(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Binder Binder::reader(const Document& document) {
  auto impl = std::make_shared<Impl>();
  impl->node = document.root_;
  return Binder(impl);
}
Binder Binder::writer() {
  auto impl = std::make_shared<Impl>();
  impl->mode = Mode::write;
  return Binder(impl);
}
Binder Binder::describer() {
  auto impl = std::make_shared<Impl>();
  impl->mode = Mode::describe;
  return Binder(impl);
}

Binder::Mode Binder::mode() const { return impl_->mode; }
std::string Binder::text() const { return *impl_->out; }
std::vector<KeyDoc> Binder::docs() const { return *impl_->docs; }
std::string Binder::place() const { return impl_->node ? impl_->node->place : "config"; }
bool Binder::has(const std::string& name) const {
  return impl_->node && impl_->node->find(name) != nullptr;
}

void Binder::error(const std::string& message, const std::string& name) const {
  const auto child = impl_->node && !name.empty() ? impl_->node->find(name) : nullptr;
  const std::string path = name.empty() ? impl_->path : impl_->full(name);
  fail(Exit::usage, "{}: {}{}", child ? child->place : place(), path.empty() ? "" : path + ": ",
       message);
}

void Binder::finish() {
  if (impl_->mode != Mode::read) return;
  for (const auto& [name, node] : impl_->node->entries) {
    bool known = false;
    for (const std::string& k : impl_->known) known |= k == name;
    if (known) continue;
    const std::string near = nearest(name, impl_->known);
    const std::string hint = near.empty() ? "expected one of: " + join(impl_->known, ", ")
                                          : "did you mean '" + near + "'?";
    fail(Exit::usage, "{}: unknown key '{}'; {}", node->key_place, impl_->full(name), hint);
  }
}

std::optional<Binder> Binder::enter(const std::string& name, const std::string& doc,
                                    bool optional) {
  auto inner = std::make_shared<Impl>();
  inner->mode = impl_->mode;
  inner->path = impl_->full(name);
  inner->docs = impl_->docs;
  inner->out = impl_->out;
  inner->indent = impl_->indent + "  ";
  if (impl_->mode == Mode::describe) {
    impl_->describe(name, "map", "", optional ? "absent" : "", doc);
  } else if (impl_->mode == Mode::write) {
    impl_->line(quote_yaml(name) + ":");
  } else {
    auto child = impl_->take(name);
    if (!child && optional && !impl_->node->find(name)) return {};
    if (!child) {
      child = std::make_shared<Document::Node>();
      child->kind = Document::Node::Kind::map;
      child->place = impl_->node->place;
    }
    if (child->kind != Document::Node::Kind::map)
      error(fmt::format("expected a map of keys, got {}", child->what()), name);
    inner->node = child;
  }
  inner->start = impl_->out->size();
  return Binder(inner);
}

void Binder::leave(Binder& inner) {
  inner.finish();
  // A map without a line of its own must still read back as a map.
  const std::string& out = *impl_->out;
  if (impl_->mode == Mode::write && out.size() == inner.impl_->start)
    impl_->out->insert(out.size() - 1, " {}");
}

void Binder::each(const std::string& name, const std::string& doc, i64 have,
                  const std::function<void(Binder&, i64)>& item) {
  const auto visit = [&](i64 index, const std::string& path, Node node) {
    auto inner = std::make_shared<Impl>();
    inner->mode = impl_->mode;
    inner->path = path;
    inner->docs = impl_->docs;
    inner->out = impl_->out;
    inner->indent = impl_->indent + "    ";
    inner->lead = impl_->indent + "  - ";
    inner->node = std::move(node);
    Binder binder(inner);
    item(binder, index);
    if (inner->mode == Mode::write && !inner->lead.empty()) inner->line("{}");
    binder.finish();
  };
  if (impl_->mode == Mode::describe) {
    impl_->describe(name, "list of maps", "", "", doc);
    visit(0, impl_->full(name) + "[]", nullptr);
  } else if (impl_->mode == Mode::write) {
    impl_->line(have == 0 ? name + ": []" : name + ":");
    for (i64 k = 0; k < have; ++k) visit(k, impl_->full(name), nullptr);
  } else if (const Node list = impl_->take(name)) {
    if (list->kind != Document::Node::Kind::list)
      error(fmt::format("expected a list, got {}", list->what()), name);
    for (std::size_t k = 0; k < list->items.size(); ++k) {
      const std::string path = fmt::format("{}[{}]", impl_->full(name), k);
      if (list->items[k]->kind != Document::Node::Kind::map)
        fail(Exit::usage, "{}: {}: expected a map, got {}", list->items[k]->place, path,
             list->items[k]->what());
      visit(static_cast<i64>(k), path, list->items[k]);
    }
  }
}

void Binder::each_named(const std::string& name, const std::string& doc,
                        const std::vector<std::string>& have,
                        const std::function<void(Binder&, const std::string&, i64)>& item) {
  const auto visit = [&](Binder& outer, const std::string& key, i64 index) {
    if (auto inner = outer.enter(key, doc, false)) {
      item(*inner, key, index);
      outer.leave(*inner);
    }
  };
  auto outer = enter(name, doc, true);
  if (!outer) return;
  if (impl_->mode == Mode::describe) visit(*outer, "<name>", 0);
  if (impl_->mode == Mode::write)
    for (std::size_t k = 0; k < have.size(); ++k) visit(*outer, have[k], static_cast<i64>(k));
  if (impl_->mode == Mode::read) {
    const auto entries = outer->impl_->node->entries;
    for (std::size_t k = 0; k < entries.size(); ++k)
      visit(*outer, entries[k].first, static_cast<i64>(k));
  }
  leave(*outer);
}

void Binder::tagged(const std::vector<std::string>& tags, std::string& tag, const std::string&,
                    const std::function<void(Binder&)>& bind_inner) {
  if (impl_->mode == Mode::describe) {
    for (const std::string& each : tags) {
      tag = each;
      if (auto inner = enter(each, "", false)) bind_inner(*inner);
    }
    return;
  }
  if (impl_->mode == Mode::read) {
    const auto& entries = impl_->node->entries;
    if (entries.size() != 1)
      error(fmt::format("expected a map with one key out of {}, got {}", join(tags, ", "),
                        impl_->node->what()));
    tag = entries[0].first;
    bool known = false;
    for (const std::string& each : tags) known |= each == tag;
    if (!known) {
      const std::string near = nearest(tag, tags);
      error(fmt::format("unknown '{}'; {}", tag,
                        near.empty() ? "expected one of: " + join(tags, ", ")
                                     : "did you mean '" + near + "'?"),
            tag);
    }
  }
  if (auto inner = enter(tag, "", false)) {
    bind_inner(*inner);
    leave(*inner);
  }
}

}  // namespace cohort
