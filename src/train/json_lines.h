// Reading what a job appends to, line by line, and may have been killed in.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "store/files.h"

namespace cohort {

// The complete objects of a file, none where it is absent. Json: nlohmann::json, or ordered_json,
// which keeps the order of keys.
template <class Json = nlohmann::json>
std::vector<Json> read_json_lines(Files& files, const std::string& path);

}  // namespace cohort
