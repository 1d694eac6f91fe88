// The collectives themselves, run as operations of a stream.
#pragma once
#include <nccl.h>

#include "nccl_group.h"
#include "numbers.h"

namespace hg {

enum class Collective { all_reduce, broadcast, all_gather, reduce_scatter };

struct CollectiveCall {
  Collective kind;
  const void* in;
  void* out;
  std::size_t count;  // of all_gather and reduce_scatter: of one rank's share
  ncclDataType_t type;
  ncclRedOp_t op = ncclSum;
  int root = 0;
};

const char* name_of(Collective kind);
bool number_of(ncclDataType_t type, Number* number);  // false: not one that the stand-in knows
// False: the group is broken. Dies when another rank is in another collective.
bool run_collective(GroupMember& member, const CollectiveCall& call);

}  // namespace hg
