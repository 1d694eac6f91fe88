#include "train/replicas.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"

namespace cohort {
namespace {

constexpr i64 piece = i64{4} << 20;   // bytes copied from the device at a time

std::string bytes_of(u64 value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// Ranks whose bytes are not those that most ranks have; the first rank's count where it is a draw.
std::vector<std::size_t> odd_ones(const std::vector<std::string>& all) {
  std::map<std::string, std::size_t> votes;
  for (const std::string& one : all) ++votes[one];
  std::string usual = all[0];
  for (const std::string& one : all)
    if (votes[one] > votes[usual]) usual = one;
  std::vector<std::size_t> odd;
  for (std::size_t r = 0; r < all.size(); ++r)
    if (all[r] != usual) odd.push_back(r);
  return odd;
}

}  // namespace

ReplicaCheck::ReplicaCheck(Device& device, std::vector<NamedView> tensors, i64 most_bytes)
    : device_(device), tensors_(std::move(tensors)), most_(std::max<i64>(most_bytes, 1)) {
  for (const NamedView& tensor : tensors_) total_ += tensor.view.bytes();
  buffer_.resize(static_cast<std::size_t>(std::min({piece, most_, std::max<i64>(total_, 1)})));
}

// Of bytes [begin, end) of all tensors one after another.
u64 ReplicaCheck::hash_part(i64 begin, i64 end) {
  Hasher hasher;
  i64 first = 0;
  for (const NamedView& tensor : tensors_) {
    const i64 from = std::max(begin - first, i64{0});
    const i64 to = std::min(end - first, tensor.view.bytes());
    for (i64 at = from; at < to; at += static_cast<i64>(buffer_.size())) {
      const i64 bytes = std::min<i64>(static_cast<i64>(buffer_.size()), to - at);
      device_.copy_out(buffer_.data(), tensor.view.as<char>() + at, bytes);
      hasher.add(buffer_.data(), static_cast<std::size_t>(bytes));
    }
    first += tensor.view.bytes();
  }
  return hasher.value();
}

void ReplicaCheck::compare(Communicator& ranks, i64 step) {
  const double before = seconds_now();
  if (at_ == 0) round_ = step;
  const i64 end = std::min(at_ + most_, total_);
  const std::vector<std::string> all = ranks.all_gather(bytes_of(hash_part(at_, end)));
  if (!odd_ones(all).empty()) blame(ranks, step);
  at_ = end == total_ ? 0 : end;
  if (at_ == 0) known_equal_ = round_;
  ++done_;
  seconds_ += seconds_now() - before;
}

void ReplicaCheck::blame(Communicator& ranks, i64 step) {
  std::string mine;
  i64 at = 0;
  for (const NamedView& tensor : tensors_) {
    mine += bytes_of(hash_part(at, at + tensor.view.bytes()));
    at += tensor.view.bytes();
  }
  const std::vector<std::string> hosts = ranks.all_gather(host_name());
  const std::vector<std::string> all = ranks.all_gather(mine);
  std::vector<std::string> texts;
  for (std::size_t r : odd_ones(all)) {
    std::string first;
    i64 differ = 0;
    const std::string& usual = r == 0 ? all[1] : all[0];
    for (std::size_t t = 0; t < tensors_.size(); ++t) {
      if (all[r].compare(t * 8, 8, usual, t * 8, 8) == 0) continue;
      if (differ++ == 0) first = tensors_[t].name;
    }
    texts.push_back(fmt::format("rank {} (host {}) in {} of {} tensors, '{}' first", r, hosts[r],
                                differ, tensors_.size(), first));
  }
  fail(Exit::lost, "step {}: the ranks' weights and optimizer slots are no longer equal: {}, against "
       "{}; a fault of that host's memory or device, or a defect of this program. Checkpoints after "
       "step {} may hold such numbers: remove them, then --resume, without that host if it comes "
       "again", step, join(texts, "; "),
       all.size() == 2 ? fmt::format("rank 0 (host {}), and which of the two is right is not known",
                                     hosts[0])
                       : "most ranks", known_equal_);
}

}  // namespace cohort
