#include "data/stage.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <vector>

#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "store/files.h"
#include "store/folder.h"

namespace cohort {
namespace {

using nlohmann::json;

constexpr const char* kPrefix = "cohort-";
constexpr i64 kSpare = i64{64} << 20;   // bytes left free on the disk

std::string os_error() { return std::generic_category().message(errno); }

int open_lock(const std::string& path) {
  const int fd = ::open((path + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) fail(Exit::storage, "{}.lock: open: {}", path, os_error());
  return fd;
}

bool lock(int fd, int how, const std::string& path) {
  while (::flock(fd, how) != 0) {
    if (errno == EINTR) continue;
    if (errno == EWOULDBLOCK) return false;
    fail(Exit::storage, "{}.lock: flock: {}: data.stage_dir must be a local disk", path, os_error());
  }
  return true;
}

i64 bytes_of(const json& manifest) {
  i64 bytes = static_cast<i64>(manifest.dump(1).size());
  for (const json& file : manifest.at("files")) bytes += file.at("bytes").get<i64>();
  return bytes;
}

// Bytes of what is there, whole or not.
i64 bytes_in(const std::string& folder) {
  i64 bytes = 0;
  std::error_code code;
  for (const auto& file : std::filesystem::directory_iterator(folder, code)) {
    const auto size = file.file_size(code);
    if (!code) bytes += static_cast<i64>(size);
  }
  return bytes;
}

i64 free_bytes(const std::string& folder) {
  const i64 bytes = real_files().free_bytes(folder);
  if (bytes < 0) fail(Exit::storage, "{}: statvfs: {}", folder, os_error());
  return bytes;
}

// "cohort-" and 16 hex digits: a copy of this program.
bool is_copy(const std::string& name) {
  const std::string prefix = kPrefix;
  if (name.size() != prefix.size() + 16 || name.rfind(prefix, 0) != 0) return false;
  return name.find_first_not_of("0123456789abcdef", prefix.size()) == std::string::npos;
}

struct Copy {
  std::string path;
  i64 bytes = 0;
  timespec used{};   // the lock file's time, set at each use
};

// Copies and unfinished ones, least recently used first; not `own`.
std::vector<Copy> other_copies(const std::string& folder, const std::string& own) {
  std::vector<Copy> copies;
  for (const std::string& name : real_files().list(folder)) {
    const bool part = name.ends_with(".part");
    const std::string base = part ? name.substr(0, name.size() - 5) : name;
    Copy copy{folder + "/" + base, bytes_in(folder + "/" + name), {}};
    if (!is_copy(base) || copy.path == own) continue;
    struct stat info {};
    if (::stat((copy.path + ".lock").c_str(), &info) == 0) copy.used = info.st_mtim;
    copies.push_back(copy);
  }
  std::sort(copies.begin(), copies.end(), [](const Copy& a, const Copy& b) {
    return std::pair(a.used.tv_sec, a.used.tv_nsec) < std::pair(b.used.tv_sec, b.used.tv_nsec);
  });
  return copies;
}

// The lock file stays: a process that waits for it must not hold one that no longer has a name.
bool remove_unused(const Copy& copy) {
  const int fd = open_lock(copy.path);
  const StageLock held(fd);
  if (!lock(fd, LOCK_EX | LOCK_NB, copy.path)) return false;
  for (const char* end : {"", ".part"}) {
    if (real_files().exists(copy.path + end)) real_files().remove(copy.path + end);
  }
  log::info("data.stage_dir: {} removed ({}): the least recently used", copy.path,
            human_bytes(copy.bytes));
  return true;
}

// Removes copies until `wanted` bytes fit. Error(Exit::storage) with sizes where they do not.
void make_room(const std::string& own, i64 wanted, i64 most) {
  const std::string folder = std::filesystem::path(own).parent_path().string();
  i64 used = 0;
  const std::vector<Copy> copies = other_copies(folder, own);
  for (const Copy& copy : copies) used += copy.bytes;
  const auto fits = [&] {
    return (most == 0 || used + wanted <= most) && free_bytes(folder) >= wanted + kSpare;
  };
  if (most > 0 && wanted > most)
    fail(Exit::storage, "{} is needed, data.stage_gib allows {}", human_bytes(wanted),
         human_bytes(most));
  for (const Copy& copy : copies) {
    if (fits()) return;
    if (remove_unused(copy)) used -= copy.bytes;
  }
  if (fits()) return;
  fail(Exit::storage, "{} is needed, {} is free, copies in use take {}{}", human_bytes(wanted),
       human_bytes(free_bytes(folder)), human_bytes(used),
       most > 0 ? ", data.stage_gib allows " + human_bytes(most) : "");
}

// Error(Exit::data) where the original is not what its manifest says.
void copy_file(const std::string& from, const std::string& to, const json& entry) {
  Hasher hasher;
  i64 bytes = 0;
  auto out = real_files().create(to);
  read_pieces(from, [&](std::string_view piece) {
    hasher.add(piece.data(), piece.size());
    bytes += static_cast<i64>(piece.size());
    out->write(piece.data(), static_cast<i64>(piece.size()));
  });
  out->sync();
  out->close();
  const std::string expected = entry.at("checksum").get<std::string>();
  if (bytes != entry.at("bytes").get<i64>() || to_hex(hasher.value()) != expected) {
    fail(Exit::data, "{}: expected {} bytes with checksum {}, got {} with {}: the file was altered: "
         "shard the data again", from, entry.at("bytes").get<i64>(), expected, bytes,
         to_hex(hasher.value()));
  }
}

void copy_set(const std::string& from, const std::string& to, const json& manifest,
              Status* status) {
  const std::string part = to + ".part";
  real_files().remove(part);
  real_files().make_folder(part);
  try {
    for (const json& entry : manifest.at("files")) {
      const std::string name = entry.at("name").get<std::string>();
      std::optional<Reading> reading;
      if (status) reading.emplace(*status, from + "/" + name);
      copy_file(from + "/" + name, part + "/" + name, entry);
      if (status) status->goes_on();
    }
    const std::string text = real_files().read(from + "/manifest.json");
    auto out = real_files().create(part + "/manifest.json");
    out->write(text.data(), static_cast<i64>(text.size()));
    out->sync();
    out->close();
    open_folder(real_files(), part, false, static_cast<int>(Exit::storage));
    real_files().sync_folder(part);
    real_files().rename(part, to);
    real_files().sync_folder(std::filesystem::path(to).parent_path().string());
  } catch (const Error&) {
    std::error_code code;
    std::filesystem::remove_all(part, code);   // the first error is the one to tell
    throw;
  }
}

// Whether the copy is there and what it was; a damaged one is removed. Held exclusively.
bool is_whole(const std::string& copy, const std::string& fingerprint) {
  if (!real_files().exists(copy)) return false;
  try {
    const json found = open_folder(real_files(), copy, true, static_cast<int>(Exit::storage));
    const std::string got = found.at("manifest_checksum").get<std::string>();
    if (got == fingerprint) return true;
    fail(Exit::storage, "{}/manifest.json: checksum expected {}, got {}", copy, fingerprint, got);
  } catch (const Error& e) {
    log::warn("data.stage_dir: {}: the copy is made again", e.what());
    real_files().remove(copy);
    return false;
  }
}

void touch(int fd, const std::string& path) {
  if (::futimens(fd, nullptr) != 0) fail(Exit::storage, "{}.lock: futimens: {}", path, os_error());
}

Staged stage(const std::string& path, const std::string& folder, i64 most, Status* status) {
  const json manifest = open_folder(real_files(), path, false, static_cast<int>(Exit::data));
  real_files().make_folder(folder);
  const std::string print = manifest.at("manifest_checksum").get<std::string>();
  Staged staged{folder + "/" + kPrefix + print, nullptr, false};
  const int fd = open_lock(staged.path);
  staged.lock = std::make_shared<StageLock>(fd);
  // Others may read it already: then it was verified, by the one that came first.
  if (lock(fd, LOCK_EX | LOCK_NB, staged.path)) {
    staged.copied = !is_whole(staged.path, print);
  } else {
    lock(fd, LOCK_SH, staged.path);   // waits for a copy that is being made
    if (!real_files().exists(staged.path)) {
      lock(fd, LOCK_EX, staged.path);
      staged.copied = !is_whole(staged.path, print);
    }
  }
  if (staged.copied) {
    make_room(staged.path, bytes_of(manifest), most);
    copy_set(path, staged.path, manifest, status);
  }
  lock(fd, LOCK_SH, staged.path);
  // Between the two locks another may have removed it.
  if (!real_files().exists(staged.path + "/manifest.json"))
    fail(Exit::storage, "{}: removed by another job", staged.path);
  touch(fd, staged.path);
  return staged;
}

}  // namespace

StageLock::~StageLock() { static_cast<void>(::close(fd_)); }

Staged stage_shards(const std::string& path, const std::string& folder, i64 most_bytes,
                    Status* status) {
  try {
    return stage(path, folder, most_bytes, status);
  } catch (const Error& e) {
    if (e.exit_code() == Exit::data) throw;
    log::warn("data.stage_dir: {}: {}: shards are read in place from {}", folder, e.what(), path);
    return {path, nullptr, false};
  }
}

Staged stage_on_hosts(World& world, const std::string& path, const std::string& folder,
                      i64 most_bytes) {
  json mine = {{"host", host_name()}, {"first", world.local_rank() == 0}, {"error", ""}};
  Staged staged{path, nullptr, false};
  if (world.local_rank() == 0) {
    try {
      staged = stage_shards(path, folder, most_bytes, &world.status());
    } catch (const Error& e) {
      mine["error"] = e.what();
    }
  }
  mine["path"] = staged.path;
  const auto all = world.communicator().all_gather(mine.dump());
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    const json other = json::parse(all[rank]);
    const std::string error = other["error"].get<std::string>();
    if (!error.empty()) throw Error(Exit::data, error);
    if (world.local_rank() == 0 || !other["first"].get<bool>()) continue;
    if (other["host"] == mine["host"] && other["path"] != path && !staged.lock)
      staged = stage_shards(path, folder, most_bytes);
  }
  return staged;
}

}  // namespace cohort
