#include "train/watched_shards.h"

#include <chrono>
#include <thread>

namespace cohort {
namespace {

class WatchedShards final : public ShardSet {
 public:
  WatchedShards(std::shared_ptr<ShardSet> shards, Status& status, std::function<double()> delay)
      : shards_(std::move(shards)), status_(status), delay_(std::move(delay)) {}
  const std::string& path() const override { return shards_->path(); }
  const std::vector<Field>& fields() const override { return shards_->fields(); }
  const std::vector<Vocabulary>& vocabularies() const override { return shards_->vocabularies(); }
  const std::vector<ShardInfo>& shards() const override { return shards_->shards(); }
  std::vector<Block> blocks(const std::string& split) const override {
    return shards_->blocks(split);
  }
  bool shuffled() const override { return shards_->shuffled(); }
  std::string fingerprint() const override { return shards_->fingerprint(); }
  Column read(const Block& block, i64 field) const override {
    const Reading reading(status_, file_of(block));
    if (const double seconds = delay_(); seconds > 0)
      std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    return shards_->read(block, field);
  }
  std::vector<i64> row_ids(const Block& block) const override {
    const Reading reading(status_, file_of(block));
    return shards_->row_ids(block);
  }
  std::vector<std::string> verify() const override { return shards_->verify(); }

 private:
  const std::string& file_of(const Block& block) const {
    return shards_->shards().at(static_cast<std::size_t>(block.shard)).file;
  }
  std::shared_ptr<ShardSet> shards_;
  Status& status_;
  std::function<double()> delay_;
};

}  // namespace

std::shared_ptr<ShardSet> watch_reads(std::shared_ptr<ShardSet> shards, Status& status,
                                      std::function<double()> delay) {
  return std::make_shared<WatchedShards>(std::move(shards), status, std::move(delay));
}

}  // namespace cohort
