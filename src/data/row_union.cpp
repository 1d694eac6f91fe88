#include "data/row_union.h"

#include <algorithm>
#include <cstring>

namespace cohort {
namespace {

void sort_unique(std::vector<i32>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

}  // namespace

RowUnion agree_rows(Communicator& channel, const std::vector<i32>& ids) {
  std::vector<i32> mine;
  for (i32 id : ids) {
    if (id >= 0) mine.push_back(id);
  }
  sort_unique(mine);
  RowUnion out;
  const std::string packed(reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(i32));
  for (const std::string& text : channel.all_gather(packed)) {
    const std::size_t at = out.rows.size(), n = text.size() / sizeof(i32);
    out.rows.resize(at + n);
    if (n > 0) std::memcpy(out.rows.data() + at, text.data(), n * sizeof(i32));
  }
  sort_unique(out.rows);
  for (i32 id : ids) {
    const auto found = std::lower_bound(out.rows.begin(), out.rows.end(), id);
    out.local.push_back(id < 0 ? -1 : static_cast<i32>(found - out.rows.begin()));
  }
  return out;
}

}  // namespace cohort
