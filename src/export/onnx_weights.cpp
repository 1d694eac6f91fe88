#include "export/onnx_weights.h"

#include <onnx/checker.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "base/error.h"
#include "base/text.h"

namespace cohort {
namespace {

constexpr i64 kPiece = 1 << 20;   // elements

float number_at(const View& view, i64 index) {
  if (view.dtype == DType::f32) return view.as<float>()[index];
  if (view.dtype == DType::f64) return static_cast<float>(view.as<double>()[index]);
  const char* at = view.as<char>() + index * size_of(view.dtype);
  return static_cast<float>(to_doubles(view.dtype, at, 1)[0]);
}

void put_zeros(const OnnxSink& sink, i64 bytes) {
  const std::vector<char> zeros(static_cast<std::size_t>(std::min(bytes, kPiece)), '\0');
  for (i64 at = 0; at < bytes; at += kPiece) sink(zeros.data(), std::min(kPiece, bytes - at));
}

// What the model says of a weight that stands in the data file.
struct Place {
  std::string location;
  i64 offset = -1, length = -1;
};

Place place_of(const onnx::TensorProto& tensor) {
  Place place;
  for (const auto& entry : tensor.external_data()) {
    if (entry.key() == "location") place.location = entry.value();
    if (entry.key() == "offset") place.offset = parse_i64(entry.value()).value_or(-1);
    if (entry.key() == "length") place.length = parse_i64(entry.value()).value_or(-1);
  }
  return place;
}

void check_places(const onnx::GraphProto& graph, const std::string& path) {
  const std::string folder = parent_of(path) + "/";
  std::map<std::string, i64> ends;   // of the weights in each data file
  for (const onnx::TensorProto& tensor : graph.initializer()) {
    if (tensor.data_location() != onnx::TensorProto::EXTERNAL) continue;
    const Place place = place_of(tensor);
    i64 bytes = size_of(DType::f32);
    for (const auto extent : tensor.dims()) bytes *= extent;
    i64& end = ends[place.location];
    if (place.offset < end || place.length != bytes)
      fail(Exit::storage, "{}: weight '{}': expected {} bytes at {} or behind in {}, got {} at {}; "
           "export again", path, tensor.name(), bytes, end, place.location, place.length,
           place.offset);
    end = place.offset + place.length;
  }
  for (const auto& [location, end] : ends) {
    const i64 size = real_files().size(folder + location);
    if (size != end)
      fail(Exit::storage, "{}: expected {} bytes of weights, as {} says, got {}; export again",
           folder + location, end, path, size);
  }
}

}  // namespace

OnnxBytes floats_of(const View& view, i64 zeros) {
  return [view, zeros](const OnnxSink& sink) {
    const i64 all = view.count();
    for (i64 at = 0; at < all; at += kPiece) {
      const i64 n = std::min(kPiece, all - at);
      const char* from = view.as<char>() + at * size_of(view.dtype);
      if (view.dtype == DType::f32) {
        sink(from, n * size_of(DType::f32));
      } else {
        const std::vector<char> narrow =
            from_doubles(DType::f32, to_doubles(view.dtype, from, n));
        sink(narrow.data(), static_cast<i64>(narrow.size()));
      }
    }
    put_zeros(sink, zeros * size_of(DType::f32));
  };
}

OnnxBytes floats_of(const View& view, i64 count, std::function<i64(i64)> from) {
  return [view, count, from = std::move(from)](const OnnxSink& sink) {
    std::vector<float> piece(static_cast<std::size_t>(std::min(count, kPiece)));
    for (i64 at = 0; at < count; at += kPiece) {
      const i64 n = std::min(kPiece, count - at);
      for (i64 i = 0; i < n; ++i) {
        const i64 source = from(at + i);
        piece[static_cast<std::size_t>(i)] = source < 0 ? 0 : number_at(view, source);
      }
      sink(piece.data(), n * size_of(DType::f32));
    }
  };
}

void write_onnx_data(FileWriter& out, const OnnxModel& model) {
  i64 at = 0;
  const OnnxSink write = [&](const void* data, i64 bytes) {
    out.write(data, bytes);
    at += bytes;
  };
  for (const OnnxExternal& weight : model.external) {
    put_zeros(write, weight.offset - at);
    weight.make(write);
    COHORT_CHECK(at == weight.offset + weight.bytes, "the bytes of weight " + weight.name);
  }
}

void check_onnx_file(const std::string& path) {
  try {
    onnx::checker::check_model(path);
  } catch (const std::exception& e) {
    fail(Exit::storage, "{}: ONNX's checker refuses it: {}; export again", path, e.what());
  }
  onnx::ModelProto model;
  std::ifstream file(path, std::ios::binary);
  if (!model.ParseFromIstream(&file))
    fail(Exit::storage, "{}: not an ONNX model; export again", path);
  check_places(model.graph(), path);
}

}  // namespace cohort
