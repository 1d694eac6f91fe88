#include "store/hdf5.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <numeric>

#include "base/error.h"
#include "store/files.h"

namespace cohort {
namespace {

using testing::HasSubstr;

std::string path_of(const std::string& name) { return testing::TempDir() + "hdf5_" + name + ".h5"; }

std::string error_of(Exit expected, const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), expected) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

// 7 rows of [3] in chunks of 2 rows, and 5 bytes in one chunk.
std::string write_sample(const std::string& name) {
  const std::string path = path_of(name);
  std::vector<i64> numbers(21);
  std::iota(numbers.begin(), numbers.end(), i64{1} << 40);
  std::vector<u8> bytes{1, 2, 3, 4, 255};
  Hdf5Writer file(path);
  file.group("/g");
  file.dataset("/g/numbers", {numbers.data(), DType::i64, {7, 3}}, {2, 3});
  file.dataset("/bytes", {bytes.data(), DType::u8, {5}}, {5});
  write_atomically(real_files(), path, file.bytes());
  return path;
}

TEST(Hdf5, ShapesTypesAndChunksComeBack) {
  const Hdf5Reader file(write_sample("shapes"));
  const Hdf5Dataset numbers = file.dataset("/g/numbers"), bytes = file.dataset("bytes");
  EXPECT_EQ(numbers.dtype, DType::i64);
  EXPECT_EQ(numbers.shape, Shape({7, 3}));
  EXPECT_EQ(numbers.chunk, Shape({2, 3}));
  EXPECT_EQ(bytes.dtype, DType::u8);
  EXPECT_EQ(bytes.shape, Shape({5}));
}

TEST(Hdf5, EveryElementTypeComesBack) {
  for (DType type : {DType::f32, DType::f64, DType::i32, DType::i64, DType::u8}) {
    const std::string path = path_of("type");
    std::vector<u8> data(static_cast<std::size_t>(4 * size_of(type)), 1);
    Hdf5Writer file(path);
    file.dataset("/x", {data.data(), type, {4}}, {4});
    write_atomically(real_files(), path, file.bytes());
    EXPECT_EQ(Hdf5Reader(path).dataset("/x").dtype, type);
  }
}

// The values lie in the file where chunk() says, the last chunk padded to its whole size.
TEST(Hdf5, ChunkAddressesPointAtTheValues) {
  const std::string path = write_sample("chunks"), bytes = real_files().read(path);
  const Hdf5Reader file(path);
  for (i64 row = 0; row < 7; row += 2) {
    const Hdf5Reader::Place place = file.chunk("/g/numbers", row);
    ASSERT_EQ(place.bytes, 2 * 3 * 8);
    ASSERT_LE(place.offset + place.bytes, static_cast<i64>(bytes.size()));
    for (i64 i = 0; i < std::min<i64>(6, 21 - row * 3); ++i) {
      i64 value = 0;
      std::memcpy(&value, bytes.data() + place.offset + i * 8, 8);
      EXPECT_EQ(value, (i64{1} << 40) + row * 3 + i);
    }
  }
}

TEST(Hdf5, SameContentSameBytes) {
  EXPECT_EQ(real_files().read(write_sample("bytes_a")), real_files().read(write_sample("bytes_b")));
}

TEST(Hdf5, CutAndAlteredFilesAreDataErrors) {
  const std::string path = write_sample("cut"), good = real_files().read(path);
  for (std::size_t size : {std::size_t{0}, std::size_t{7}, good.size() / 2, good.size() - 1}) {
    std::ofstream(path, std::ios::binary) << good.substr(0, size);
    EXPECT_THAT(error_of(Exit::data, [&] { Hdf5Reader{path}; }), HasSubstr(path)) << size;
  }
  EXPECT_THAT(error_of(Exit::data, [] { Hdf5Reader("no/such.h5"); }), HasSubstr("no/such.h5"));
}

TEST(Hdf5, MissingObjectsAreNamed) {
  const std::string path = write_sample("missing");
  const Hdf5Reader file(path);
  for (const char* name : {"/none", "/g/none", "/g"}) {
    const std::string text = error_of(Exit::data, [&] { file.dataset(name); });
    EXPECT_THAT(text, testing::AllOf(HasSubstr(path), HasSubstr(name)));
  }
  error_of(Exit::data, [&] { file.chunk("/none", 0); });
  error_of(Exit::data, [&] { file.chunk("/g/numbers", 100); });
}

// Datasets that other programs wrote.
class Foreign {
 public:
  explicit Foreign(const std::string& path)
      : file_(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)) {}
  ~Foreign() { H5Fclose(file_); }
  void dataset(const char* name, hid_t type, bool chunked, bool filtered) {
    const hsize_t dims[] = {4};
    const hid_t space = H5Screate_simple(1, dims, nullptr), list = H5Pcreate(H5P_DATASET_CREATE);
    if (chunked) H5Pset_chunk(list, 1, dims);
    if (filtered) H5Pset_fletcher32(list);
    H5Dclose(H5Dcreate2(file_, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT));
    H5Pclose(list);
    H5Sclose(space);
  }

 private:
  hid_t file_;
};

TEST(Hdf5, ForeignDatasetsAreRefused) {
  const std::string path = path_of("foreign");
  {
    Foreign file(path);
    file.dataset("short", H5T_STD_I16LE, true, false);
    file.dataset("big_endian", H5T_IEEE_F32BE, true, false);
    file.dataset("contiguous", H5T_IEEE_F32LE, false, false);
    file.dataset("filtered", H5T_IEEE_F32LE, true, true);
    file.dataset("unwritten", H5T_IEEE_F32LE, true, false);
  }
  const Hdf5Reader file(path);
  for (const char* name : {"short", "big_endian", "contiguous", "filtered"}) {
    EXPECT_THAT(error_of(Exit::data, [&] { file.dataset(name); }), HasSubstr(name));
  }
  EXPECT_EQ(file.dataset("unwritten").dtype, DType::f32);
  EXPECT_THAT(error_of(Exit::data, [&] { file.chunk("unwritten", 0); }), HasSubstr("unwritten"));
}

TEST(Hdf5, WhatCannotBeWrittenIsAStorageError) {
  Hdf5Writer file(path_of("large"));
  EXPECT_THAT(error_of(Exit::storage, [&] {
                file.dataset("/x", {nullptr, DType::f64, {1 << 30}}, {1 << 29});
              }),
              HasSubstr("over 4 GiB: lower rows_per_block"));
}

}  // namespace
}  // namespace cohort
