// Before a repository is written to: that its folder is one, and that a model fits to it.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "store/files.h"

namespace cohort {

// For a serving repository: `folder` is not there, is empty (but for lost+found and names with a
// dot in front) or is one already, and lies in no bundle, repository, shard set or checkpoint.
// Exit::usage otherwise, saying what is there; nothing is written, no lock is taken.
void check_repository_place(Files& files, const std::string& folder);

// The folder is a serving repository; Exit::usage as above, also where it is empty or not there.
void require_repository(Files& files, const std::string& folder);

// The same for a model repository of Triton and the folder `name` in it.
void check_triton_place(Files& files, const std::string& folder, const std::string& name);

// What clients of the one model would meet with the other, from the manifests of two bundles: other
// columns of raw rows, other outputs, none or other towers. Empty where they are alike.
std::string interface_difference(const nlohmann::json& mine, const nlohmann::json& theirs);

}  // namespace cohort
