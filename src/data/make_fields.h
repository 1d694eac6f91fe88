// Cells to values.
#pragma once
#include "data/raw_table.h"
#include "data/shard_writer.h"

namespace cohort {

// Makes every field of the recipe for the rows of the table. Rows with bad cells move to rejects.
RowTable make_fields(const Recipe& recipe, RawTable& table);

}  // namespace cohort
