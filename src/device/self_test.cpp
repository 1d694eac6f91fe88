#include "device/self_test.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/text.h"

namespace cohort {
namespace {

using Numbers = std::vector<double>;

constexpr double kEnoughSeconds = 5e-3;
constexpr i64 kLeastUnits = 128, kMostUnits = 4096;

// A multiple of 1/8 in [-1, 1), exact in every type: sums of products of a few thousand of them are
// exact in float32, too. Different for each `seed`.
double number(i64 k, u64 seed) {
  u64 x = (static_cast<u64>(k) + 1) * 0x9e3779b97f4a7c15ull + seed * 0xbf58476d1ce4e5b9ull;
  x ^= x >> 29;
  x *= 0x94d049bb133111ebull;
  return static_cast<double>((x >> 40) % 16) / 8 - 1;
}

Numbers numbers(i64 n, u64 seed) {
  Numbers values(static_cast<std::size_t>(n));
  for (i64 k = 0; k < n; ++k) values[static_cast<std::size_t>(k)] = number(k, seed);
  return values;
}

struct Layer {
  Op op;
  Shape in, out;                  // of a row
  std::vector<Shape> params;
  i64 rows = 1;
};

Shape with_rows(i64 rows, const Shape& shape) {
  Shape full{rows};
  full.insert(full.end(), shape.begin(), shape.end());
  return full;
}

Graph graph_of(const Layer& layer) {
  Graph graph;
  graph.values.resize(2);
  graph.values[0].name = "in";
  graph.values[0].shape = layer.in;
  graph.values[1].name = "out";
  graph.values[1].shape = layer.out;
  Node node{"layer", layer.op, {0}, {1}, {}, "self-test"};
  for (const Shape& shape : layer.params) {
    node.params.push_back(static_cast<i64>(graph.params.size()));
    Param param;
    param.name = "p" + std::to_string(graph.params.size());
    param.shape = shape;
    graph.params.push_back(param);
  }
  graph.nodes.push_back(node);
  return graph;
}

// A layer in a device's memory.
class Run {
 public:
  Run(Device& device, const Layer& layer) : device_(device), graph_(graph_of(layer)) {
    call_.node = graph_.nodes.data();
    call_.graph = &graph_;
    call_.rows = call_.global_batch = layer.rows;
    Scalars scalars;
    scalars.valid = layer.rows;
    call_.scalars = static_cast<const Scalars*>(put(&scalars, sizeof scalars));
    const Decision decision;
    call_.decision = static_cast<const Decision*>(put(&decision, sizeof decision));
    Numbers rows(static_cast<std::size_t>(layer.rows));
    for (std::size_t k = 0; k < rows.size(); ++k) rows[k] = static_cast<double>(k);
    call_.position = upload(rows, DType::i32, {layer.rows});
    call_.row_id = upload(rows, DType::i64, {layer.rows});
    const Shape in = with_rows(layer.rows, layer.in), out = with_rows(layer.rows, layer.out);
    call_.in = {upload(numbers(count(in), 1), device.activation(), in)};
    call_.d_in = {upload(Numbers(static_cast<std::size_t>(count(in))), device.activation(), in)};
    call_.accumulate = {false};
    call_.lengths = {View{}};
    call_.out = {upload(Numbers(static_cast<std::size_t>(count(out))), device.activation(), out)};
    call_.d_out = {upload(numbers(count(out), 2), device.activation(), out)};
    for (std::size_t p = 0; p < layer.params.size(); ++p) {
      const Shape& shape = layer.params[p];
      call_.param.push_back(upload(numbers(count(shape), 3 + p), device.real(), shape));
      call_.d_param.push_back(
          upload(Numbers(static_cast<std::size_t>(count(shape))), device.real(), shape));
    }
    make_room();
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  std::unique_ptr<Kernel> compile(Pass pass) {
    call_.pass = pass;
    return device_.compile(call_);
  }
  // out, d_in, d_param.
  std::vector<Numbers> results() const {
    std::vector<Numbers> all{download(call_.out[0]), download(call_.d_in[0])};
    for (const View& view : call_.d_param) all.push_back(download(view));
    return all;
  }
  void finish() const {   // the device works in order: what was given before is done
    char byte = 0;
    device_.copy_out(&byte, call_.out[0].data, 1);
  }

 private:
  void* put(const void* host, i64 bytes) const {
    void* data = device_.allocate(std::max<i64>(bytes, 64));
    device_.copy_in(data, host, bytes);
    return data;
  }
  View upload(const Numbers& values, DType type, const Shape& shape) const {
    View view{nullptr, type, shape};
    const std::vector<char> raw = from_doubles(type, values);
    view.data = put(raw.data(), view.bytes());
    return view;
  }
  Numbers download(const View& view) const {
    std::vector<char> raw(static_cast<std::size_t>(view.bytes()));
    device_.copy_out(raw.data(), view.data, view.bytes());
    return to_doubles(view.dtype, raw.data(), view.count());
  }
  void make_room() {
    Call call = call_;
    const Needs forward = device_.needs(call);
    call.pass = Pass::backward;
    const Needs backward = device_.needs(call);
    const i64 scratch = std::max<i64>({forward.scratch, backward.scratch, 64});
    const i64 saved = std::max<i64>({forward.saved, backward.saved, 64});
    call_.saved = View{device_.allocate(saved), DType::u8, {saved}};
    call_.scratch = View{device_.allocate(scratch), DType::u8, {scratch}};
  }

  Device& device_;
  Graph graph_;
  Call call_;
};

std::vector<Numbers> run(Device& device, const Layer& layer) {
  Run bound(device, layer);
  bound.compile(Pass::forward)->run();
  bound.compile(Pass::backward)->run();
  return bound.results();
}

std::string name_of(std::size_t k) {
  if (k == 0) return "the result";
  return k == 1 ? "the gradient of the input" : fmt::format("the gradient of parameter {}", k - 2);
}

std::string compare(Device& device, const Layer& layer) {
  const std::vector<Numbers> found = run(device, layer);
  const std::unique_ptr<Device> reference = make_reference_device();
  const std::vector<Numbers> wanted = run(*reference, layer);
  const double tolerance = device.activation() == DType::f32 ? 1e-5 : 2e-2;   // of the largest
  for (std::size_t k = 0; k < wanted.size(); ++k) {
    double top = 1;
    for (double w : wanted[k]) top = std::max(top, std::abs(w));
    for (std::size_t i = 0; i < wanted[k].size(); ++i) {
      if (std::abs(found[k][i] - wanted[k][i]) <= tolerance * top) continue;
      return fmt::format("{} is {:.7g} at element {} of {}, expected {:.7g}", name_of(k), found[k][i],
                         i, wanted[k].size(), wanted[k][i]);
    }
  }
  return "";
}

Layer dense(i64 rows, i64 in, i64 units) {
  return {Dense{units, true, Activation::none}, {in}, {units}, {{units, in}, {units}}, rows};
}

std::string hex(unsigned char byte) { return fmt::format("0x{:02x}", byte); }

}  // namespace

MemoryTest test_memory(Device& device, i64 bytes) {
  MemoryTest test;
  const auto n = static_cast<std::size_t>(bytes);
  std::vector<unsigned char> host(n), back(n);
  char* first = static_cast<char*>(device.allocate(bytes));
  char* second = static_cast<char*>(device.allocate(bytes));
  for (const u64 mask : {u64{0}, ~u64{0}}) {   // every bit once as 0 and once as 1
    u64 x = 0x2545f4914f6cdd1dull;
    for (std::size_t k = 0; k < n; k += sizeof x) {
      x ^= x << 13, x ^= x >> 7, x ^= x << 17;
      const u64 word = x ^ mask;
      std::memcpy(host.data() + k, &word, std::min(sizeof word, n - k));
    }
    const double begin = seconds_now();
    device.copy_in(first, host.data(), bytes);
    const double there = seconds_now();
    device.copy(second, first, bytes);
    device.copy_out(back.data(), second, 1);   // the copy within the device is not timed
    const double copied = seconds_now();
    device.copy_out(back.data(), second, bytes);
    const double done = seconds_now();
    test.in = std::max(test.in, static_cast<double>(bytes) / std::max(1e-9, there - begin));
    test.out = std::max(test.out, static_cast<double>(bytes) / std::max(1e-9, done - copied));
    const auto differs = std::mismatch(host.begin(), host.end(), back.begin());
    if (differs.first == host.end()) continue;
    test.wrong = fmt::format("byte {} of {} is {} where {} was written", differs.first - host.begin(),
                             bytes, hex(*differs.second), hex(*differs.first));
    return test;
  }
  return test;
}

std::string test_product(Device& device) { return compare(device, dense(48, 96, 64)); }

std::string test_convolution(Device& device) {
  Conv2d op;
  op.filters = 16;
  op.kernel = 3;
  op.padding = 1;
  return compare(device, {op, {12, 12, 8}, {12, 12, 16}, {{16, 3, 3, 8}, {16}}, 4});
}

double product_rate(Device& device) {
  double rate = 0;
  for (i64 units = kLeastUnits; units <= kMostUnits; units *= 2) {
    Run bound(device, dense(units, units, units));
    const std::unique_ptr<Kernel> kernel = bound.compile(Pass::forward);
    double least = 1e9;
    for (int k = 0; k < 4; ++k) {   // the first prepares
      const double begin = seconds_now();
      kernel->run();
      bound.finish();
      if (k > 0) least = std::min(least, seconds_now() - begin);
    }
    rate = 2 * static_cast<double>(units) * static_cast<double>(units) * static_cast<double>(units) /
           std::max(1e-9, least);
    if (least > kEnoughSeconds) break;
  }
  return rate;
}

void finish_within(Device& device, const Slot& slot, const Limit& limit) {
  const double begin = seconds_now();
  device.send(slot);
  device.close(slot, slot.device, 0);
  device.wait(slot, [&] {
    limit.meanwhile();
    if (seconds_now() - begin > limit.seconds)
      fail(Exit::lost, "{} was not done after {:.0f} s", limit.what, limit.seconds);
  });
}

}  // namespace cohort
