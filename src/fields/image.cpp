#include "fields/image.h"

#include <csetjmp>
#include <cstdio>
// After <cstdio>: jpeglib.h needs it.
#include <jpeglib.h>
#include <png.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace cohort {
namespace {

constexpr i64 kMostPixels = i64{1} << 26;

void check_size(i64 height, i64 width, i64 most) {
  if (height < 1 || width < 1 || height > most / width) {
    fail(Exit::data, "picture of {} x {} pixels, expected 1 to {} pixels", height, width, most);
  }
}

struct JpegJob {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
  const std::string* file;
  Image* image;
};

JpegJob& job_of(j_common_ptr info) { return *static_cast<JpegJob*>(info->client_data); }

[[noreturn]] void jpeg_failed(j_common_ptr info) {
  JpegJob& job = job_of(info);
  info->err->format_message(info, job.message);
  std::longjmp(job.jump, 1);
}
// Level -1 is a warning: damaged data that the library would paper over.
void jpeg_message(j_common_ptr info, int level) {
  if (level < 0) jpeg_failed(info);
}

bool jpeg_header(JpegJob& job) {
  if (setjmp(job.jump) != 0) return false;
  jpeg_create_decompress(&job.info);
  jpeg_mem_src(&job.info, reinterpret_cast<const unsigned char*>(job.file->data()),
               static_cast<unsigned long>(job.file->size()));
  jpeg_read_header(&job.info, TRUE);
  job.info.out_color_space = job.image->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  return true;
}

bool jpeg_rows(JpegJob& job) {
  if (setjmp(job.jump) != 0) return false;
  jpeg_start_decompress(&job.info);
  while (job.info.output_scanline < job.info.output_height) {
    const std::size_t stride = static_cast<std::size_t>(job.image->width * job.image->channels);
    JSAMPROW row = reinterpret_cast<JSAMPROW>(job.image->bytes.data()) +
                   stride * job.info.output_scanline;
    jpeg_read_scanlines(&job.info, &row, 1);
  }
  jpeg_finish_decompress(&job.info);
  return true;
}

Image decode_jpeg(const std::string& file, i64 channels, i64 most_pixels) {
  Image image;
  image.channels = channels;
  JpegJob job;
  std::memset(&job, 0, sizeof job);
  job.file = &file;
  job.image = &image;
  job.info.err = jpeg_std_error(&job.errors);
  job.info.client_data = &job;
  job.errors.error_exit = jpeg_failed;
  job.errors.emit_message = jpeg_message;
  struct Guard {
    jpeg_decompress_struct* info;
    ~Guard() { jpeg_destroy_decompress(info); }
  } guard{&job.info};
  if (!jpeg_header(job)) fail(Exit::data, "damaged JPEG: {}", job.message);
  image.height = job.info.image_height;
  image.width = job.info.image_width;
  check_size(image.height, image.width, most_pixels);
  image.bytes.resize(static_cast<std::size_t>(image.height * image.width * channels));
  if (!jpeg_rows(job)) fail(Exit::data, "damaged JPEG: {}", job.message);
  return image;
}

// The rules of PNG (image.h) are integer arithmetic on the stored samples. The library's own
// functions for grey, backgrounds and its simplified reader are not used: they correct for gamma.
struct PngJob {
  png_struct* png;
  png_info* info;
  std::jmp_buf jump;
  char message[256];
  const std::string* file;
  std::size_t read;
  unsigned char* rgba;  // one row, of interlaced pictures all rows
  Image* image;
};

[[noreturn]] void png_failed(png_struct* png, const char* message) {
  PngJob& job = *static_cast<PngJob*>(png_get_error_ptr(png));
  std::snprintf(job.message, sizeof job.message, "%s", message);
  std::longjmp(job.jump, 1);
}
// Without effect on pixels: damaged pixels and headers are errors.
void png_warned(png_struct*, const char*) {}

void png_bytes(png_struct* png, unsigned char* to, std::size_t size) {
  PngJob& job = *static_cast<PngJob*>(png_get_io_ptr(png));
  if (size > job.file->size() - job.read) png_error(png, "read beyond end of data");
  std::memcpy(to, job.file->data() + job.read, size);
  job.read += size;
}

bool png_header(PngJob& job) {
  if (setjmp(job.jump) != 0) return false;
  png_set_read_fn(job.png, &job, png_bytes);
  png_set_benign_errors(job.png, 1);
  // Leaves out gAMA, sRGB, iCCP, cHRM, texts and so on, but not tRNS.
  png_set_keep_unknown_chunks(job.png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
  png_read_info(job.png, job.info);
  return true;
}

void put_row(const unsigned char* rgba, Image& image, i64 y) {
  char* out = image.bytes.data() + y * image.width * image.channels;
  for (i64 x = 0; x < image.width; ++x, rgba += 4) {
    unsigned rgb[3];
    for (int c = 0; c < 3; ++c) rgb[c] = (unsigned{rgba[c]} * rgba[3] + 127) / 255;
    if (image.channels == 1) {  // the constants of libjpeg: 0.299, 0.587, 0.114 of 2^16
      *out++ = static_cast<char>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 32768) >> 16);
    } else {
      for (const unsigned value : rgb) *out++ = static_cast<char>(value);
    }
  }
}

bool png_rows(PngJob& job) {
  if (setjmp(job.jump) != 0) return false;
  png_set_expand(job.png);
  png_set_strip_16(job.png);
  png_set_gray_to_rgb(job.png);
  png_set_add_alpha(job.png, 255, PNG_FILLER_AFTER);
  const int passes = png_set_interlace_handling(job.png);
  png_read_update_info(job.png, job.info);
  const i64 stride = job.image->width * 4;
  if (png_get_rowbytes(job.png, job.info) != static_cast<std::size_t>(stride)) {
    png_error(job.png, "bytes of a row");
  }
  for (int pass = 0; pass < passes; ++pass) {
    for (i64 y = 0; y < job.image->height; ++y) {
      unsigned char* row = job.rgba + (passes == 1 ? 0 : y * stride);
      png_read_row(job.png, row, nullptr);
      if (pass == passes - 1) put_row(row, *job.image, y);
    }
  }
  return true;
}

Image decode_png(const std::string& file, i64 channels, i64 most_pixels) {
  Image image;
  image.channels = channels;
  PngJob job;
  std::memset(&job, 0, sizeof job);
  job.file = &file;
  job.image = &image;
  struct Guard {
    PngJob* job;
    ~Guard() { png_destroy_read_struct(&job->png, &job->info, nullptr); }
  } guard{&job};
  job.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &job, png_failed, png_warned);
  if (job.png != nullptr) job.info = png_create_info_struct(job.png);
  if (job.info == nullptr) fail(Exit::data, "PNG of {} bytes: no memory for libpng", file.size());
  if (!png_header(job)) fail(Exit::data, "damaged PNG: {}", job.message);
  image.height = png_get_image_height(job.png, job.info);
  image.width = png_get_image_width(job.png, job.info);
  check_size(image.height, image.width, most_pixels);
  const bool laced = png_get_interlace_type(job.png, job.info) != PNG_INTERLACE_NONE;
  std::string rgba(static_cast<std::size_t>((laced ? image.height : 1) * image.width * 4), '\0');
  job.rgba = reinterpret_cast<unsigned char*>(rgba.data());
  image.bytes.resize(static_cast<std::size_t>(image.height * image.width * channels));
  if (!png_rows(job)) fail(Exit::data, "damaged PNG: {}", job.message);
  return image;
}

// Where output pixel i reads: two neighbours and the weight of the second.
struct Tap {
  i64 first = 0, second = 0;
  double weight = 0;
};
Tap tap(i64 i, i64 from, i64 to) {
  const double at = (static_cast<double>(i) + 0.5) * static_cast<double>(from) /
                        static_cast<double>(to) - 0.5;
  const double low = std::floor(at);
  const i64 first = static_cast<i64>(low);
  return {std::clamp<i64>(first, 0, from - 1), std::clamp<i64>(first + 1, 0, from - 1), at - low};
}

}  // namespace

Image decode_image(const std::string& file, i64 channels, i64 most_pixels) {
  COHORT_CHECK(channels == 1 || channels == 3, "channels of a picture");
  if (file.starts_with("\xff\xd8")) return decode_jpeg(file, channels, most_pixels);
  if (file.starts_with("\x89PNG")) return decode_png(file, channels, most_pixels);
  fail(Exit::data, "neither JPEG nor PNG by its first bytes ({} bytes)", file.size());
}

std::string encode_png(const Image& image) {
  COHORT_CHECK(static_cast<i64>(image.bytes.size()) == image.height * image.width * image.channels,
               "bytes of a picture");
  png_image png;
  std::memset(&png, 0, sizeof png);
  png.version = PNG_IMAGE_VERSION;
  png.height = static_cast<png_uint_32>(image.height);
  png.width = static_cast<png_uint_32>(image.width);
  png.format = image.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::string file(bytes, '\0');
  const char* pixels = image.bytes.data();
  if (png_image_write_to_memory(&png, file.data(), &bytes, 0, pixels, 0, nullptr) == 0) {
    fail(Exit::data, "picture of {} x {} pixels cannot be written as PNG: {}", image.height,
         image.width, png.message);
  }
  file.resize(bytes);
  return file;
}

Image resize_image(const Image& image, i64 height, i64 width) {
  check_size(height, width, kMostPixels);
  const i64 channels = image.channels;
  Image out{height, width, channels, {}};
  out.bytes.reserve(static_cast<std::size_t>(height * width * channels));
  const auto pixel = [&](i64 y, i64 x, i64 c) {
    const std::size_t at = static_cast<std::size_t>((y * image.width + x) * channels + c);
    return static_cast<double>(static_cast<unsigned char>(image.bytes[at]));
  };
  for (i64 y = 0; y < height; ++y) {
    const Tap v = tap(y, image.height, height);
    for (i64 x = 0; x < width; ++x) {
      const Tap h = tap(x, image.width, width);
      for (i64 c = 0; c < channels; ++c) {
        const double top = pixel(v.first, h.first, c) * (1 - h.weight) +
                           pixel(v.first, h.second, c) * h.weight;
        const double low = pixel(v.second, h.first, c) * (1 - h.weight) +
                           pixel(v.second, h.second, c) * h.weight;
        const double value = top * (1 - v.weight) + low * v.weight;
        out.bytes.push_back(static_cast<char>(static_cast<unsigned char>(value + 0.5)));
      }
    }
  }
  return out;
}

}  // namespace cohort
