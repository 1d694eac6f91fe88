#include "serve/raw_values.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/make_fields.h"
#include "fields/base64.h"
#include "fields/csv.h"
#include "fields/image.h"
#include "fields/tokens.h"

namespace cohort {
namespace {

using nlohmann::json;

[[noreturn]] void refuse(const std::string& expected, const json& got) {
  throw BadCell{"expected " + expected + ", got " + describe(got)};
}

// As cells of raw files are checked.
const std::string& text_of(const json& value, const std::string& expected) {
  if (!value.is_string()) refuse(expected, value);
  const std::string& text = value.get_ref<const std::string&>();
  if (!valid_utf8(text)) throw BadCell{"not UTF-8"};
  if (text.find('\0') != std::string::npos) throw BadCell{"holds a zero byte"};
  return text;
}

// An element of a list: lower-cased, as words of a text are.
std::string one_word(const std::string& text) {
  std::vector<std::string> words = tokenize(text, false);
  if (words.size() != 1) {
    throw BadCell{fmt::format("'{}': expected one word an element, got {}", text, words.size())};
  }
  return std::move(words[0]);
}

std::string element_cell(const json& value, const FieldConfig& config) {
  if (config.kind == "numbers") return one_word(number_cell(value));
  if (config.kind == "tokens") return one_word(text_of(value, "a word"));
  return one_word(name_cell(value));
}

void add_element(std::vector<std::string>& words, const json& value, const FieldConfig& config) {
  if (!value.is_array() || config.kind != "numbers" || config.width < 2) {
    words.push_back(element_cell(value, config));
    return;
  }
  if (static_cast<i64>(value.size()) != config.width) {
    refuse(fmt::format("a list of {} numbers", config.width), value);
  }
  for (const json& number : value) words.push_back(element_cell(number, config));
}

}  // namespace

std::string clipped(const std::string& text, std::size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<u8>(text[most]) & 0xc0) == 0x80) --most;
  return text.substr(0, most) + "...";
}

std::string describe(const json& value) {
  switch (value.type()) {
    case json::value_t::string:
      return "'" + clipped(value.get_ref<const std::string&>(), 60) + "'";
    case json::value_t::array: return fmt::format("a list of {}", value.size());
    case json::value_t::object: return fmt::format("an object of {}", value.size());
    case json::value_t::number_float: return fmt::format("{}", value.get<double>());
    case json::value_t::number_integer: return std::to_string(value.get<i64>());
    case json::value_t::number_unsigned: return std::to_string(value.get<u64>());
    case json::value_t::boolean: return value.get<bool>() ? "true" : "false";
    case json::value_t::null: return "null";
    default: return "bytes";
  }
}

std::string expected_of(const std::string& kind) {
  if (kind == "number") return "a number";
  if (kind == "numbers") return "a list of numbers, or a text of numbers between spaces";
  if (kind == "id") return "a text or a whole number";
  if (kind == "ids") return "a list of ids, or a text of ids between spaces";
  if (kind == "text") return "a text";
  return "the base64 of a JPEG or PNG file";
}

std::string number_cell(const json& value) {
  if (value.is_number()) return describe(value);
  return text_of(value, expected_of("number"));
}

std::string name_cell(const json& value) {
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (!(std::abs(number) < 0x1p53) || std::floor(number) != number) {
      refuse(expected_of("id"), value);
    }
    return std::to_string(static_cast<i64>(number));
  }
  if (value.is_number()) return describe(value);
  return text_of(value, expected_of("id"));
}

std::vector<std::string> sequence_cells(const json& value, const FieldConfig& config) {
  const std::string kind = config.kind == "tokens" ? "text" : config.kind;
  if (!value.is_array()) return words_of(config, text_of(value, expected_of(kind)));
  std::vector<std::string> words;
  for (std::size_t i = 0; i < value.size(); ++i) {
    try {
      add_element(words, value[i], config);
    } catch (const BadCell& bad) {
      throw BadCell{fmt::format("element {}: {}", i, bad.reason)};
    }
  }
  return words;
}

namespace {

std::string file_of(const json& value) {
  if (value.is_binary()) return {value.get_binary().begin(), value.get_binary().end()};
  std::string_view text = text_of(value, expected_of("image"));
  if (text.starts_with("data:")) {
    const std::size_t comma = text.find(',');
    if (comma == std::string_view::npos || !text.substr(0, comma).ends_with(";base64")) {
      throw BadCell{"expected data:...;base64,... as the URL of a picture"};
    }
    text.remove_prefix(comma + 1);
  }
  return from_base64(text);
}

}  // namespace

std::vector<u8> picture_of(const json& value, const Shape& shape, const PictureRule& rule) {
  const i64 height = shape[0], width = shape[1], channels = shape[2];
  const bool resize = rule.resize;
  const i64 other = resize ? rule.most_pixels : std::min(rule.most_pixels, i64{1} << 20);
  const i64 most = std::max(height * width, other);
  Image image = decode_image(file_of(value), channels, most);
  if (image.height != height || image.width != width) {
    if (!resize) {
      throw BadCell{fmt::format("expected a picture of {} x {} pixels, got {} x {}", height, width,
                                image.height, image.width)};
    }
    image = resize_image(image, height, width);
  }
  return {image.bytes.begin(), image.bytes.end()};
}

}  // namespace cohort
