#include "data/lanes.h"

#include <algorithm>

#include "base/error.h"
#include "base/rng.h"

namespace cohort {
namespace {

struct Piece {
  i64 block = 0, first = 0, rows = 0;
};
struct Lane {
  std::vector<Piece> pieces;
  std::vector<i64> window_start;  // row of the lane at which each window begins, then its size
  i64 cached = -1;                // the window held in `rows`
  std::vector<RowRef> rows;
};

}  // namespace

Range owned_positions(i64 global_batch, int rank, int world) {
  return {rank * global_batch / world, (rank + 1) * global_batch / world};
}

struct LaneSampler::Epoch {
  i64 epoch = -1, total = 0;
  std::vector<Lane> lanes;
};

LaneSampler::LaneSampler(std::vector<Block> blocks, const LaneConfig& config)
    : blocks_(std::move(blocks)), config_(config), epoch_(std::make_shared<Epoch>()) {
  if (config_.global_batch < 1) {
    fail(Exit::usage, "global_batch is {}, expected >= 1", config_.global_batch);
  }
  if (config_.lanes == 0) config_.lanes = std::min<i64>(config_.global_batch, 64);
  if (config_.lanes < 1 || config_.lanes > config_.global_batch) {
    fail(Exit::usage, "lanes is {}, expected 1 to global_batch ({})", config_.lanes,
         config_.global_batch);
  }
  if (config_.window < 1) fail(Exit::usage, "window is {}, expected >= 1", config_.window);
  for (const Block& block : blocks_) epoch_->total += block.rows;
}

i64 LaneSampler::rows() const { return epoch_->total; }
i64 LaneSampler::steps() const {
  return (rows() + config_.global_batch - 1) / config_.global_batch;
}

namespace {

// Rows that a lane gives to a full step start at first_position(v) of the batch.
i64 first_position(const LaneConfig& c, i64 lane) { return lane * c.global_batch / c.lanes; }

// Rows of the last step that lane v gives, R rows in all: see lanes.h.
i64 last_rows(const LaneConfig& c, i64 lane, i64 rest) {
  return first_position(c, lane + 1) * rest / c.global_batch -
         first_position(c, lane) * rest / c.global_batch;
}

void start_windows(Lane& lane, i64 window) {
  i64 at = 0;
  for (std::size_t i = 0; i < lane.pieces.size(); ++i) {
    if (static_cast<i64>(i) % window == 0) lane.window_start.push_back(at);
    at += lane.pieces[i].rows;
  }
  lane.window_start.push_back(at);
}

std::vector<Lane> cut_lanes(const std::vector<Block>& blocks, const std::vector<i64>& order,
                            const std::vector<i64>& sizes, i64 window) {
  std::vector<Lane> lanes(sizes.size());
  std::size_t j = 0;
  i64 offset = 0;
  for (std::size_t v = 0; v < sizes.size(); ++v) {
    i64 need = sizes[v];
    while (need > 0) {
      const i64 count = blocks[static_cast<std::size_t>(order[j])].rows;
      const i64 take = std::min(need, count - offset);
      if (take > 0) lanes[v].pieces.push_back({order[j], offset, take});
      need -= take;
      offset += take;
      if (offset == count) {
        ++j;
        offset = 0;
      }
    }
    start_windows(lanes[v], window);
  }
  return lanes;
}

void fill_window(Lane& lane, i64 window, const LaneConfig& c, u64 key) {
  std::vector<RowRef> rows;
  const i64 end =
      std::min<i64>((window + 1) * c.window, static_cast<i64>(lane.pieces.size()));
  for (i64 p = window * c.window; p < end; ++p) {
    const Piece& piece = lane.pieces[static_cast<std::size_t>(p)];
    for (i64 k = 0; k < piece.rows; ++k) rows.push_back({piece.block, piece.first + k});
  }
  lane.rows = rows;
  lane.cached = window;
  if (!c.shuffle) return;
  std::vector<i64> order(rows.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<i64>(i);
  Stream(key).shuffle(order);
  for (std::size_t i = 0; i < order.size(); ++i) {
    lane.rows[i] = rows[static_cast<std::size_t>(order[i])];
  }
}

}  // namespace

std::vector<RowRef> LaneSampler::rows_at(i64 epoch, i64 step, Range range) {
  COHORT_CHECK(step >= 0 && step < steps(), "step outside of the epoch");
  const LaneConfig& c = config_;
  const i64 rest = rows() - (steps() - 1) * c.global_batch;
  if (epoch_->epoch != epoch) {
    std::vector<i64> order(blocks_.size()), sizes;
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<i64>(i);
    if (c.shuffle) Stream(mix_key(c.seed, static_cast<u64>(epoch))).shuffle(order);
    for (i64 v = 0; v < c.lanes; ++v) {
      sizes.push_back((steps() - 1) * (first_position(c, v + 1) - first_position(c, v)) +
                      last_rows(c, v, rest));
    }
    epoch_->lanes = cut_lanes(blocks_, order, sizes, c.window);
    epoch_->epoch = epoch;
  }
  std::vector<RowRef> out;
  for (i64 v = 0; v < c.lanes; ++v) {
    const i64 begin = first_position(c, v), end = first_position(c, v + 1);
    Lane& lane = epoch_->lanes[static_cast<std::size_t>(v)];
    for (i64 p = std::max(begin, range.begin); p < std::min(end, range.end); ++p) {
      const i64 at = step * (end - begin) + p - begin;
      if (at >= lane.window_start.back()) {
        out.push_back({});
        continue;
      }
      const auto found =
          std::upper_bound(lane.window_start.begin(), lane.window_start.end(), at) - 1;
      const i64 window = found - lane.window_start.begin();
      if (lane.cached != window) {
        fill_window(lane, window, c,
                    mix_key(c.seed, static_cast<u64>(epoch), v, window));
      }
      out.push_back(lane.rows[static_cast<std::size_t>(at - *found)]);
    }
  }
  return out;
}

}  // namespace cohort
