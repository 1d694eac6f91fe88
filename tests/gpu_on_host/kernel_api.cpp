// What kernels call.
#include <atomic>

#include "executor.h"
#include "race.h"

namespace hg {
int barrier_vote(Vote vote, int predicate) {
  Executor* mine = active_executor;
  if (!current) die("__syncthreads outside a kernel");
  if (mine->alive() != mine->size()) {
    die("__syncthreads after other threads of the block have returned");
  }
  const unsigned generation = mine->generation();
  // Two tags in turn: with one a read before the barrier would seem ordered with a later write.
  race_release(mine->barrier_tag(generation));
  current->state = ThreadState::at_barrier;
  if (mine->everyone_waits(predicate)) mine->wake_all();
  mine->wait_here();
  race_acquire(mine->barrier_tag(generation));
  const int yes = mine->votes(generation);
  if (vote == Vote::count) return yes;
  return vote == Vote::any ? yes > 0 : yes == static_cast<int>(mine->size());
}

void barrier() { barrier_vote(Vote::any, 0); }

static const unsigned long long* meet(unsigned mask, unsigned long long value) {
  Executor* mine = active_executor;
  Thread* me = current;
  if (!me) die("warp operation outside a kernel");
  if (!(mask >> me->lane & 1)) {
    die("warp operation: own lane %u is missing from mask %08x", me->lane, mask);
  }
  Thread* first = mine->lanes_of(me);
  const unsigned lanes = mine->lanes_in(first);
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1)) continue;
    if (lane >= lanes || first[lane].state == ThreadState::done) {
      die("warp operation: mask %08x names lane %u, which %s", mask, lane,
          lane >= lanes ? "does not exist" : "has returned");
    }
  }
  Rendezvous& meeting = mine->warp_of(me).of(mask);
  const unsigned long long* values = meeting.arrive(me->lane, value);
  me->state = ThreadState::in_warp;
  if (meeting.complete()) mine->wake_lanes(first, mask);
  mine->wait_here();
  return values;
}

const unsigned long long* warp_exchange(unsigned mask, unsigned long long value) {
  return meet(mask, value);
}

void warp_sync(unsigned mask) {
  if (!current) die("__syncwarp outside a kernel");
  const void* tag = &active_executor->warp_of(current);
  race_release(tag);
  meet(mask, 0);
  race_acquire(tag);
}

void fence() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  static const char tag = 0;
  race_acquire(&tag);
  race_release(&tag);
}

void* dynamic_shared() { return active_executor->dynamic_memory(); }

void* static_shared(const void* key, std::size_t bytes, std::size_t alignment) {
  return active_executor->static_memory(key, bytes, alignment);
}
}  // namespace hg
