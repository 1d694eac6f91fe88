// JPEG and PNG pictures to bytes.
#pragma once
#include <string>

#include "base/types.h"

namespace cohort {

struct Image {
  i64 height = 0, width = 0, channels = 0;
  std::string bytes;  // u8 [height, width, channels]
};
// Decodes a whole JPEG or PNG file, told apart by its first bytes; channels is 1 (grey) or 3 (RGB).
// A PNG's stored samples are taken as they are, without gamma or colour profiles, in this order:
// 16 bits become 8 by the high byte, 1, 2 and 4 grey bits by v * 255 / most; a transparent pixel
// (alpha, tRNS) lies over black, round(v * alpha / 255); RGB becomes grey, as libjpeg and Pillow do
// it, by (19595 R + 38470 G + 7471 B + 2^15) >> 16, grey becomes RGB by repetition. A JPEG that
// libjpeg only decodes with warnings counts as damaged. Errors: Exit::data with the reason (no file
// name), found before memory is taken where there are more than `most_pixels`.
Image decode_image(const std::string& file, i64 channels, i64 most_pixels = i64{1} << 26);
// A PNG file of the picture, which decodes to the same bytes.
std::string encode_png(const Image& image);
// Bilinear, pixel centres at (i + 0.5), edges repeated, rounded to nearest.
Image resize_image(const Image& image, i64 height, i64 width);

}  // namespace cohort
