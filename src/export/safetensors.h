// The safetensors container: u64 little-endian header size, JSON header, tensors back to back.
// https://github.com/huggingface/safetensors (format section): ranges tile the data exactly.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "store/files.h"
#include "tensor/tensor.h"

namespace cohort {

// The order of tensors in a file, as indices: larger elements first, then by name.
std::vector<std::size_t> file_order(const std::vector<NamedView>& tensors);
const char* safetensors_code(DType type);   // "F32"
DType safetensors_type(const std::string& code, const std::string& where);   // Exit::storage

// Streams the tensors in pieces; larger elements first, so that every tensor is aligned.
void write_safetensors(FileWriter& out, const std::vector<NamedView>& tensors);
// Views into the bytes of a whole file, by name; `path` is for messages. Exit::storage on anything
// that breaks the format.
std::map<std::string, View> view_safetensors(std::string& bytes, const std::string& path);
// The same with copies of the tensors.
std::map<std::string, std::pair<View, std::vector<u8>>> parse_safetensors(const std::string& bytes,
                                                                          const std::string& path);

}  // namespace cohort
