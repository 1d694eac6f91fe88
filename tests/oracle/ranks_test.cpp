// The answer does not depend on how many ranks share the batch, nor on micro batches.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>

#include "families.h"

namespace cohort::testing {
namespace {

constexpr i64 global_batch = 13, total_steps = 50;
constexpr int worlds[] = {2, 3, 4, 5, 7, 8};

struct Job {
  Family family;
  int world = 1;
  i64 micro_batches = 1;
  std::function<std::unique_ptr<Device>()> device;
};

PlanConfig plan_config(const Job& job, int rank) {
  PlanConfig config;
  config.global_batch = global_batch;
  config.micro_batches = job.micro_batches;
  // As the trainer does it: ranks differ in capacity. Odd ranks have a row that is always padding.
  const Range own = owned_positions(global_batch, rank, job.world);
  const i64 share = own.end - own.begin + rank % 2;
  config.rows = (share + job.micro_batches - 1) / job.micro_batches;
  config.train = true;
  config.seed = 5;
  config.rank = rank;
  config.world = job.world;
  config.bucket_bytes = 200;  // several buckets
  config.optimizer = job.family.optimizer;
  return config;
}

// One rank of a job.
struct Member {
  Member(const Job& job, Communicator& ranks)
      : family(job.family),
        graph(graph_from(family.model, family.fields, true)),
        config(plan_config(job, ranks.rank())),
        device(job.device()),
        replica(*device, graph, config),
        channel(ranks.duplicate()),
        queue(job.world > 1 ? std::make_unique<CollectiveQueue>(ranks.duplicate()) : nullptr) {}
  void load(i64 step) {
    batch = rows_of(graph, family.fields, global_batch,
                    {step, owned_positions(global_batch, config.rank, config.world),
                     config.rows * config.micro_batches});
    sparse = sparse_rows(graph, batch, *channel);
  }
  StepResult gradients() { return replica.plan().gradients(batch, sparse, queue.get()); }
  StepResult train() {
    return replica.plan().step(batch, sparse, {1.0, config.rank == 0 ? 2.0 : 0.0}, queue.get(),
                               0.01);
  }

  const Family& family;
  Graph graph;
  PlanConfig config;
  std::unique_ptr<Device> device;
  Replica replica;
  std::unique_ptr<Communicator> channel;
  std::unique_ptr<CollectiveQueue> queue;
  Batch batch;
  std::vector<SparseRows> sparse;
};

struct Record {
  std::vector<double> losses, weights, norms;
  std::vector<Values> gradients;  // of every fifth step
  Values end;
};

Record train(const Job& job) {
  std::vector<Record> records(static_cast<std::size_t>(job.world));
  run_as_threads(job.world, [&](Communicator& ranks) {
    Member member(job, ranks);
    Record& record = records[static_cast<std::size_t>(ranks.rank())];
    for (i64 step = 0; step < total_steps; ++step) {
      member.load(step);
      if (step % 5 < 2) {
        member.gradients();
        record.gradients.push_back(member.replica.gradients());
      }
      const StepResult result = member.train();
      if (result.skipped) throw std::runtime_error("a step was skipped");
      if (result.requests != std::vector<double>{static_cast<double>(job.world), 2.0})
        throw std::runtime_error("the requests are not their sums");
      record.losses.push_back(result.loss);
      record.weights.push_back(result.weight);
      record.norms.push_back(result.grad_norm);
    }
    record.end = member.replica.tensors();
  });
  // Every rank has come to the same bits.
  for (const Record& record : records) {
    EXPECT_EQ(record.losses, records[0].losses);
    EXPECT_EQ(record.end, records[0].end);
    EXPECT_EQ(record.gradients, records[0].gradients);
  }
  return records[0];
}

void expect_same(const Record& got, const Record& expected, double tolerance) {
  EXPECT_EQ(got.weights, expected.weights);
  EXPECT_EQ(difference(got.losses, expected.losses, tolerance, 1), "");
  EXPECT_EQ(difference(got.norms, expected.norms, tolerance, 1), "");
  ASSERT_EQ(got.gradients.size(), expected.gradients.size());
  for (std::size_t k = 0; k < got.gradients.size(); ++k)
    EXPECT_EQ(difference(got.gradients[k], expected.gradients[k], tolerance, 1), "");
  EXPECT_EQ(difference(got.end, expected.end, tolerance, 1), "");
}

// What the comparison rests on: the run learned something, and every weight moved.
void expect_trained(const Job& job, const Record& record) {
  ASSERT_EQ(record.losses.size(), static_cast<std::size_t>(total_steps));
  const Graph graph = graph_from(job.family.model, job.family.fields, true);
  const auto device = make_reference_device();
  const Values start = Replica(*device, graph, plan_config(job, 0)).tensors();
  for (const Param& param : graph.params)
    EXPECT_NE(record.end.at(param.name), start.at(param.name)) << param.name;
}

class RanksTest : public ::testing::TestWithParam<std::string> {};

TEST_P(RanksTest, ReferenceDeviceAgreesWithOneRank) {
  Job job{with_batch_norm(GetParam()), 1, 1, make_reference_device};
  const Record one = train(job);
  expect_trained(job, one);
  for (int world : worlds) {
    SCOPED_TRACE(std::to_string(world) + " ranks");
    job.world = world;
    expect_same(train(job), one, 1e-9);
  }
}

TEST_P(RanksTest, MicroBatchesAgreeWithOne) {
  Job job{without_batch_norm(GetParam()), 1, 1, make_reference_device};
  const Record one = train(job);
  for (int world : {1, 3}) {
    for (i64 micro_batches : {2, 3}) {
      SCOPED_TRACE(std::to_string(world) + " ranks, micro batches " +
                   std::to_string(micro_batches));
      job.world = world;
      job.micro_batches = micro_batches;
      expect_same(train(job), one, 1e-9);
    }
  }
}

// The state before every step of the one-rank run, and what that step found.
struct Trail {
  std::vector<Values> before, gradients;
  std::vector<double> losses;
};

Trail one_rank_trail(const Job& job) {
  Trail trail;
  run_as_threads(1, [&](Communicator& ranks) {
    Member member(job, ranks);
    for (i64 step = 0; step < total_steps; ++step) {
      member.load(step);
      trail.before.push_back(member.replica.tensors());
      trail.losses.push_back(member.gradients().loss);
      trail.gradients.push_back(member.replica.gradients());
      member.train();
    }
  });
  return trail;
}

// The largest gradient of the step: an element that is the small sum of large terms (a bias) has
// their round-off, not its own.
double largest(const Values& gradients) {
  double value = 0;
  for (const auto& [name, elements] : gradients)
    for (double x : elements)
      if (name.find(".running") == std::string::npos) value = std::max(value, std::abs(x));
  return value;
}

// 50 steps of the real engine, each begun from the one-rank run's state. Returns what differs.
std::string follow(const Job& job, const Trail& trail) {
  std::string text;
  run_as_threads(job.world, [&](Communicator& ranks) {
    Member member(job, ranks);
    for (i64 step = 0; step < total_steps; ++step) {
      const auto s = static_cast<std::size_t>(step);
      member.load(step);
      member.replica.restore(trail.before[s]);
      const double loss = member.gradients().loss;
      const Values gradients = member.replica.gradients();
      if (ranks.rank() != 0) continue;
      std::string found = difference({loss}, {trail.losses[s]}, 1e-6);
      found += difference(gradients, trail.gradients[s], 1e-5, largest(trail.gradients[s]));
      if (!found.empty()) text += "step " + std::to_string(step) + ": " + found + "\n";
    }
  });
  return text;
}

TEST_P(RanksTest, CpuDeviceFollowsOneRank) {
  for (bool norm : {true, false}) {
    Job job{norm ? with_batch_norm(GetParam()) : without_batch_norm(GetParam()), 1, 1,
            [] { return make_cpu_device({}); }};
    const Trail trail = one_rank_trail(job);
    for (int world : worlds) {
      SCOPED_TRACE(std::to_string(world) + (norm ? " ranks, batch norm" : " ranks"));
      job.world = world;
      EXPECT_EQ(follow(job, trail), "");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, RanksTest, ::testing::ValuesIn(family_names()),
                         [](const auto& test) { return test_name(test.param); });

}  // namespace
}  // namespace cohort::testing
