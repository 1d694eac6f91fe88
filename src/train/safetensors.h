// The safetensors container: u64 little-endian header size, JSON header, tensors back to back.
// https://github.com/huggingface/safetensors (format section): ranges tile the data exactly.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "plan/state.h"
#include "store/files.h"

namespace cohort {

// Streams the tensors in pieces; larger elements first, so that every tensor is aligned.
void write_safetensors(FileWriter& out, const std::vector<NamedView>& tensors);
// Parses a whole file; `path` is for messages. Exit::storage on anything that breaks the format.
std::map<std::string, std::pair<View, std::vector<u8>>> parse_safetensors(const std::string& bytes,
                                                                          const std::string& path);

}  // namespace cohort
