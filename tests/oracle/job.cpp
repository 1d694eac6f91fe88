#include "job.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace cohort::testing {
namespace {

PlanConfig plan_config(const Job& job, int rank) {
  PlanConfig config;
  config.global_batch = job_batch;
  config.micro_batches = job.micro_batches;
  // As the trainer does it: ranks differ in capacity. Odd ranks have a row that is always padding.
  const Range own = owned_positions(job_batch, rank, job.world);
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

std::unique_ptr<Reducer> reducer_for(const Job& job, Device& device, Communicator& ranks) {
  if (job.world == 1) return nullptr;
  if (job.reducer) return job.reducer(device, ranks);
  return std::make_unique<CollectiveQueue>(ranks.duplicate());
}

// One rank of a job.
struct Member {
  Member(const Job& job, Communicator& ranks)
      : family(job.family),
        graph(graph_from(family.model, family.fields, true)),
        config(plan_config(job, ranks.rank())),
        device(job.device(ranks.rank())),
        channel(ranks.duplicate()),
        reducer(reducer_for(job, *device, ranks)),
        replica(*device, graph, config) {}
  void load(i64 step) {
    batch = rows_of(graph, family.fields, job_batch,
                    {step, owned_positions(job_batch, config.rank, config.world),
                     config.rows * config.micro_batches});
    sparse = sparse_rows(graph, batch, *channel);
  }
  StepResult gradients() { return replica.plan().gradients(batch, sparse, reducer.get()); }
  StepResult train() {
    return replica.plan().step(batch, sparse, {1.0, config.rank == 0 ? 2.0 : 0.0}, reducer.get(),
                               0.01);
  }

  const Family& family;
  Graph graph;
  PlanConfig config;
  std::unique_ptr<Device> device;
  std::unique_ptr<Communicator> channel;
  std::unique_ptr<Reducer> reducer;
  Replica replica;   // its plan's recordings use the reducer
  Batch batch;
  std::vector<SparseRows> sparse;
};

double largest(const Values& gradients) {
  double value = 0;
  for (const auto& [name, elements] : gradients)
    for (double x : elements)
      if (name.find(".running") == std::string::npos) value = std::max(value, std::abs(x));
  return value;
}

// Every second weight up by one part in 2^23, the others down: all in one direction would only
// scale what a batch norm divides out again.
Values last_bit_moved(Values tensors) {
  for (auto& [name, elements] : tensors) {
    if (name.find(".running") != std::string::npos) continue;
    double part = std::ldexp(1.0, -23);
    for (double& x : elements) x *= 1 + (part = -part);
  }
  return tensors;
}

double distance(const Values& a, const Values& b) {
  double value = 0;
  for (const auto& [name, elements] : a)
    for (std::size_t k = 0; k < elements.size(); ++k)
      if (name.find(".running") == std::string::npos)
        value = std::max(value, std::abs(elements[k] - b.at(name)[k]));
  return value;
}

}  // namespace

Record train(const Job& job) {
  std::vector<Record> records(static_cast<std::size_t>(job.world));
  run_as_threads(job.world, [&](Communicator& ranks) {
    Member member(job, ranks);
    Record& record = records[static_cast<std::size_t>(ranks.rank())];
    for (i64 step = 0; step < job.steps; ++step) {
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

void expect_trained(const Job& job, const Record& record) {
  ASSERT_EQ(record.losses.size(), static_cast<std::size_t>(job.steps));
  const Graph graph = graph_from(job.family.model, job.family.fields, true);
  const auto device = make_reference_device();
  const Values start = Replica(*device, graph, plan_config(job, 0)).tensors();
  for (const Param& param : graph.params)
    EXPECT_NE(record.end.at(param.name), start.at(param.name)) << param.name;
}

Trail one_rank_trail(const Job& job) {
  Trail trail;
  run_as_threads(1, [&](Communicator& ranks) {
    Member member(job, ranks);
    for (i64 step = 0; step < job.steps; ++step) {
      member.load(step);
      trail.before.push_back(member.replica.tensors());
      trail.losses.push_back(member.gradients().loss);
      trail.gradients.push_back(member.replica.gradients());
      member.replica.restore(last_bit_moved(trail.before.back()));
      member.gradients();
      trail.round_off.push_back(distance(member.replica.gradients(), trail.gradients.back()));
      member.replica.restore(trail.before.back());
      member.train();
    }
  });
  return trail;
}

std::string follow(const Job& job, const Trail& trail, const Nearness& near) {
  std::string text;
  run_as_threads(job.world, [&](Communicator& ranks) {
    Member member(job, ranks);
    for (i64 step = 0; step < job.steps; ++step) {
      const auto s = static_cast<std::size_t>(step);
      member.load(step);
      member.replica.restore(trail.before[s]);
      const double loss = member.gradients().loss;
      const Values gradients = member.replica.gradients();
      if (ranks.rank() != 0) continue;
      std::string found = difference({loss}, {trail.losses[s]}, near.loss);
      const double scale = largest(trail.gradients[s]);
      const double allowed = std::max(near.gradient * scale, near.round_off * trail.round_off[s]);
      found += difference(gradients, trail.gradients[s], allowed / scale, scale);
      if (!found.empty()) text += "step " + std::to_string(step) + ": " + found + "\n";
    }
  });
  return text;
}

}  // namespace cohort::testing
