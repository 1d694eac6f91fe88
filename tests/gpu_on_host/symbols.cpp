// Names for messages.
#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <vector>

#include "exec.h"

namespace hg {
namespace {
using Symbols = std::map<std::uintptr_t, std::string>;  // address within the file -> mangled name

template <class T>
std::vector<T> read_at(std::ifstream& file, std::uint64_t offset, std::size_t count) {
  std::vector<T> values(count);
  file.seekg(static_cast<std::streamoff>(offset));
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(count * sizeof(T)));
  return values;
}

// The table that also has functions with internal linkage; empty where it was stripped.
Symbols read_symbols(const char* path) {
  Symbols symbols;
  std::ifstream file(path, std::ios::binary);
  const Elf64_Ehdr header = read_at<Elf64_Ehdr>(file, 0, 1)[0];
  if (!file) return symbols;
  const auto sections = read_at<Elf64_Shdr>(file, header.e_shoff, header.e_shnum);
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_SYMTAB) continue;
    const Elf64_Shdr& names = sections[section.sh_link];
    const auto text = read_at<char>(file, names.sh_offset, names.sh_size);
    const auto table =
        read_at<Elf64_Sym>(file, section.sh_offset, section.sh_size / sizeof(Elf64_Sym));
    if (!file) return symbols;
    for (const Elf64_Sym& symbol : table) {
      if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && symbol.st_value) {
        symbols[symbol.st_value] = &text[symbol.st_name];
      }
    }
  }
  return symbols;
}

std::string demangle(const char* name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string result = text ? text : name;
  std::free(text);
  const auto anonymous = std::string("(anonymous namespace)::");
  for (auto at = result.find(anonymous); at != std::string::npos; at = result.find(anonymous)) {
    result.erase(at, anonymous.size());
  }
  return result.substr(0, result.rfind('('));
}

std::string find_name(const void* function) {
  static auto& files = *new std::map<std::string, Symbols>;
  Dl_info info{};
  if (!dladdr(function, &info) || !info.dli_fname) return "at an unknown place";
  if (info.dli_sname && info.dli_saddr == function) return demangle(info.dli_sname);
  auto [file, is_new] = files.try_emplace(info.dli_fname);
  if (is_new) file->second = read_symbols(info.dli_fname);
  const auto base = reinterpret_cast<std::uintptr_t>(info.dli_fbase);
  const auto address = reinterpret_cast<std::uintptr_t>(function);
  for (const std::uintptr_t key : {address - base, address}) {  // moved with its file, or not
    const auto found = file->second.find(key);
    if (found != file->second.end()) return demangle(found->second.c_str());
  }
  return std::string("of ") + info.dli_fname;
}
}  // namespace

std::string kernel_name(const void* function) {
  static std::mutex mutex;
  static auto& known = *new std::map<const void*, std::string>;
  std::lock_guard lock(mutex);
  auto [entry, is_new] = known.try_emplace(function);
  if (is_new) entry->second = find_name(function);
  return entry->second;
}

std::string place_in_grid() {
  if (!current) return "";
  const auto text = [](const char* what, uint3 at) {
    return std::string(what) + " (" + std::to_string(at.x) + "," + std::to_string(at.y) + "," +
           std::to_string(at.z) + ")";
  };
  return text("block", blockIdx) + text(" thread", current->index);
}
}  // namespace hg
