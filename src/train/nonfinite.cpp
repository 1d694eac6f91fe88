#include "train/nonfinite.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/env.h"
#include "base/error.h"
#include "base/text.h"

namespace cohort {
namespace {

constexpr std::size_t most_rows = 5, most_ranks = 4;   // named in a message

}  // namespace

std::string name_rows(const Batch& batch, const std::vector<i64>& rows,
                      const std::vector<std::string>& shards) {
  std::vector<std::string> names;
  for (std::size_t k = 0; k < std::min(rows.size(), most_rows); ++k) {
    const auto r = static_cast<std::size_t>(rows[k]);
    names.push_back(fmt::format("{}:{}", shards.at(static_cast<std::size_t>(batch.blocks.at(r))),
                                batch.row_ids.at(r)));
  }
  std::string text = fmt::format("{} of {} rows (shard:row) {}", rows.size(), batch.valid,
                                 join(names, ", "));
  if (rows.size() > most_rows) text += ", ...";
  return text;
}

std::string blame_nonfinite(Communicator& ranks, const NonFinite& found, const std::string& rows) {
  const nlohmann::json mine = {
      {"order", found.order}, {"tensor", found.tensor}, {"rows", rows}, {"host", host_name()}};
  std::vector<nlohmann::json> all;
  i64 first = -1, later = 0;
  for (const std::string& text : ranks.all_gather(mine.dump())) {
    all.push_back(nlohmann::json::parse(text));
    const i64 order = all.back().at("order").get<i64>();
    if (order >= 0 && (first < 0 || order < first)) first = order;
  }
  if (first < 0)
    return "no rank's own values are: their sum over ranks or the squared norm overflowed";
  std::vector<std::string> texts;
  std::string tensor;
  for (std::size_t r = 0; r < all.size(); ++r) {
    const i64 order = all[r].at("order").get<i64>();
    if (order > first) ++later;
    if (order != first) continue;
    tensor = all[r].at("tensor").get<std::string>();
    const std::string of = all[r].at("rows").get<std::string>();
    texts.push_back(fmt::format("rank {} (host {}){}{}", r, all[r].at("host").get<std::string>(),
                                of.empty() ? "" : ": ", of));
  }
  const std::size_t more = texts.size() - std::min(texts.size(), most_ranks);
  texts.resize(std::min(texts.size(), most_ranks));
  std::string text = fmt::format("first {} on {}", tensor, join(texts, "; "));
  if (more > 0) text += fmt::format("; and {} more ranks", more);
  if (later > 0) text += fmt::format("; other tensors after it on {} more ranks", later);
  return text;
}

std::string to_text(const SkippedStep& s) {
  return fmt::format("step {}: loss {} or gradient norm {} is not finite; the step is skipped on all "
                     "ranks ({} in a row, {} in all)", s.step, s.loss, s.grad_norm, s.in_row, s.all);
}

}  // namespace cohort
