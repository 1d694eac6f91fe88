#include <nccl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "library_test.h"

namespace hg::library_test {
namespace {

constexpr int kRanks = 4;
constexpr std::size_t kCount = 100000;  // more than a chunk

// A rank that talks to the others on its own device and stream.
struct Rank {
  Rank(int rank, int size, ncclUniqueId id, int device) : rank(rank), size(size) {
    EXPECT_EQ(cudaSetDevice(device), cudaSuccess);
    stream = std::make_unique<Stream>();
    EXPECT_EQ(ncclCommInitRank(&comm, size, id, rank), ncclSuccess) << ncclGetLastError(nullptr);
  }
  ~Rank() {
    if (comm) ncclCommDestroy(comm);
  }
  ncclResult_t state() const {
    ncclResult_t error = ncclInternalError;
    EXPECT_EQ(ncclCommGetAsyncError(comm, &error), ncclSuccess);
    return error;
  }
  int rank, size;
  std::unique_ptr<Stream> stream;
  ncclComm_t comm = nullptr;
};

ncclUniqueId unique_id() {
  ncclUniqueId id;
  EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  return id;
}

void on_threads(const std::function<void(Rank&)>& body, int size = kRanks) {
  policy().devices = kRanks;
  const ncclUniqueId id = unique_id();
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r) {
    threads.emplace_back([&, r] {
      Rank rank(r, size, id, r);
      body(rank);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Does the work at once, or captured and launched twice.
void enqueue(const Rank& r, bool captured, const std::function<void()>& work) {
  if (!captured) return work();
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  ASSERT_EQ(cudaStreamBeginCapture(*r.stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  work();
  ASSERT_EQ(cudaStreamEndCapture(*r.stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(cudaGraphLaunch(exec, *r.stream), cudaSuccess);
    r.stream->wait();
  }
  ASSERT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

void expect_all_reduce(Rank& r, bool captured) {
  const Buffer<float> in(std::vector<float>(kCount, float(r.rank + 1))), out(kCount);
  enqueue(r, captured, [&] {
    EXPECT_EQ(ncclAllReduce(in.get(), out.get(), kCount, ncclFloat32, ncclAvg, r.comm, *r.stream),
              ncclSuccess);
  });
  r.stream->wait();
  EXPECT_EQ(out.values(), std::vector<float>(kCount, float(r.size + 1) / 2));
  EXPECT_EQ(r.state(), ncclSuccess);
}

TEST(GpuOnHostNccl, AllReduceOfThreads) {
  on_threads([](Rank& r) { expect_all_reduce(r, false); });
}

TEST(GpuOnHostNccl, AllReduceOfThreadsInAGraph) {
  on_threads([](Rank& r) { expect_all_reduce(r, true); });
}

template <class T>
void expect_reduced(Rank& r, ncclDataType_t type, ncclRedOp_t op, T expected) {
  const Buffer<T> data(std::vector<T>(10, T(float(2 * r.rank + 1))));  // 1 3 5 7
  ASSERT_EQ(ncclAllReduce(data.get(), data.get(), 10, type, op, r.comm, *r.stream), ncclSuccess);
  r.stream->wait();
  for (const T& value : data.values()) EXPECT_EQ(float(value), float(expected));
}

TEST(GpuOnHostNccl, EveryTypeAndOperation) {
  on_threads([](Rank& r) {
    expect_reduced<float>(r, ncclFloat32, ncclSum, 16);
    expect_reduced<double>(r, ncclFloat64, ncclMax, 7);
    expect_reduced<__nv_bfloat16>(r, ncclBfloat16, ncclAvg, __nv_bfloat16(4.0f));
    expect_reduced<__half>(r, ncclFloat16, ncclMin, __half(1.0f));
    expect_reduced<std::int32_t>(r, ncclInt32, ncclSum, 16);
    expect_reduced<std::int64_t>(r, ncclInt64, ncclMin, 1);
  });
}

TEST(GpuOnHostNccl, SumsHaveTheSameBitsEverywhere) {
  std::vector<float> results[kRanks];
  on_threads([&](Rank& r) {
    const Buffer<float> data(random_floats(kCount, unsigned(r.rank)));
    ncclAllReduce(data.get(), data.get(), kCount, ncclFloat32, ncclSum, r.comm, *r.stream);
    r.stream->wait();
    results[r.rank] = data.values();
  });
  for (int r = 1; r < kRanks; ++r) EXPECT_EQ(results[r], results[0]);
}

TEST(GpuOnHostNccl, BroadcastGatherAndScatterInOneGroup) {
  on_threads([](Rank& r) {
    const auto mine = float(r.rank);
    const Buffer<float> root(std::vector<float>{mine, mine + 10}), all(2 * kRanks);
    const Buffer<float> parts(std::vector<float>{mine, mine + 1, mine + 2, mine + 3}), part(1);
    ASSERT_EQ(ncclGroupStart(), ncclSuccess);
    EXPECT_EQ(ncclAllGather(root.get(), all.get(), 2, ncclFloat32, r.comm, *r.stream), ncclSuccess);
    EXPECT_EQ(ncclBroadcast(root.get(), root.get(), 2, ncclFloat32, 2, r.comm, *r.stream),
              ncclSuccess);
    EXPECT_EQ(
        ncclReduceScatter(parts.get(), part.get(), 1, ncclFloat32, ncclSum, r.comm, *r.stream),
        ncclSuccess);
    ASSERT_EQ(ncclGroupEnd(), ncclSuccess);
    r.stream->wait();
    EXPECT_EQ(all.values(), (std::vector<float>{0, 10, 1, 11, 2, 12, 3, 13}));
    EXPECT_EQ(root.values(), (std::vector<float>{2, 12}));
    EXPECT_EQ(part.values(), std::vector<float>{6 + 4 * mine});
  });
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
}

TEST(GpuOnHostNccl, ARankThatDoesNotWaitStillJoins) {
  std::atomic<bool> done{false};
  on_threads(
      [&](Rank& r) {
        const Buffer<float> data(std::vector<float>(4, 1.0f));
        ncclAllReduce(data.get(), data.get(), 4, ncclFloat32, ncclSum, r.comm, *r.stream);
        if (r.rank == 0) {
          r.stream->wait();
          done = true;
        }
        while (!done) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        EXPECT_EQ(data.values(), std::vector<float>(4, 2.0f));
      },
      2);
}

TEST(GpuOnHostNccl, AbortTurnsUpAtThePeers) {
  on_threads(
      [](Rank& r) {
        const Buffer<float> data(4);
        if (r.rank == 1) {
          EXPECT_EQ(ncclCommAbort(r.comm), ncclSuccess);
          r.comm = nullptr;
          return;
        }
        ncclAllReduce(data.get(), data.get(), 4, ncclFloat32, ncclSum, r.comm, *r.stream);
        r.stream->wait();
        EXPECT_EQ(r.state(), ncclRemoteError);
        EXPECT_STRNE(ncclGetLastError(r.comm), "");
        EXPECT_EQ(ncclAllReduce(data.get(), data.get(), 4, ncclFloat32, ncclSum, r.comm, *r.stream),
                  ncclRemoteError);
      },
      2);
}

TEST(GpuOnHostNccl, NotBlockingIsAnsweredBeforeItIsDone) {
  policy().devices = kRanks;
  const ncclUniqueId id = unique_id();
  auto body = [&](int rank) {
    ASSERT_EQ(cudaSetDevice(rank), cudaSuccess);
    const Stream stream;
    const Buffer<float> data(std::vector<float>(4, 1.0f));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t comm = nullptr;
    auto settle = [&] {
      ncclResult_t state = ncclInProgress;
      while (state == ncclInProgress) {
        ASSERT_EQ(ncclCommGetAsyncError(comm, &state), ncclSuccess);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      ASSERT_EQ(state, ncclSuccess);
    };
    auto reduce = [&] {
      return ncclAllReduce(data.get(), data.get(), 4, ncclFloat32, ncclSum, comm, stream);
    };
    ASSERT_EQ(ncclCommInitRankConfig(&comm, 2, id, rank, &config), ncclInProgress);
    settle();
    EXPECT_EQ(reduce(), ncclInProgress);
    EXPECT_EQ(reduce(), ncclInvalidArgument);
    settle();
    stream.wait();
    EXPECT_EQ(data.values(), std::vector<float>(4, 2.0f));
    EXPECT_EQ(ncclCommFinalize(comm), ncclInProgress);
    settle();
    EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess);
  };
  std::thread first(body, 0), second(body, 1);
  first.join();
  second.join();
}

TEST(GpuOnHostNccl, Refuses) {
  on_threads(
      [](Rank& r) {
        const Buffer<float> data(8);
        auto reduce = [&](const void* in, void* out, std::size_t count, ncclDataType_t type,
                          ncclRedOp_t op) {
          return ncclAllReduce(in, out, count, type, op, r.comm, *r.stream);
        };
        float* const p = data.get();
        float host[8];
        EXPECT_EQ(reduce(p, p, 9, ncclFloat32, ncclSum), ncclInvalidArgument);
        EXPECT_EQ(reduce(host, p, 8, ncclFloat32, ncclSum), ncclInvalidArgument);
        EXPECT_EQ(reduce(p, p + 1, 7, ncclFloat32, ncclSum), ncclInvalidArgument);
        EXPECT_EQ(reduce(p, p, 8, ncclFloat32, ncclProd), ncclInvalidArgument);
        EXPECT_EQ(reduce(p, p, 8, ncclInt8, ncclSum), ncclInvalidArgument);
        EXPECT_EQ(ncclBroadcast(p, p, 8, ncclFloat32, 1, r.comm, *r.stream), ncclInvalidArgument);
        void* handle = nullptr;
        EXPECT_EQ(ncclCommRegister(r.comm, host, sizeof host, &handle), ncclInvalidArgument);
        ASSERT_EQ(ncclCommRegister(r.comm, p, data.bytes(), &handle), ncclSuccess);
        EXPECT_EQ(ncclCommDeregister(r.comm, handle), ncclSuccess);
        cudaSetDevice(1);
        const Stream elsewhere;
        EXPECT_EQ(ncclAllReduce(p, p, 8, ncclFloat32, ncclSum, r.comm, elsewhere),
                  ncclInvalidArgument);
      },
      1);
  ncclConfig_t config{};
  ncclComm_t comm;
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 1, ncclUniqueId{}, 0, &config), ncclInvalidArgument);
  EXPECT_EQ(ncclCommInitRank(&comm, 1, ncclUniqueId{}, 1), ncclInvalidArgument);
  EXPECT_EQ(ncclCommInitRank(&comm, 1, ncclUniqueId{}, 0), ncclSystemError);
}

TEST(GpuOnHostNccl, RefusesTwoRanksOnADevice) {
  const ncclUniqueId id = unique_id();
  auto body = [&](int rank) {
    ncclComm_t comm = nullptr;
    EXPECT_NE(ncclCommInitRank(&comm, 2, id, rank), ncclSuccess);
    EXPECT_NE(std::string(ncclGetLastError(nullptr)).find("duplicate GPU"), std::string::npos);
  };
  std::thread first(body, 0), second(body, 1);
  first.join();
  second.join();
}

TEST(GpuOnHostNcclDeathTest, DifferentCollectivesAreNamed) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_DEATH(on_threads(
                   [](Rank& r) {
                     const Buffer<float> data(8);
                     const std::size_t count = r.rank == 0 ? 8 : 7;
                     ncclAllReduce(data.get(), data.get(), count, ncclFloat32, ncclSum, r.comm,
                                   *r.stream);
                     r.stream->wait();
                   },
                   2),
               "ncclAllReduce\\(count [78].*ncclAllReduce\\(count [78]");
}

// Ranks as processes: the running test once more in three processes that know their part by an
// environment variable, "rank id".
constexpr const char* kPart = "GPU_ON_HOST_RANK";

int run_processes() {
  const ncclUniqueId id = unique_id();
  const auto* const info = ::testing::UnitTest::GetInstance()->current_test_info();
  const std::string filter =
      std::string("--gtest_filter=") + info->test_suite_name() + "." + info->name();
  std::vector<pid_t> processes;
  for (int r = 0; r < 3; ++r) {
    const std::string variable = std::string(kPart) + "=" + std::to_string(r) + " " + id.internal;
    std::vector<char*> environment;
    for (char** e = environ; *e; ++e) environment.push_back(*e);
    environment.push_back(const_cast<char*>(variable.c_str()));
    environment.push_back(nullptr);
    const char* arguments[] = {"rank", filter.c_str(), "--gtest_output=", nullptr};
    const pid_t process = fork();
    if (process == 0) {
      execve("/proc/self/exe", const_cast<char**>(arguments), environment.data());
      _exit(127);
    }
    processes.push_back(process);
  }
  int good = 0;
  for (pid_t process : processes) {
    int status = 1;
    waitpid(process, &status, 0);
    good += status == 0;
  }
  return good;
}

void on_processes(const std::function<void(Rank&)>& body) {
  const char* const part = std::getenv(kPart);
  if (!part) {
    EXPECT_EQ(run_processes(), 3);
    return;
  }
  ncclUniqueId id{};
  std::strncpy(id.internal, part + 2, sizeof id.internal - 1);
  ASSERT_EQ(setenv("NCCL_HOSTID", std::string(1, part[0]).c_str(), 1), 0);  // they share a device
  Rank rank(part[0] - '0', 3, id, 0);
  body(rank);
}

TEST(GpuOnHostNccl, AllReduceOfProcesses) {
  on_processes([](Rank& r) { expect_all_reduce(r, false); });
}

TEST(GpuOnHostNccl, AllReduceOfProcessesInAGraph) {
  on_processes([](Rank& r) { expect_all_reduce(r, true); });
}

TEST(GpuOnHostNccl, ADeadProcessTurnsUpAtThePeers) {
  on_processes([](Rank& r) {
    if (r.rank == 1) _exit(0);
    const Buffer<float> data(4);
    ncclAllReduce(data.get(), data.get(), 4, ncclFloat32, ncclSum, r.comm, *r.stream);
    r.stream->wait();
    EXPECT_EQ(r.state(), ncclRemoteError);
    EXPECT_NE(std::string(ncclGetLastError(r.comm)).find("rank 1 "), std::string::npos);
  });
}

}  // namespace
}  // namespace hg::library_test
