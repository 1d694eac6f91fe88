#include "train/replicas.h"

#include <gmock/gmock.h>

#include <mutex>

#include "base/error.h"

namespace cohort {
namespace {

using ::testing::HasSubstr;

// A rank's tensors on a device of its own.
struct Rank {
  Rank() {
    for (const auto& [name, elements] : {std::pair{"a.weight", 100}, {"b.weight", 7}, {"b.bias", 40}}) {
      View view{nullptr, DType::f32, {elements}};
      view.data = device->allocate(view.bytes());
      for (i64 k = 0; k < elements; ++k) view.as<float>()[k] = static_cast<float>(k);
      tensors.push_back({name, view});
    }
  }
  std::unique_ptr<Device> device = make_cpu_device({});
  std::vector<NamedView> tensors;
};

// What every rank is told when `odd` has another `tensor` before step 30; "" where nothing is.
std::string told(int world, int odd, std::size_t tensor, i64 most_bytes = 1 << 20) {
  std::vector<std::string> texts(static_cast<std::size_t>(world));
  run_as_threads(world, [&](Communicator& ranks) {
    Rank rank;
    ReplicaCheck check(*rank.device, rank.tensors, most_bytes);
    try {
      for (i64 step = 10; step <= 120; step += 10) {
        if (step == 30 && ranks.rank() == odd) ++rank.tensors[tensor].view.as<float>()[3];
        check.compare(ranks, step);
      }
      EXPECT_EQ(check.done(), 12);
    } catch (const Error& e) {
      EXPECT_EQ(e.exit_code(), Exit::lost);
      texts[static_cast<std::size_t>(ranks.rank())] = e.what();
    }
  });
  for (const std::string& text : texts) EXPECT_EQ(text, texts[0]);
  return texts[0];
}

TEST(Replicas, EqualOnesPass) {
  EXPECT_EQ(told(3, -1, 0), "");
  EXPECT_EQ(told(1, 0, 0), "");
}

TEST(Replicas, TheOddRankAndItsTensorAreNamed) {
  for (int odd : {0, 1, 2}) {
    const std::string text = told(3, odd, 1);
    EXPECT_THAT(text, HasSubstr("step 30: "));
    EXPECT_THAT(text, HasSubstr("rank " + std::to_string(odd) + " (host "));
    EXPECT_THAT(text, HasSubstr("in 1 of 3 tensors, 'b.weight' first"));
    EXPECT_THAT(text, HasSubstr("after step 20 "));
  }
}

TEST(Replicas, OfTwoNeitherIsKnownToBeRight) {
  EXPECT_THAT(told(2, 0, 0), HasSubstr("which of the two is right is not known"));
}

// A part at a time: found when its turn comes, whatever the part's size.
TEST(Replicas, PartsInTurnCoverAll) {
  for (i64 most : {1 << 20, 588, 587, 300, 100, 64})
    for (std::size_t tensor : {0, 1, 2})
      EXPECT_THAT(told(3, 1, tensor, most), HasSubstr("rank 1 (host ")) << most << " " << tensor;
  EXPECT_THAT(told(3, 1, 2, 300), HasSubstr("step 40: "));
}

}  // namespace
}  // namespace cohort
