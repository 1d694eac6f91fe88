#include "fields/image.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>
// After <cstdio>: jpeglib.h needs it.
#include <jpeglib.h>
#include <zlib.h>

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

std::string big_endian(std::uint32_t value) {
  std::string bytes;
  for (int shift : {24, 16, 8, 0}) bytes += static_cast<char>(value >> shift & 255);
  return bytes;
}
std::string chunk(std::string kind, const std::string& data) {
  kind += data;
  const uLong sum = crc32(0, reinterpret_cast<const Bytef*>(kind.data()),
                          static_cast<uInt>(kind.size()));
  return big_endian(static_cast<std::uint32_t>(data.size())) + kind +
         big_endian(static_cast<std::uint32_t>(sum));
}
std::string text_of(std::initializer_list<int> values) {
  std::string bytes;
  for (int value : values) bytes += static_cast<char>(value);
  return bytes;
}

enum Color { kGrey = 0, kRgb = 2, kPalette = 3, kGreyAlpha = 4, kRgba = 6 };
// A PNG of one row, `extra` chunks before its pixels.
std::string png_of(Color color, int depth, int width, std::initializer_list<int> samples,
                   const std::string& extra = "") {
  const std::string row = '\0' + text_of(samples);
  std::string packed(256, '\0');
  uLongf size = packed.size();
  EXPECT_EQ(compress(reinterpret_cast<Bytef*>(packed.data()), &size,
                     reinterpret_cast<const Bytef*>(row.data()), row.size()), Z_OK);
  packed.resize(size);
  return "\x89PNG\r\n\x1a\n" +
         chunk("IHDR", big_endian(static_cast<std::uint32_t>(width)) + big_endian(1) +
                           text_of({depth, color, 0, 0, 0})) +
         extra + chunk("IDAT", packed) + chunk("IEND", "");
}
std::vector<int> values_of(const std::string& file, i64 channels) {
  const Image image = decode_image(file, channels);
  std::vector<int> values;
  for (std::size_t at = 0; at < image.bytes.size(); ++at) values.push_back(grey(image, at));
  return values;
}
using Values = std::vector<int>;

TEST(Image, TransparentPixelsLieOverBlackByHand) {
  // 200 * 128 / 255 = 100.39, 100 * 128 / 255 = 50.20, 51 * 128 / 255 = 25.6
  const std::string rgba = png_of(kRgba, 8, 3, {200, 100, 51, 128, 9, 8, 7, 255, 9, 8, 7, 0});
  EXPECT_EQ(values_of(rgba, 3), (Values{100, 50, 26, 9, 8, 7, 0, 0, 0}));
  // (19595 * 100 + 38470 * 50 + 7471 * 26 + 32768) >> 16: 62.72
  EXPECT_EQ(values_of(rgba, 1), (Values{62, 8, 0}));
  const std::string grey_alpha = png_of(kGreyAlpha, 8, 3, {200, 128, 77, 255, 77, 1});
  EXPECT_EQ(values_of(grey_alpha, 1), (Values{100, 77, 0}));
  EXPECT_EQ(values_of(grey_alpha, 3), (Values{100, 100, 100, 77, 77, 77, 0, 0, 0}));
}

TEST(Image, SixteenBitsBecomeTheHighByte) {
  EXPECT_EQ(values_of(png_of(kGrey, 16, 4, {64, 64, 64, 255, 0, 200, 255, 255}), 1),
            (Values{64, 64, 0, 255}));
  EXPECT_EQ(values_of(png_of(kRgb, 16, 1, {10, 200, 64, 64, 255, 0}), 3), (Values{10, 64, 255}));
  // Alpha too: 200 * 128 / 255.
  EXPECT_EQ(values_of(png_of(kGreyAlpha, 16, 1, {200, 255, 128, 255}), 1), (Values{100}));
}

TEST(Image, TransparentColorsAndPalettes) {
  EXPECT_EQ(values_of(png_of(kGrey, 8, 2, {70, 71}, chunk("tRNS", text_of({0, 70}))), 1),
            (Values{0, 71}));
  // Both bytes of 16 count: 70.1 is not 70.2.
  EXPECT_EQ(values_of(png_of(kGrey, 16, 2, {70, 1, 70, 2}, chunk("tRNS", text_of({70, 1}))), 1),
            (Values{0, 70}));
  EXPECT_EQ(values_of(png_of(kRgb, 8, 2, {1, 2, 3, 1, 2, 4},
                             chunk("tRNS", text_of({0, 1, 0, 2, 0, 3}))), 3),
            (Values{0, 0, 0, 1, 2, 4}));
  EXPECT_EQ(values_of(png_of(kPalette, 8, 2, {1, 0},
                             chunk("PLTE", text_of({200, 100, 51, 5, 6, 7})) +
                                 chunk("tRNS", text_of({128}))), 3),
            (Values{5, 6, 7, 100, 50, 26}));
  EXPECT_EQ(values_of(png_of(kGrey, 2, 4, {0b00011011}), 1), (Values{0, 85, 170, 255}));
}

TEST(Image, GammaAndColorSpaceHaveNoEffect) {
  const Values stored{0, 64, 200, 255};
  for (std::uint32_t gamma : {45455U, 100000U, 10000U, 250000U}) {
    const std::string extra = chunk("gAMA", big_endian(gamma));
    EXPECT_EQ(values_of(png_of(kGrey, 8, 4, {0, 64, 200, 255}, extra), 1), stored) << gamma;
    EXPECT_EQ(values_of(png_of(kGrey, 16, 4, {0, 0, 64, 64, 200, 200, 255, 255}, extra), 1), stored)
        << gamma;
    EXPECT_EQ(values_of(png_of(kRgba, 8, 1, {200, 100, 51, 128}, extra), 3), (Values{100, 50, 26}))
        << gamma;
  }
  EXPECT_EQ(values_of(png_of(kGrey, 8, 4, {0, 64, 200, 255}, chunk("sRGB", text_of({0}))), 1),
            stored);
}

// A JPEG of 8 x 8 pixels of one colour: at quality 100 its Y is exact.
std::string jpeg_of(std::initializer_list<int> rgb) {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_width = info.image_height = 8;
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 100, TRUE);
  jpeg_start_compress(&info, TRUE);
  std::string row;
  for (int x = 0; x < 8; ++x) row += text_of(rgb);
  JSAMPROW at = reinterpret_cast<JSAMPROW>(row.data());
  while (info.next_scanline < 8) jpeg_write_scanlines(&info, &at, 1);
  jpeg_finish_compress(&info);
  std::string file(reinterpret_cast<char*>(bytes), size);
  jpeg_destroy_compress(&info);
  std::free(bytes);
  return file;
}

TEST(Image, GreyOfRgbIsThatOfJpeg) {
  const auto expect = [](std::initializer_list<int> rgb, int y) {
    EXPECT_EQ(values_of(png_of(kRgb, 8, 1, rgb), 1), Values{y});
    EXPECT_EQ(values_of(jpeg_of(rgb), 1).at(0), y);
  };
  expect({255, 0, 0}, 76);      // 76.245
  expect({0, 255, 0}, 150);     // 149.685
  expect({0, 0, 255}, 29);      // 29.07
  expect({200, 100, 50}, 124);  // 124.2
  expect({9, 8, 7}, 8);         // 8.185
  expect({31, 31, 31}, 31);
  expect({255, 255, 255}, 255);
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
