#include "fields/image.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "store/files.h"

namespace cohort {
namespace {

std::string data_folder() {
  const char* value = std::getenv("COHORT_TEST_DATA");
  return value ? value : "";
}
int grey(const Image& image, std::size_t at) {
  return static_cast<unsigned char>(image.bytes.at(at));
}

TEST(Image, PngSuiteDecodesAndCorruptFilesAreErrors) {
  if (data_folder().empty()) GTEST_SKIP() << "COHORT_TEST_DATA is not set";
  const std::string folder = data_folder() + "/pngsuite";
  i64 good = 0, bad = 0;
  for (const std::string& name : real_files().list(folder)) {
    if (!name.ends_with(".png")) continue;
    const std::string bytes = real_files().read(folder + "/" + name);
    for (i64 channels : {1, 3}) {
      if (name.starts_with("x")) {
        EXPECT_THROW(decode_image(bytes, channels), Error) << name;
        ++bad;
      } else {
        const Image image = decode_image(bytes, channels);
        EXPECT_EQ(image.bytes.size(),
                  static_cast<std::size_t>(image.height * image.width * channels)) << name;
        ++good;
      }
    }
  }
  EXPECT_GT(good, 300);
  EXPECT_GE(bad, 26);
}

TEST(Image, JpegDecodesAndACutOneIsAnError) {
  if (data_folder().empty()) GTEST_SKIP() << "COHORT_TEST_DATA is not set";
  const std::string bytes =
      real_files().read(data_folder() + "/cifar10-jpeg/train/airplane/0000.jpg");
  const Image image = decode_image(bytes, 3);
  EXPECT_EQ(image.height, 32);
  EXPECT_EQ(image.bytes.size(), 3072u);
  for (std::size_t size : {std::size_t{0}, std::size_t{3}, bytes.size() / 2, bytes.size() - 9}) {
    EXPECT_THROW(decode_image(bytes.substr(0, size), 3), Error) << size;
  }
}

TEST(Image, ResizeInterpolatesByHand) {
  const Image image{1, 2, 1, std::string("\x00\x64", 2)};  // 0, 100
  const Image wide = resize_image(image, 1, 4);  // centres at -0.25, 0.25, 0.75, 1.25
  EXPECT_EQ(grey(wide, 0), 0);
  EXPECT_EQ(grey(wide, 1), 25);
  EXPECT_EQ(grey(wide, 2), 75);
  EXPECT_EQ(grey(wide, 3), 100);
  EXPECT_EQ(grey(resize_image(image, 3, 1), 2), 50);
}

}  // namespace
}  // namespace cohort
