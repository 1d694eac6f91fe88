// TensorBoard event files: TFRecord framing (length, masked CRC32C, payload, masked CRC32C) around
// hand-encoded tensorflow.Event messages (tensorflow/core/util/event.proto), scalars only.
#pragma once
#include <memory>
#include <string>

#include "store/files.h"

namespace cohort {

u32 crc32c(const void* data, std::size_t bytes);   // Castagnoli, RFC 3720

class EventFile {
 public:
  // Creates <folder>/events.out.tfevents.<seconds>.<host>.<attempt>. `time`: seconds since 1970.
  EventFile(Files& files, const std::string& folder, i64 attempt, double time);
  void scalar(const std::string& tag, double value, i64 step, double time);

 private:
  void record(const std::string& event);
  std::unique_ptr<FileWriter> file_;
};

}  // namespace cohort
