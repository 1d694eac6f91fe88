#include "fields/base64.h"

#include <array>

#include "base/error.h"
#include "base/types.h"

namespace cohort {
namespace {

constexpr std::string_view kLetters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::array<int, 256> values_of_letters() {
  std::array<int, 256> values;
  values.fill(-1);
  for (std::size_t i = 0; i < kLetters.size(); ++i) {
    values[static_cast<u8>(kLetters[i])] = static_cast<int>(i);
  }
  return values;
}

}  // namespace

std::string to_base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    u32 group = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      group = group << 8 | (at + i < bytes.size() ? static_cast<u8>(bytes[at + i]) : 0U);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      text += at + i > bytes.size() ? '=' : kLetters[group >> (18 - 6 * i) & 63];
    }
  }
  return text;
}

std::string from_base64(std::string_view text) {
  static const std::array<int, 256> values = values_of_letters();
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  u32 group = 0;
  std::size_t letters = 0, ends = 0;
  for (const char c : text) {
    if (c == '\n' || c == '\r') continue;
    const int value = values[static_cast<u8>(c)];
    if (c == '=') {
      ++ends;
    } else if (value < 0 || ends > 0) {
      fail(Exit::data, "not base64: byte {} at letter {}", static_cast<u8>(c), letters + ends);
    } else {
      group = group << 6 | static_cast<u32>(value);
      ++letters;
      if (letters % 4 == 0) {
        for (const int shift : {16, 8, 0}) bytes += static_cast<char>(group >> shift & 255);
        group = 0;
      }
    }
  }
  const std::size_t rest = letters % 4;
  if (rest == 1 || ends != (4 - rest) % 4) {
    fail(Exit::data, "not base64: {} letters and {} '=', expected a multiple of 4 and at most 2 '='",
         letters, ends);
  }
  if (rest > 1) bytes += static_cast<char>(group >> (rest == 2 ? 4 : 10) & 255);
  if (rest > 2) bytes += static_cast<char>(group >> 2 & 255);
  return bytes;
}

}  // namespace cohort
