#include "export/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "unit/train/memory_files.h"

namespace cohort {
namespace {

using ::testing::HasSubstr;

std::string container(const std::string& header, const std::string& data) {
  const u64 size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + data;
}

std::string error_of(const std::string& bytes) {
  try {
    parse_safetensors(bytes, "t.safetensors");
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::storage);
    return e.what();
  }
  return "";
}

TEST(Safetensors, TheBytesAreTheFormat) {
  MemoryFiles files;
  std::vector<u8> small = {1, 2, 3};
  std::vector<double> large = {1.0, -2.0};
  const auto file = files.create("t");
  write_safetensors(*file, {{"small", {small.data(), DType::u8, {3}}},
                            {"large", {large.data(), DType::f64, {2, 1}}}});
  const std::string bytes = files.read("t");
  u64 size = 0;
  std::memcpy(&size, bytes.data(), 8);
  EXPECT_EQ(size % 8, 0u);
  EXPECT_EQ(bytes.size(), 8 + size + 19);
  EXPECT_EQ(bytes[8], '{');
  EXPECT_EQ(std::memcmp(bytes.data() + 8 + size, large.data(), 16), 0) << "large elements first";
  EXPECT_THAT(bytes.substr(8, size),
              HasSubstr(R"("small":{"data_offsets":[16,19],"dtype":"U8","shape":[3]})"));
}

TEST(Safetensors, BrokenContainersAreRefused) {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(error_of(container(good, "12345678")), "");
  EXPECT_THAT(error_of("1234567"), HasSubstr("too short"));
  EXPECT_THAT(error_of(container(good, "12345678").substr(0, 30)), HasSubstr("header of"));
  EXPECT_THAT(error_of(container(good, "1234567")), HasSubstr("tensor a"));
  EXPECT_THAT(error_of(container(good, "123456789")), HasSubstr("8 bytes"));
  EXPECT_THAT(error_of(container("{]", "")), HasSubstr("JSON"));
  EXPECT_THAT(error_of(container("[]", "")), HasSubstr("object"));
  EXPECT_THAT(error_of(container(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},)"
                                 R"("a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})",
                                 "")),
              HasSubstr("twice"));
  const auto with = [](const std::string& body) {
    return container("{\"a\":" + body + "}", "12345678");
  };
  EXPECT_THAT(error_of(with(R"({"dtype":"F31","shape":[2],"data_offsets":[0,8]})")),
              HasSubstr("F31"));
  EXPECT_NE(error_of(with(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})")), "");
  EXPECT_NE(error_of(with(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})")), "");
  EXPECT_NE(error_of(with(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})")), "");
  EXPECT_NE(error_of(with(R"({"dtype":"F32","shape":[2],"data_offsets":[4,12]})")), "");
  EXPECT_NE(error_of(with(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,9]})")), "");
  EXPECT_NE(error_of(with(R"({"dtype":"F32","shape":"x","data_offsets":[0,8]})")), "");
  const std::string huge = R"({"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]})";
  EXPECT_NE(error_of(with(huge)), "");
  EXPECT_NE(error_of(with("7")), "");
}

TEST(Safetensors, AnIndependentReaderReadsIt) {
  const char* python = std::getenv("COHORT_TEST_PYTHON");
  if (!python) GTEST_SKIP() << "COHORT_TEST_PYTHON is not set";
  const std::string path = ::testing::TempDir() + "cohort-independent.safetensors";
  std::vector<float> weight(15);
  for (std::size_t i = 0; i < weight.size(); ++i) weight[i] = 0.5f * static_cast<float>(i);
  std::vector<u8> flags = {1, 2, 3};
  i64 counter = -7;
  const auto file = real_files().create(path);
  write_safetensors(*file, {{"flags", {flags.data(), DType::u8, {3}}},
                            {"weight", {weight.data(), DType::f32, {3, 5}}},
                            {"counter", {&counter, DType::i64, {}}}});
  file->close();
  const auto script = std::filesystem::path(__FILE__).parent_path() / "read_safetensors.py";
  const std::string command =
      fmt::format("\"{}\" \"{}\" \"{}\"", python, script.string(), path);
  EXPECT_EQ(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace cohort
