#include "fields/idx.h"

#include <zlib.h>

#include <memory>
#include <vector>

#include "base/error.h"

namespace cohort {
namespace {

std::string read_plain_or_gzip(const std::string& path) {
  std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), &gzclose);
  if (!file) fail(Exit::data, "{}: cannot be opened: check the path and root", path);
  std::string text;
  std::vector<char> buffer(1 << 16);
  for (;;) {
    const int n = gzread(file.get(), buffer.data(), static_cast<unsigned>(buffer.size()));
    int code = Z_OK;
    const char* message = gzerror(file.get(), &code);
    if (n < 0 || (code != Z_OK && code != Z_STREAM_END)) {
      fail(Exit::data, "{}: damaged gzip file: {}", path, message);
    }
    if (n == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
}

i64 big_endian(const std::string& bytes, std::size_t at) {
  i64 value = 0;
  for (std::size_t i = at; i < at + 4; ++i) {
    value = value * 256 + static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

}  // namespace

IdxArray read_idx(const std::string& path) {
  const std::string bytes = read_plain_or_gzip(path);
  if (bytes.size() < 4 || bytes[0] != 0 || bytes[1] != 0 || bytes[2] != 8) {
    fail(Exit::data, "{}: expected an IDX file of unsigned bytes (00 00 08), got another head",
         path);
  }
  const std::size_t rank = static_cast<unsigned char>(bytes[3]);
  const std::size_t head = 4 + 4 * rank;
  if (rank == 0 || rank > 4 || bytes.size() < head) {
    fail(Exit::data, "{}: IDX of {} dimensions, expected 1 to 4 and a whole head", path, rank);
  }
  IdxArray array;
  for (std::size_t i = 0; i < rank; ++i) array.shape.push_back(big_endian(bytes, 4 + 4 * i));
  i64 elements = 1;
  for (i64 extent : array.shape) {
    if (__builtin_mul_overflow(elements, extent, &elements)) elements = -1;
    if (elements < 0) fail(Exit::data, "{}: IDX shape {} is too large", path,
                           to_string(array.shape));
  }
  if (elements != static_cast<i64>(bytes.size() - head)) {
    fail(Exit::data, "{}: IDX shape {} needs {} bytes, the file holds {}: truncated or altered",
         path, to_string(array.shape), elements, bytes.size() - head);
  }
  array.bytes = bytes.substr(head);
  return array;
}

}  // namespace cohort
