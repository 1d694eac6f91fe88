// TensorBoard event files: TFRecord framing (length, masked CRC32C, payload, masked CRC32C) around
// hand-encoded tensorflow.Event messages (tensorflow/core/util/event.proto), scalars only.
#pragma once
#include <memory>
#include <string>

#include "store/files.h"
#include "train/late_work.h"

namespace cohort {

u32 crc32c(const void* data, std::size_t bytes);   // Castagnoli, RFC 3720

class EventFile {
 public:
  // Creates <folder>/events.out.tfevents.<seconds>.<host>.<attempt>. `time`: seconds since 1970.
  // After an error of the storage the rest goes to another one, later.
  EventFile(Files& files, const std::string& folder, i64 attempt, double time);
  void scalar(const std::string& tag, double value, i64 step, double time);
  void finish();   // what could not be written, or Error

 private:
  void open();
  void write_owed();
  Files& files_;
  const std::string folder_;
  const i64 attempt_;
  double time_;
  i64 errors_ = 0;
  std::unique_ptr<FileWriter> file_;   // null after an error
  std::string owed_;
  LateWork late_;
};

}  // namespace cohort
