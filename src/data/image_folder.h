// Sources of class folders: <path>/<class>/<picture>.
#pragma once
#include "data/raw_table.h"

namespace cohort {

// Appends one row per file, folders and files in order of name: column 'label' holds the folder's
// name. A picture that cannot be decoded, or has another size without `resize`, becomes a reject.
// Lineage: one entry, the XXH64 of all names and bytes.
void read_image_folder(const SourceConfig& source, const std::string& root, RawTable& table,
                       nlohmann::json& lineage);

}  // namespace cohort
