#include "nccl_collectives.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace hg {
namespace {

std::string describe(const Announcement& a) {
  std::string text = std::string(name_of(Collective(a.kind))) + "(count " +
                     std::to_string(a.count) + ", type " + std::to_string(a.type);
  if (a.op >= 0) text += ", op " + std::to_string(a.op);
  if (a.root >= 0) text += ", root " + std::to_string(a.root);
  return text + ")";
}

// All announce the same collective; a real run would hang or mix up data.
bool agree(GroupMember& member, const CollectiveCall& call) {
  SharedGroup& shared = member.shared();
  const bool reduces =
      call.kind == Collective::all_reduce || call.kind == Collective::reduce_scatter;
  const Announcement mine{int(call.kind), int(call.type), reduces ? int(call.op) : -1,
                          call.kind == Collective::broadcast ? call.root : -1, call.count};
  shared.announcement[member.rank()] = mine;
  if (!member.meet()) return false;
  for (int r = 0; r < member.size(); ++r) {
    const Announcement& other = shared.announcement[r];
    if (other == mine) continue;
    die("NCCL: rank %d calls %s, rank %d calls %s: a real run would hang", member.rank(),
        describe(mine).c_str(), r, describe(other).c_str());
  }
  return member.meet();
}

template <class T>
T combine(T a, T b, ncclRedOp_t op) {
  switch (op) {
    case ncclMax:
      return std::max(a, b);
    case ncclMin:
      return std::min(a, b);
    default:
      return a + b;
  }
}

template <class T>
void reduce_plain(const GroupMember& member, T* out, std::size_t count, ncclRedOp_t op) {
  for (std::size_t i = 0; i < count; ++i) {
    auto value = [&](int r) { return reinterpret_cast<const T*>(member.shared().slot[r])[i]; };
    T result = value(0);
    for (int r = 1; r < member.size(); ++r) result = combine(result, value(r), op);
    out[i] = op == ncclAvg ? result / T(member.size()) : result;
  }
}

// Rounded after each addition, as a ring does that passes 16-bit numbers on.
void reduce_short(const GroupMember& member, Number type, void* out, std::size_t count,
                  ncclRedOp_t op) {
  for (std::size_t i = 0; i < count; ++i) {
    store(type, out, i, load(type, member.shared().slot[0], i));
    for (int r = 1; r < member.size(); ++r) {
      store(type, out, i, combine(load(type, out, i), load(type, member.shared().slot[r], i), op));
    }
    if (op == ncclAvg) store(type, out, i, load(type, out, i) / float(member.size()));
  }
}

// In the order of the ranks: the same bits everywhere.
void reduce(const GroupMember& member, Number type, void* out, std::size_t count, ncclRedOp_t op) {
  switch (type) {
    case Number::f32:
      return reduce_plain(member, static_cast<float*>(out), count, op);
    case Number::f64:
      return reduce_plain(member, static_cast<double*>(out), count, op);
    case Number::i32:
      return reduce_plain(member, static_cast<std::int32_t*>(out), count, op);
    case Number::i64:
      return reduce_plain(member, static_cast<std::int64_t*>(out), count, op);
    default:
      return reduce_short(member, type, out, count, op);
  }
}

// Chunk by chunk: give(rank's slot, first element, elements), all meet, take(first, elements), all
// meet.
template <class Give, class Take>
bool exchange(GroupMember& member, std::size_t count, std::size_t width, Give give, Take take) {
  const std::size_t most = kChunk / width;
  for (std::size_t first = 0; first < count; first += most) {
    const std::size_t elements = std::min(most, count - first);
    give(member.shared().slot[member.rank()], first, elements);
    if (!member.meet()) return false;
    take(first, elements);
    if (!member.meet()) return false;
  }
  return true;
}

}  // namespace

const char* name_of(Collective kind) {
  switch (kind) {
    case Collective::all_reduce:
      return "ncclAllReduce";
    case Collective::broadcast:
      return "ncclBroadcast";
    case Collective::all_gather:
      return "ncclAllGather";
    default:
      return "ncclReduceScatter";
  }
}

bool number_of(ncclDataType_t type, Number* number) {
  switch (type) {
    case ncclFloat32:
      *number = Number::f32;
      return true;
    case ncclFloat64:
      *number = Number::f64;
      return true;
    case ncclBfloat16:
      *number = Number::bf16;
      return true;
    case ncclFloat16:
      *number = Number::f16;
      return true;
    case ncclInt32:
      *number = Number::i32;
      return true;
    case ncclInt64:
      *number = Number::i64;
      return true;
    default:
      return false;
  }
}

bool run_collective(GroupMember& member, const CollectiveCall& call) {
  if (policy().wrong == "hang") std::this_thread::sleep_for(std::chrono::hours(1));
  if (!agree(member, call)) return false;
  Number type = Number::f32;
  number_of(call.type, &type);
  const std::size_t width = bytes_of(type);
  const auto* const in = static_cast<const char*>(call.in);
  auto* const out = static_cast<char*>(call.out);
  SharedGroup& shared = member.shared();
  const std::size_t share = call.count * width;
  auto give_from = [&](const char* from) {
    return [=](char* slot, std::size_t first, std::size_t elements) {
      std::memcpy(slot, from + first * width, elements * width);
    };
  };
  switch (call.kind) {
    case Collective::all_reduce:
      return exchange(member, call.count, width, give_from(in), [&](auto first, auto elements) {
        reduce(member, type, out + first * width, elements, call.op);
        if (policy().wrong == "sum" && type == Number::f32 && elements > 1)
          store(type, out + first * width, 1, 0.5f);
      });
    case Collective::all_gather:
      return exchange(member, call.count, width, give_from(in), [&](auto first, auto elements) {
        for (int r = 0; r < member.size(); ++r) {
          char* const to = out + std::size_t(r) * share + first * width;
          std::memcpy(to, shared.slot[r], elements * width);
        }
      });
    case Collective::broadcast:
      return exchange(
          member, call.count, width,
          [&](char* slot, auto first, auto elements) {
            if (member.rank() == call.root) give_from(in)(slot, first, elements);
          },
          [&](auto first, auto elements) {
            std::memcpy(out + first * width, shared.slot[call.root], elements * width);
          });
    default:
      for (int r = 0; r < member.size(); ++r) {
        const bool good =
            exchange(member, call.count, width, give_from(in + std::size_t(r) * share),
                     [&](auto first, auto elements) {
                       if (r != member.rank()) return;
                       reduce(member, type, out + first * width, elements, call.op);
                     });
        if (!good) return false;
      }
      return true;
  }
}

}  // namespace hg
