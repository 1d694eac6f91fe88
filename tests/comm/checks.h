// Collectives with sums that are exact: the same checks for threads and MPI.
#pragma once
#include <string>
#include <vector>

#include "base/error.h"
#include "comm/communicator.h"

namespace cohort {

template <class T>
void check_reduce(Communicator& c, DType type, i64 n) {
  for (Reduce op : {Reduce::sum, Reduce::max, Reduce::min}) {
    std::vector<T> data(static_cast<std::size_t>(n));
    for (i64 i = 0; i < n; ++i) data[static_cast<std::size_t>(i)] = static_cast<T>(i % 17 + c.rank());
    c.all_reduce({data.data(), type, {n}}, op);
    for (i64 i = 0; i < n; ++i) {
      const i64 base = i % 17, N = c.size();
      const i64 want = op == Reduce::sum ? N * base + N * (N - 1) / 2
                                         : op == Reduce::max ? base + N - 1 : base;
      COHORT_CHECK(data[static_cast<std::size_t>(i)] == static_cast<T>(want), "all_reduce");
    }
  }
}

// Every pair, twice, so that a round of one pair may meet the end of another.
inline void check_exchange(Communicator& c) {
  for (int a = 0; a < c.size(); ++a) {
    for (int b = a + 1; b < c.size(); ++b) {
      for (i64 n : {0, 1, 1000}) {
        if (c.rank() != a && c.rank() != b) continue;
        const std::vector<i64> mine(static_cast<std::size_t>(n), 100 + c.rank());
        std::vector<i64> theirs(mine.size(), -1);
        const int peer = c.rank() == a ? b : a;
        c.exchange(mine.data(), theirs.data(), n * 8, peer);
        for (i64 value : theirs) COHORT_CHECK(value == 100 + peer, "exchange");
      }
    }
  }
}

inline void check_collectives(Communicator& c) {
  for (i64 n : {0, 1, 3, 1001}) {
    check_reduce<float>(c, DType::f32, n);
    check_reduce<double>(c, DType::f64, n);
    check_reduce<i64>(c, DType::i64, n);
  }
  for (int root = 0; root < c.size(); ++root) {
    i64 value = c.rank() == root ? 40 + root : -1;
    c.broadcast(&value, sizeof value, root);
    COHORT_CHECK(value == 40 + root, "broadcast");
  }
  const auto all = c.all_gather(std::string(static_cast<std::size_t>(c.rank()), 'x'));
  COHORT_CHECK(all.size() == static_cast<std::size_t>(c.size()), "all_gather count");
  for (std::size_t r = 0; r < all.size(); ++r) COHORT_CHECK(all[r].size() == r, "all_gather");
  check_exchange(c);
  auto copy = c.duplicate();
  check_reduce<float>(*copy, DType::f32, 7);
  c.barrier();
}

}  // namespace cohort
