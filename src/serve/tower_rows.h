// What the shard set says of every user or item: the features of its first row.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "data/loader.h"
#include "data/shard_set.h"
#include "plan/state.h"
#include "serve/towers.h"

namespace cohort {

// Columns by id: of input k of a tower the bytes [ids, shape...] and, if ragged, lengths [ids].
struct TowerRows {
  i64 ids = 0;
  std::vector<u8> known;              // [ids]: 1 where a row named this id
  std::vector<BatchColumn> columns;   // as Tower::inputs

  // As tensors: "known", "features/<field>", "lengths/<field>".
  std::vector<NamedView> tensors(const Graph& graph, const Tower& tower);
  // Copies what tensors() has named. Exit::storage naming `path`, tensor, expected and got.
  static TowerRows from(const std::map<std::string, View>& tensors, const Graph& graph,
                        const Tower& tower, const std::string& path);
};

// The first row of each id, split by split, in the order of the shard set.
TowerRows gather_rows(const std::shared_ptr<ShardSet>& shards, const Graph& graph,
                      const Tower& tower);

// How many ids a tower's key has: the rows of its embedding table.
i64 ids_of(const Graph& graph, const Tower& tower);

}  // namespace cohort
