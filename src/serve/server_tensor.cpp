#include "serve/server_tensor.h"

#include <fmt/ranges.h>

#include <cstring>
#include <type_traits>
#include <nlohmann/json.hpp>


namespace cohort {
namespace {

using nlohmann::json;

constexpr i64 most_elements = i64{1} << 24;

template <class... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> text, Args&&... args) {
  throw BadRequest{400, fmt::format(text, std::forward<Args>(args)...)};
}

template <class T>
json element(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

struct Datatype {
  const char* name;
  i64 bytes;                           // 0: BYTES
  json (*read)(const char*);
};
constexpr Datatype datatypes[] = {
    {"BYTES", 0, nullptr},
    {"FP32", 4, element<float>},       {"FP64", 8, element<double>},
    {"INT64", 8, element<std::int64_t>}, {"INT32", 4, element<std::int32_t>},
    {"INT16", 2, element<std::int16_t>}, {"INT8", 1, element<std::int8_t>},
    {"UINT64", 8, element<std::uint64_t>}, {"UINT32", 4, element<std::uint32_t>},
    {"UINT16", 2, element<std::uint16_t>}, {"UINT8", 1, element<std::uint8_t>}};

const Datatype& datatype_of(const RequestTensor& tensor) {
  for (const Datatype& type : datatypes)
    if (tensor.datatype == type.name) return type;
  refuse("input '{}': datatype '{}'; expected BYTES, FP32, FP64, INT8 to INT64 or UINT8 to UINT64",
         tensor.name, tensor.datatype);
}

const json& member(const json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end()) refuse("{} has no '{}'", where, key);
  return *found;
}

i64 read_shape(const json& from, RequestTensor& tensor) {
  if (!from.is_array() || from.empty() || from.size() > 8)
    refuse("input '{}': expected a shape of 1 to 8 dimensions", tensor.name);
  i64 elements = 1;
  for (const json& size : from) {
    const bool good = size.is_number_unsigned() && size.get<u64>() <= u64{most_elements};
    if (!good) refuse("input '{}': a dimension that is no whole number up to {}", tensor.name,
                      most_elements);
    tensor.shape.push_back(size.get<i64>());
    elements *= tensor.shape.back();
    if (elements > most_elements)
      refuse("input '{}': more than {} elements", tensor.name, most_elements);
  }
  return elements;
}

// Nested or flat, as the protocol allows both.
void flatten(json from, RequestTensor& tensor, i64 elements) {
  if (!from.is_array()) refuse("input '{}': expected a list as 'data'", tensor.name);
  std::vector<json> open;
  open.push_back(std::move(from));
  const bool texts = tensor.datatype == "BYTES";
  bool more = false;
  while (!open.empty()) {
    json next = std::move(open.back());
    open.pop_back();
    if (next.is_array()) {
      auto& list = next.get_ref<json::array_t&>();
      open.insert(open.end(), std::make_move_iterator(list.rbegin()),
                  std::make_move_iterator(list.rend()));
      list.clear();
      continue;
    }
    if (texts ? !next.is_string() : !next.is_number())
      refuse("input '{}': an element of 'data' is no {}", tensor.name, texts ? "text" : "number");
    more = static_cast<i64>(tensor.values.size()) == elements;
    if (more) break;
    tensor.values.push_back(std::move(next));
  }
  if (more || static_cast<i64>(tensor.values.size()) != elements)
    refuse("input '{}': 'data' has {} elements{}; its shape [{}] wants {}", tensor.name,
           tensor.values.size(), more ? " and more" : "", fmt::join(tensor.shape, ", "),
           elements);
}

void read_texts(std::string_view bytes, RequestTensor& tensor, i64 elements) {
  while (!bytes.empty()) {
    u32 length = 0;
    if (bytes.size() >= 4) std::memcpy(&length, bytes.data(), 4);
    if (bytes.size() < 4 || bytes.size() - 4 < length)
      refuse("input '{}': an element of its bytes reaches beyond their end", tensor.name);
    if (static_cast<i64>(tensor.texts.size()) == elements) break;
    tensor.texts.push_back(bytes.substr(4, length));
    bytes.remove_prefix(4 + std::size_t{length});
  }
  if (!bytes.empty() || static_cast<i64>(tensor.texts.size()) != elements)
    refuse("input '{}': {} elements in its bytes{}; its shape wants {}", tensor.name,
           tensor.texts.size(), bytes.empty() ? "" : " and more", elements);
}

void read_binary(std::string_view bytes, RequestTensor& tensor, i64 elements) {
  const Datatype& type = datatype_of(tensor);
  tensor.binary = true;
  if (type.bytes == 0) return read_texts(bytes, tensor, elements);
  if (static_cast<i64>(bytes.size()) != elements * type.bytes)
    refuse("input '{}': binary_data_size {}; {} elements of {} take {}", tensor.name, bytes.size(),
           elements, type.name, elements * type.bytes);
  tensor.bytes = bytes;
}

// A file is sent as it is, or as base64, which no picture's first bytes look like.
json picture(json value) {
  const std::string& bytes = value.get_ref<const std::string&>();
  const bool file = bytes.rfind("\xff\xd8", 0) == 0 || bytes.rfind("\x89PNG", 0) == 0;
  return file ? json::binary({bytes.begin(), bytes.end()}) : value;
}

json sequence(std::vector<json>::iterator from, i64 size, const std::vector<i64>& shape) {
  json list = json::array();
  const i64 width = shape.size() == 3 ? shape[2] : 1;
  for (i64 k = 0; k < size; k += width) {
    if (shape.size() < 3) {
      list.push_back(std::move(from[k]));
      continue;
    }
    list.push_back(json::array());
    for (i64 w = 0; w < width; ++w) list.back().push_back(std::move(from[k + w]));
  }
  return list;
}

// Of a type that is a number.
template <class Use>
void each_number(const RequestTensor& tensor, const Use& use) {
  const Datatype& type = datatype_of(tensor);
  const auto all = [&](auto value) {
    for (std::size_t at = 0; at < tensor.bytes.size(); at += sizeof(value)) {
      std::memcpy(&value, tensor.bytes.data() + at, sizeof(value));
      use(value);
    }
  };
  const std::string_view name = type.name;
  if (name == "FP32") all(float{});
  else if (name == "FP64") all(double{});
  else if (name == "INT64") all(std::int64_t{});
  else if (name == "INT32") all(std::int32_t{});
  else if (name == "INT16") all(std::int16_t{});
  else if (name == "INT8") all(std::int8_t{});
  else if (name == "UINT64") all(std::uint64_t{});
  else if (name == "UINT32") all(std::uint32_t{});
  else if (name == "UINT16") all(std::uint16_t{});
  else all(std::uint8_t{});
}

}  // namespace

void RequestTensor::expand() {
  if (!binary || !values.empty()) return;
  for (const std::string_view text : texts) values.emplace_back(std::string(text));
  const Datatype& type = datatype_of(*this);
  for (std::size_t at = 0; at < bytes.size(); at += static_cast<std::size_t>(type.bytes))
    values.push_back(type.read(bytes.data() + at));
}

bool add_column(const RequestTensor& tensor, bool words, RawColumn& to) {
  i64 elements = 1;
  for (const i64 size : tensor.shape) elements *= size;
  if (!tensor.binary || elements != tensor.shape[0] || elements == 0) return false;
  to.name = tensor.name;
  if (tensor.datatype == "BYTES") {
    if (!words) return false;
    to.words.assign(tensor.texts.begin(), tensor.texts.end());
    return true;
  }
  if (!words) {
    each_number(tensor, [&](auto value) { to.numbers.push_back(static_cast<double>(value)); });
    return true;
  }
  if (tensor.datatype == "FP32" || tensor.datatype == "FP64") return false;
  each_number(tensor, [&](auto value) {
    if constexpr (std::is_integral_v<decltype(value)>) to.words.push_back(std::to_string(value));
  });
  return true;
}

RequestTensor read_tensor(const json& from, std::string_view& binary) {
  if (!from.is_object()) refuse("expected an object for every input");
  RequestTensor tensor;
  const json& name = member(from, "name", "an input");
  if (!name.is_string()) refuse("the name of an input is no text");
  tensor.name = name;
  const std::string where = "input '" + tensor.name + "'";
  const json& datatype = member(from, "datatype", where);
  if (!datatype.is_string()) refuse("{}: its datatype is no text", where);
  tensor.datatype = datatype;
  datatype_of(tensor);
  const i64 elements = read_shape(member(from, "shape", where), tensor);
  const auto parameters = from.find("parameters");
  if (parameters == from.end() || !parameters->is_object() ||
      !parameters->contains("binary_data_size")) {
    flatten(member(from, "data", where), tensor, elements);
    return tensor;
  }
  const json& size = parameters->at("binary_data_size");
  if (!size.is_number_unsigned() || size.get<u64>() > binary.size())
    refuse("{}: binary_data_size is no whole number up to the {} bytes that are left", where,
           binary.size());
  if (from.contains("data")) refuse("{} has both 'data' and binary_data_size", where);
  read_binary(binary.substr(0, size.get<std::size_t>()), tensor, elements);
  binary.remove_prefix(size.get<std::size_t>());
  return tensor;
}

json raw_value(RequestTensor& tensor, i64 row, const Preprocess::Column& column) {
  const i64 rows = tensor.shape[0];
  const i64 size = rows == 0 ? 0 : static_cast<i64>(tensor.values.size()) / rows;
  const auto from = tensor.values.begin() + row * size;
  const bool many = column.kind == "numbers" || column.kind == "ids";
  const bool texts = tensor.datatype == "BYTES";
  if ((column.kind == "text" || column.kind == "image") && !texts)
    refuse("input '{}': datatype {}; expected BYTES for a column of kind {}", tensor.name,
           tensor.datatype, column.kind);
  if (size == 1 && (texts || !many))
    return column.kind == "image" ? picture(std::move(*from)) : std::move(*from);
  if (!many)
    refuse("input '{}': shape [{}]; expected [N] or [N, 1] for a column of kind {}", tensor.name,
           fmt::join(tensor.shape, ", "), column.kind);
  if (tensor.shape.size() > 3)
    refuse("input '{}': shape [{}]; expected [N], [N, T] or [N, T, width] for a column of kind {}",
           tensor.name, fmt::join(tensor.shape, ", "), column.kind);
  return sequence(from, size, tensor.shape);
}

}  // namespace cohort
