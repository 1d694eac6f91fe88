// Memory and slots of the CUDA device, in every order of its streams.
#include <gtest/gtest.h>

#include <cstring>

#include "cuda_devices.h"

namespace cohort::test {
namespace {

TEST(CudaMemory, BytesComeBackWhateverTheirNumber) {
  const auto device = cuda::make_device({0, "f32", false});
  for (const i64 size : {i64{1}, i64{4099}, (i64{20} << 20) + 3}) {
    std::vector<char> bytes(static_cast<std::size_t>(size)), back(bytes.size());
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i % 251 + i / 9973);
    void* data = device->allocate(size);
    device->copy_in(data, bytes.data(), size);
    device->copy_out(back.data(), data, size);
    EXPECT_TRUE(back == bytes) << size;
  }
}

constexpr i64 slot_bytes = 64;

void expect_filled(const char* data, i64 value, const std::string& where) {
  for (i64 i = 0; i < slot_bytes; ++i) ASSERT_EQ(data[i], static_cast<char>(value)) << where;
}

// What each pass sent is what it saw, and what it left is in the results, though many are under way.
TEST(CudaSlots, EveryPassSeesItsOwnBytes) {
  for_each_order([&](const std::string& order) {
    const auto device = cuda::make_device({0, "f32", false});
    const std::vector<Slot> slots = device->make_slots(slot_bytes, slot_bytes);
    const auto count = static_cast<i64>(slots.size());
    void* memory = device->allocate(slot_bytes);
    const auto end = [&](i64 pass) {
      const Slot& slot = slots[static_cast<std::size_t>(pass % count)];
      device->wait(slot, [] {});
      expect_filled(slot.results, pass + 1, order + ", pass " + std::to_string(pass));
    };
    constexpr i64 passes = 10;
    for (i64 pass = 0; pass < passes; ++pass) {
      if (pass >= count) end(pass - count);
      const Slot& slot = slots[static_cast<std::size_t>(pass % count)];
      std::memset(slot.host, static_cast<int>(pass + 1), slot_bytes);
      device->send(slot);
      device->copy(memory, slot.device, slot_bytes);
      device->close(slot, memory, slot_bytes);
    }
    for (i64 pass = passes - count; pass < passes; ++pass) end(pass);
  });
}

}  // namespace
}  // namespace cohort::test
