#include "train/tensorboard.h"

#include <fmt/core.h>

#include <array>
#include <cstring>

#include "base/env.h"

namespace cohort {
namespace {

std::array<u32, 256> make_table() {
  std::array<u32, 256> table{};
  for (u32 i = 0; i < 256; ++i) {
    u32 value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) ? 0x82f63b78u : 0u);
    table[i] = value;
  }
  return table;
}

u32 masked_crc(const std::string& bytes) {
  const u32 crc = crc32c(bytes.data(), bytes.size());
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

template <class T>
std::string raw(T value) {
  std::string text(sizeof(T), '\0');
  std::memcpy(text.data(), &value, sizeof(T));
  return text;
}

std::string varint(u64 value) {
  std::string text;
  for (; value >= 128; value >>= 7) text += static_cast<char>((value & 127) | 128);
  return text + static_cast<char>(value);
}

// Protocol buffer fields: key = (number << 3) | wire type.
std::string double_field(u64 number, double value) { return varint(number << 3 | 1) + raw(value); }
std::string float_field(u64 number, float value) { return varint(number << 3 | 5) + raw(value); }
std::string varint_field(u64 number, i64 value) {
  return varint(number << 3) + varint(static_cast<u64>(value));
}
std::string bytes_field(u64 number, const std::string& value) {
  return varint(number << 3 | 2) + varint(value.size()) + value;
}

}  // namespace

u32 crc32c(const void* data, std::size_t bytes) {
  static const std::array<u32, 256> table = make_table();
  const auto* at = static_cast<const u8*>(data);
  u32 crc = 0xffffffffu;
  for (std::size_t i = 0; i < bytes; ++i) crc = table[(crc ^ at[i]) & 255] ^ (crc >> 8);
  return ~crc;
}

namespace {

std::string record(const std::string& event) {
  const std::string length = raw(static_cast<u64>(event.size()));
  return length + raw(masked_crc(length)) + event + raw(masked_crc(event));
}

}  // namespace

EventFile::EventFile(Files& files, const std::string& folder, i64 attempt, double time)
    : files_(files), folder_(folder), attempt_(attempt), time_(time),
      late_([this] { write_owed(); }) {
  open();
}

void EventFile::open() {
  const std::string again = errors_ > 0 ? fmt::format(".{}", errors_) : "";
  file_ = files_.create(fmt::format("{}/events.out.tfevents.{:010d}.{}.{}{}", folder_,
                                    static_cast<i64>(time_), host_name(), attempt_, again));
  const std::string first = record(double_field(1, time_) + bytes_field(3, "brain.Event:2"));
  file_->write(first.data(), static_cast<i64>(first.size()));
}

void EventFile::scalar(const std::string& tag, double value, i64 step, double time) {
  const std::string entry = bytes_field(1, tag) + float_field(2, static_cast<float>(value));
  owed_ += record(double_field(1, time) + varint_field(2, step) +
                  bytes_field(5, bytes_field(1, entry)));
  time_ = time;
  late_.owe();
}

void EventFile::finish() { late_.finish(); }

// A reader stops at a record that was cut short: hence another file.
void EventFile::write_owed() {
  try {
    if (!file_) open();
    file_->write(owed_.data(), static_cast<i64>(owed_.size()));
  } catch (...) {
    file_.reset();
    ++errors_;
    throw;
  }
  owed_.clear();
}

}  // namespace cohort
