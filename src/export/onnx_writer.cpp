#include "export/onnx_writer.h"

#include "base/error.h"

namespace cohort {
namespace {

// What systems can map: pages; Windows maps from multiples of 64 KiB, small tensors are read there.
constexpr i64 page = 4096, granularity = 65536, large_tensor = 1 << 20;

void describe(onnx::ValueInfoProto& info, const OnnxTensor& tensor) {
  info.set_name(tensor.name);
  auto& type = *info.mutable_type()->mutable_tensor_type();
  type.set_elem_type(static_cast<i32>(onnx_type(tensor.dtype)));
  type.mutable_shape();
  for (const std::string& dim : tensor.dims) {
    auto& d = *type.mutable_shape()->add_dim();
    if (dim[0] >= '0' && dim[0] <= '9')
      d.set_dim_value(std::stoll(dim));
    else
      d.set_dim_param(dim);
  }
}

void add_attribute(onnx::NodeProto& node, const OnnxAttribute& attribute) {
  onnx::AttributeProto& a = *node.add_attribute();
  a.set_name(attribute.name);
  if (const auto* whole = std::get_if<i64>(&attribute.value)) {
    a.set_type(onnx::AttributeProto::INT);
    a.set_i(*whole);
  } else if (const auto* real = std::get_if<float>(&attribute.value)) {
    a.set_type(onnx::AttributeProto::FLOAT);
    a.set_f(*real);
  } else {
    a.set_type(onnx::AttributeProto::INTS);
    for (i64 x : std::get<std::vector<i64>>(attribute.value)) a.add_ints(x);
  }
}

std::string bytes_of(DType dtype, const std::vector<double>& values) {
  const std::vector<char> bytes = from_doubles(dtype, values);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

std::string data_file_of(const OnnxOptions& options) { return options.file + ".data"; }

i64 onnx_type(DType dtype) {
  switch (dtype) {
    case DType::f32: return onnx::TensorProto::FLOAT;
    case DType::f64: return onnx::TensorProto::DOUBLE;
    case DType::i32: return onnx::TensorProto::INT32;
    case DType::i64: return onnx::TensorProto::INT64;
    case DType::u8: return onnx::TensorProto::UINT8;
    default: broken(__FILE__, __LINE__, "shard sets hold no such type");
  }
}

void OnnxWriter::take(const std::string& name) {
  if (!names_.insert(name).second)
    fail(Exit::usage, "ONNX model: '{}' is the name of two inputs or outputs; expected fields of "
         "other names, as models give prediction, logit, probability, logits, probabilities and a "
         "ragged field F brings F_lengths; rename the field in the shard recipe", name);
}

void OnnxWriter::input(const OnnxTensor& tensor) {
  take(tensor.name);
  describe(*graph_.add_input(), tensor);
  inputs.push_back(tensor);
}

void OnnxWriter::output(const OnnxTensor& tensor) {
  take(tensor.name);
  describe(*graph_.add_output(), tensor);
  outputs.push_back(tensor);
}

std::string OnnxWriter::unique(const std::string& base) {
  std::string name = base;
  for (int k = 1; !names_.insert(name).second; ++k) name = fmt::format("{}_{}", base, k);
  return name;
}

void OnnxWriter::node_as(const char* op, const Names& in, const Names& out,
                         const OnnxAttributes& attributes) {
  onnx::NodeProto& node = *graph_.add_node();
  node.set_op_type(op);
  for (const std::string& name : in) node.add_input(name);
  for (const std::string& name : out) {
    node.add_output(name);
    if (node.name().empty()) node.set_name(name);
  }
  for (const OnnxAttribute& attribute : attributes) add_attribute(node, attribute);
}

std::string OnnxWriter::node(const char* op, const Names& in, const std::string& name,
                             const OnnxAttributes& attributes) {
  const std::string out = unique(name);
  node_as(op, in, {out}, attributes);
  return out;
}

std::string OnnxWriter::constant(const std::string& name, DType dtype, const Shape& shape,
                                 std::string bytes) {
  COHORT_CHECK(static_cast<i64>(bytes.size()) == cohort::count(shape) * size_of(dtype),
               "the bytes of constant " + name);
  onnx::TensorProto& tensor = initializer(name, dtype, shape);
  tensor.set_raw_data(std::move(bytes));
  return tensor.name();
}

onnx::TensorProto& OnnxWriter::initializer(const std::string& name, DType dtype,
                                           const Shape& shape) {
  onnx::TensorProto& tensor = *graph_.add_initializer();
  tensor.set_name(unique(name));
  tensor.set_data_type(static_cast<i32>(onnx_type(dtype)));
  for (i64 extent : shape) tensor.add_dims(extent);
  return tensor;
}

void OnnxWriter::use_data_file(const std::string& file, i64 inline_tensor) {
  data_file_ = file;
  inline_tensor_ = inline_tensor;
}

std::string OnnxWriter::weight(const std::string& name, const Shape& shape, OnnxBytes make) {
  const i64 bytes = cohort::count(shape) * size_of(DType::f32);
  if (data_file_.empty() || bytes <= inline_tensor_) {
    std::string all;
    all.reserve(static_cast<std::size_t>(bytes));
    make([&](const void* data, i64 n) {
      all.append(static_cast<const char*>(data), static_cast<std::size_t>(n));
    });
    return constant(name, DType::f32, shape, std::move(all));
  }
  onnx::TensorProto& tensor = initializer(name, DType::f32, shape);
  const i64 end = external.empty() ? 0 : external.back().offset + external.back().bytes;
  const i64 unit = bytes < large_tensor ? page : granularity;
  const i64 offset = (end + unit - 1) / unit * unit;
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  const auto tell = [&](const char* key, const std::string& value) {
    auto& entry = *tensor.add_external_data();
    entry.set_key(key);
    entry.set_value(value);
  };
  tell("location", data_file_);
  tell("offset", std::to_string(offset));
  tell("length", std::to_string(bytes));
  external.push_back({tensor.name(), offset, bytes, std::move(make)});
  return tensor.name();
}

std::string OnnxWriter::floats(const std::string& name, const Shape& shape,
                               const std::vector<double>& values) {
  return constant(name, DType::f32, shape, bytes_of(DType::f32, values));
}

std::string OnnxWriter::integers(const std::vector<i64>& values) {
  std::string& name = small_[fmt::format("i{}", to_string(values))];
  if (!name.empty()) return name;
  const std::vector<double> wide(values.begin(), values.end());
  return name = constant("ints", DType::i64, {static_cast<i64>(values.size())},
                         bytes_of(DType::i64, wide));
}

std::string OnnxWriter::number(DType dtype, double value) {
  std::string& name = small_[fmt::format("{} {:a}", name_of(dtype), value)];
  if (!name.empty()) return name;
  return name = constant("number", dtype, {}, bytes_of(dtype, {value}));
}

}  // namespace cohort
