#include "export/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "base/error.h"

namespace cohort {
namespace {

using nlohmann::json;

constexpr i64 kPiece = 1 << 22;
constexpr u64 kHeaderLimit = 100u << 20;

struct Code {
  DType type;
  const char* name;
};
constexpr Code kCodes[] = {{DType::f32, "F32"},
                           {DType::f64, "F64"},
                           {DType::i32, "I32"},
                           {DType::i64, "I64"},
                           {DType::u8, "U8"}};

// JSON that refuses a key given twice.
json parse_strict(const std::string& text, const std::string& path) {
  std::vector<std::set<std::string>> keys;
  std::string twice;
  const auto watch = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second) {
      twice = value.get<std::string>();
    }
    return true;
  };
  json header;
  try {
    header = json::parse(text, watch);
  } catch (const json::exception& e) {
    fail(Exit::storage, "{}: the header is not JSON: {}", path, e.what());
  }
  if (!twice.empty()) fail(Exit::storage, "{}: the header names \"{}\" twice", path, twice);
  if (!header.is_object()) fail(Exit::storage, "{}: the header is not a JSON object", path);
  return header;
}

struct Entry {
  std::string name;
  View view;
  i64 begin = 0, end = 0;
};

Entry parse_entry(const std::string& name, const json& value, const std::string& path) {
  Entry entry;
  entry.name = name;
  try {
    entry.view.dtype = safetensors_type(value.at("dtype").get<std::string>(),
                                        fmt::format("{}: tensor {}", path, name));
    entry.view.shape = value.at("shape").get<Shape>();
    const auto offsets = value.at("data_offsets").get<std::vector<i64>>();
    if (offsets.size() != 2) fail(Exit::storage, "{}: tensor {}: bad data_offsets", path, name);
    entry.begin = offsets[0];
    entry.end = offsets[1];
  } catch (const json::exception& e) {
    fail(Exit::storage, "{}: tensor {}: {}", path, name, e.what());
  }
  i64 bytes = size_of(entry.view.dtype);
  for (i64 extent : entry.view.shape) {
    if (extent < 0 || __builtin_mul_overflow(bytes, extent, &bytes)) {
      fail(Exit::storage, "{}: tensor {}: impossible shape", path, name);
    }
  }
  if (entry.begin < 0 || entry.end < entry.begin || entry.end - entry.begin != bytes) {
    fail(Exit::storage, "{}: tensor {}: expected {} bytes for shape {}, data_offsets are [{}, {}]",
         path, name, bytes, to_string(entry.view.shape), entry.begin, entry.end);
  }
  return entry;
}

}  // namespace

const char* safetensors_code(DType type) {
  for (const Code& code : kCodes) {
    if (code.type == type) return code.name;
  }
  broken(__FILE__, __LINE__, "a dtype without a safetensors name");
}

DType safetensors_type(const std::string& code, const std::string& where) {
  for (const Code& known : kCodes) {
    if (code == known.name) return known.type;
  }
  fail(Exit::storage, "{}: unknown dtype \"{}\"", where, code);
}

std::vector<std::size_t> file_order(const std::vector<NamedView>& tensors) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const i64 size_a = size_of(tensors[a].view.dtype), size_b = size_of(tensors[b].view.dtype);
    return size_a != size_b ? size_a > size_b : tensors[a].name < tensors[b].name;
  });
  return order;
}

void write_safetensors(FileWriter& out, const std::vector<NamedView>& tensors) {
  std::vector<const NamedView*> order;
  for (const std::size_t k : file_order(tensors)) order.push_back(&tensors[k]);
  json header = json::object();
  i64 offset = 0;
  for (const NamedView* tensor : order) {
    COHORT_CHECK(!header.contains(tensor->name), "tensor named twice: " + tensor->name);
    const i64 bytes = tensor->view.bytes();
    header[tensor->name] = {{"dtype", safetensors_code(tensor->view.dtype)},
                            {"shape", tensor->view.shape},
                            {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const u64 size = text.size();
  out.write(&size, 8);  // every supported machine is little-endian
  out.write(text.data(), static_cast<i64>(text.size()));
  for (const NamedView* tensor : order) {
    const i64 bytes = tensor->view.bytes();
    for (i64 at = 0; at < bytes; at += kPiece) {
      out.write(tensor->view.as<const u8>() + at, std::min(kPiece, bytes - at));
    }
  }
}

std::map<std::string, View> view_safetensors(std::string& bytes, const std::string& path) {
  u64 size = 0;
  if (bytes.size() < 8) fail(Exit::storage, "{}: {} bytes, too short", path, bytes.size());
  std::memcpy(&size, bytes.data(), 8);
  if (size > kHeaderLimit || size > bytes.size() - 8) {
    fail(Exit::storage, "{}: header of {} bytes in a file of {} bytes", path, size, bytes.size());
  }
  const json header = parse_strict(bytes.substr(8, size), path);
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") entries.push_back(parse_entry(name, value, path));
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  char* data = bytes.data() + 8 + size;
  const i64 total = static_cast<i64>(bytes.size() - 8 - size);
  i64 at = 0;
  std::map<std::string, View> tensors;
  for (const Entry& entry : entries) {
    if (entry.begin != at || entry.end > total) {
      fail(Exit::storage, "{}: tensor {}: expected to start at {} and end within {}, got [{}, {}]",
           path, entry.name, at, total, entry.begin, entry.end);
    }
    at = entry.end;
    View& view = tensors[entry.name] = entry.view;
    view.data = data + entry.begin;
  }
  if (at != total) {
    fail(Exit::storage, "{}: {} bytes of tensors expected, got {}", path, at, total);
  }
  return tensors;
}

std::map<std::string, std::pair<View, std::vector<u8>>> parse_safetensors(const std::string& bytes,
                                                                          const std::string& path) {
  std::map<std::string, std::pair<View, std::vector<u8>>> tensors;
  std::string& only_read = const_cast<std::string&>(bytes);   // a View can be written through
  for (const auto& [name, seen] : view_safetensors(only_read, path)) {
    auto& [view, owned] = tensors[name];
    owned.assign(seen.as<u8>(), seen.as<u8>() + seen.bytes());
    view = seen;
    view.data = owned.data();
  }
  return tensors;
}

}  // namespace cohort
