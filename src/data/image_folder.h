// Sources of class folders: <path>/<class>/<picture>.
#pragma once
#include "data/raw_rows.h"

namespace cohort {

// Gives one row per file, folders and files in order of name: column 'label' holds the folder's
// name. A picture that cannot be decoded, or has another size without `resize`, becomes a reject.
// Lineage: one entry, the XXH64 of all names and bytes.
void read_image_folder(const SourceConfig& source, const std::string& root, RawSchema& schema,
                       nlohmann::json& lineage, const RowSink& use, const RejectSink& reject);

}  // namespace cohort
