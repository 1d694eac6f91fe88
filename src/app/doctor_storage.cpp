// The shared folder: that every rank sees what another wrote, that rename, fsync, exclusive folders
// and locks do what checkpoints and attempts rely on, and how fast it is.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <thread>

#include "app/doctor.h"
#include "base/text.h"
#include "store/files.h"

namespace cohort {
namespace {

constexpr i64 kMiB = i64{1} << 20, kGiB = i64{1} << 30;
constexpr double kVisible = 15;              // seconds that a change may take to be seen elsewhere
constexpr double kLate = 1;                  // seconds of that which are told
constexpr double kSlowCommit = 1;            // seconds of write, fsync, rename, fsync: told
constexpr double kSlowWrite = 50e6;          // bytes/s of a host: told
constexpr i64 kLittleSpace = 10 * kGiB, kNoSpace = kGiB;
constexpr double kFileClock = 1;             // seconds between a file's time and the host's: told

std::string os_error() { return std::generic_category().message(errno); }

struct Place {
  std::string folder;   // of this examination; removed at the end
  bool made = false;    // the shared folder was not there before
};

std::string kind_of_file_system(const std::string& path) {
  struct statfs info {};
  if (::statfs(path.c_str(), &info) != 0) fail(Exit::storage, "{}: statfs: {}", path, os_error());
  switch (static_cast<u64>(info.f_type) & 0xffffffff) {
    case 0x6969: return "nfs";
    case 0x0bd00bd0: return "lustre";
    case 0x47504653: return "gpfs";
    case 0x19830326: return "beegfs";
    case 0x00c36400: return "ceph";
    case 0x65735546: return "fuse";
    case 0xff534d42: return "cifs";
    case 0xfe534d42: return "smb2";
    case 0x01021997: return "9p";
    case 0x794c7630: return "overlay";
    case 0x01021994: return "tmpfs";
    case 0xef53: return "ext4";
    case 0x58465342: return "xfs";
    case 0x9123683e: return "btrfs";
    case 0x2fc12fc1: return "zfs";
    default: return fmt::format("type 0x{:x}", static_cast<u64>(info.f_type));
  }
}

// A kind that cannot be shared by hosts.
bool is_local(const std::string& kind) {
  for (const char* local : {"overlay", "tmpfs", "ext4", "xfs", "btrfs", "zfs"}) {
    if (kind == local) return true;
  }
  return false;
}

// Seconds until `ready`, or nothing after kVisible.
template <class F>
std::optional<double> wait_until(F&& ready) {
  const double begin = seconds_now();
  while (!ready()) {
    if (seconds_now() - begin > kVisible) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return seconds_now() - begin;
}

// The text of a file, empty where it cannot be read yet.
std::string peek(const std::string& path) {
  try {
    return real_files().read(path);
  } catch (const Error&) {
    return "";
  }
}

double most_of_all(Communicator& ranks, double value) {
  ranks.all_reduce({&value, DType::f64, {1}}, Reduce::max);
  return value;
}

// Rank 0 makes the folder; false where it cannot or where a rank does not see it.
bool open_place(Doctor& d, Place& place) {
  const std::string& folder = d.options.folder;
  std::string name = fmt::format("{}/.cohort-doctor-{}-{}", folder, d.hosts.of[0], ::getpid());
  name = d.ranks().all_gather(name)[0];
  const bool first = d.ranks().rank() == 0;
  const bool made = d.attempt_all("folder", Exit::storage, [&] {
    if (!first) return;
    place.made = !real_files().exists(folder);
    real_files().make_folder(folder);
    if (!real_files().make_folder_exclusive(name))
      fail(Exit::storage, "{}: is there already: remove it", name);
    place.folder = name;
    write_atomically(real_files(), name + "/token", name);
  });
  if (!made) return false;
  place.folder = name;
  const auto delay = wait_until([&] { return peek(name + "/token") == name; });
  if (!delay) {
    d.add({"folder", Fitness::unfit,
           fmt::format("{}: what rank 0 (host {}) wrote there is not seen after {:.0f} s", folder,
                       d.hosts.of[0], kVisible),
           "mount the shared folder at the same path on every host, and give it by --folder",
           Exit::storage});
  }
  return most_of_all(d.ranks(), delay ? 0 : 1) == 0;
}

// Every rank writes a file twice as checkpoints are; the next rank must read each.
void examine_commits(Doctor& d, const Place& place) {
  Communicator& ranks = d.ranks();
  const auto name = [&](int rank) { return fmt::format("{}/commit-{}", place.folder, rank); };
  const auto text = [](int rank, int version) {
    return fmt::format("version {} of rank {}\n", version, rank) + std::string(4096, 'x') + "\n";
  };
  const int next = (ranks.rank() + 1) % ranks.size();
  double commit = 0, late = 0;
  for (int version = 1; version <= 2; ++version) {
    const bool written = d.attempt_all("commit", Exit::storage, [&] {
      const double begin = seconds_now();
      write_atomically(real_files(), name(ranks.rank()), text(ranks.rank(), version));
      commit = std::max(commit, seconds_now() - begin);
    });
    if (!written) return;
    const auto delay = wait_until([&] { return peek(name(next)) == text(next, version); });
    if (!delay) {
      d.add({"visibility", Fitness::unfit,
             fmt::format("version {} of a file of {} is not seen after {:.0f} s", version,
                         d.hosts.place(next), kVisible),
             "mount with close-to-open consistency (NFS: without nocto, actimeo at most 10)",
             Exit::storage});
    }
    late = std::max(late, delay.value_or(kVisible));
    ranks.barrier();
  }
  commit = most_of_all(ranks, commit);
  late = most_of_all(ranks, late);
  if (ranks.rank() != 0) return;
  Finding c{"commit", commit > kSlowCommit ? Fitness::warn : Fitness::ok,
            fmt::format("write, fsync, rename, fsync of the folder: {:.1f} ms at most", commit * 1e3)};
  c.of_job = true;
  if (commit > kSlowCommit) c.remedy = "checkpoints will be slow: less often, or another folder";
  d.add(std::move(c));
  if (late >= kVisible) return;   // told by the rank that waited
  Finding v{"visibility", late > kLate ? Fitness::warn : Fitness::ok,
            fmt::format("new and replaced files seen by the next rank after {:.2f} s at most", late)};
  v.of_job = true;
  if (late > kLate) v.remedy = "NFS: a lower actimeo makes changes seen sooner";
  d.add(std::move(v));
}

// All ranks make one folder at once; exactly one may succeed: an attempt on a run is taken so.
void examine_exclusive(Doctor& d, const Place& place) {
  Communicator& ranks = d.ranks();
  i64 winners = 0;
  for (int round = 0; round < 8; ++round) {
    i64 mine = 0;
    ranks.barrier();
    const bool good = d.attempt_all("exclusive", Exit::storage, [&] {
      mine = real_files().make_folder_exclusive(fmt::format("{}/only-{}", place.folder, round));
    });
    if (!good) return;
    ranks.all_reduce({&mine, DType::i64, {1}}, Reduce::sum);
    if (round == 0 || mine != 1) winners = mine;
    if (mine != 1) break;
  }
  if (ranks.rank() != 0) return;
  Finding f{"exclusive", winners == 1 ? Fitness::ok : Fitness::unfit,
            fmt::format("of {} ranks that make the same folder, {} succeed", ranks.size(), winners),
            winners == 1 ? "" : "use a file system whose mkdir is atomic: two jobs could take one run",
            Exit::storage, true};
  d.add(std::move(f));
}

enum class LockKind { whole_file, range };

// 0 or the errno.
int try_lock(int fd, LockKind kind) {
  if (kind == LockKind::whole_file) return ::flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return ::fcntl(fd, F_SETLK, &lock) == 0 ? 0 : errno;
}

// Rank 0 holds a lock; the others must be refused.
void examine_lock(Doctor& d, const Place& place, LockKind kind) {
  Communicator& ranks = d.ranks();
  const std::string check = kind == LockKind::whole_file ? "flock" : "fcntl lock";
  const std::string path = place.folder + "/token";
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  const int opened = fd >= 0 ? 0 : errno;
  i64 error = ranks.rank() != 0 ? 0 : opened != 0 ? opened : try_lock(fd, kind);
  ranks.all_reduce({&error, DType::i64, {1}}, Reduce::max);
  const int mine = ranks.rank() == 0 || error != 0 ? EAGAIN : opened ? opened : try_lock(fd, kind);
  ranks.barrier();
  if (fd >= 0) static_cast<void>(::close(fd));
  const std::string remedy = "the program does without, but HDF5 and other tools lock files: mount "
                             "with locks (Lustre: -o flock; NFS: version 4, or lockd and statd)";
  if (error != 0 && ranks.rank() == 0) {
    d.add({check, Fitness::warn,
           "cannot be taken: " + std::generic_category().message(static_cast<int>(error)), remedy,
           Exit::storage, true});
  } else if (mine == 0) {
    d.add({check, Fitness::warn, fmt::format("given here though {} holds it", d.hosts.place(0)),
           remedy, Exit::storage});
  } else if (mine != EAGAIN && mine != EACCES) {
    d.add({check, Fitness::warn, "cannot be tried: " + std::generic_category().message(mine), remedy,
           Exit::storage});
  } else if (ranks.rank() == 0) {
    d.add({check, Fitness::ok, ranks.size() > 1 ? "held against all other ranks" : "can be taken", "",
           Exit::storage, true});
  }
}

void examine_space(Doctor& d, const Place& place) {
  struct statvfs info {};
  if (::statvfs(place.folder.c_str(), &info) != 0)
    fail(Exit::storage, "{}: statvfs: {}", place.folder, os_error());
  const i64 block = static_cast<i64>(info.f_frsize);
  const i64 free = static_cast<i64>(info.f_bavail) * block;
  const std::string kind = kind_of_file_system(place.folder);
  Finding f{"space", Fitness::ok,
            fmt::format("{} ({}): {} free of {}", d.options.folder, kind, human_bytes(free),
                        human_bytes(static_cast<i64>(info.f_blocks) * block))};
  f.cause = Exit::storage;
  f.of_job = true;
  if (free < kLittleSpace) {
    f.fitness = free < kNoSpace ? Fitness::unfit : Fitness::warn;
    f.remedy = "free space, or keep fewer checkpoints (checkpoint.keep_last, keep_best)";
  }
  if (info.f_files > 0 && info.f_favail < 1000) {
    f.fitness = Fitness::unfit;
    f.value += fmt::format(", {} files may still be made", static_cast<u64>(info.f_favail));
    f.remedy = "remove files: the file system has no inodes left";
  }
  d.add(std::move(f));
  if (d.hosts.names.size() > 1 && is_local(kind)) {
    d.add({"folder", Fitness::warn,
           fmt::format("{} is {} on {}, which hosts mostly do not share", d.options.folder, kind,
                       d.hosts.of[0]),
           "give the shared folder by --folder", Exit::storage, true});
  }
}

void examine_file_clock(Doctor& d, const Place& place) {
  const std::string path = fmt::format("{}/clock-{}", place.folder, d.ranks().rank());
  auto file = real_files().create(path);
  file->write("x", 1);
  file->sync();
  file->close();
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) fail(Exit::storage, "{}: stat: {}", path, os_error());
  const double now = unix_time();
  const double there = static_cast<double>(info.st_mtim.tv_sec) +
                       1e-9 * static_cast<double>(info.st_mtim.tv_nsec);
  if (std::fabs(there - now) < kFileClock) return;
  d.add({"file clock", Fitness::warn,
         fmt::format("the time of a new file is {:+.1f} s from this host's", there - now),
         "keep the clocks of hosts and file servers by chrony or systemd-timesyncd", Exit::storage});
}

struct Rates {
  double write = 0, read = 0;   // bytes/s, 0: this rank did not measure
};

double write_rate(const std::string& path, i64 bytes) {
  std::vector<u64> piece(static_cast<std::size_t>(kMiB / 8));
  for (std::size_t i = 0; i < piece.size(); ++i) piece[i] = i * 0x9e3779b97f4a7c15ULL;
  const double begin = seconds_now();
  auto file = real_files().create(path);
  for (i64 at = 0; at < bytes; at += kMiB) file->write(piece.data(), std::min(kMiB, bytes - at));
  file->sync();
  file->close();
  return static_cast<double>(bytes) / (seconds_now() - begin);
}

// Pages that this host holds are given up first.
double read_rate(const std::string& path, i64 bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(Exit::storage, "{}: open: {}", path, os_error());
  static_cast<void>(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
  static_cast<void>(::close(fd));
  i64 have = 0;
  const double begin = seconds_now();
  read_pieces(path, [&](std::string_view piece) { have += static_cast<i64>(piece.size()); });
  if (have != bytes) fail(Exit::storage, "{}: expected {} bytes, got {}", path, bytes, have);
  return static_cast<double>(bytes) / (seconds_now() - begin);
}

// All hosts at once, by their first ranks; each reads what the host after it wrote.
void examine_rates(Doctor& d, const Place& place) {
  Communicator& ranks = d.ranks();
  const std::string& host = d.hosts.of[static_cast<std::size_t>(ranks.rank())];
  const std::size_t hosts = d.hosts.names.size();
  const auto at = std::find(d.hosts.names.begin(), d.hosts.names.end(), host);
  const std::size_t index = static_cast<std::size_t>(at - d.hosts.names.begin());
  const bool works = d.hosts.first_on_host(ranks.rank());
  const auto name = [&](std::size_t h) { return fmt::format("{}/rate-{}", place.folder, h); };
  const i64 bytes = d.options.mib * kMiB;
  Rates mine;
  ranks.barrier();
  const bool written = d.attempt_all("rates", Exit::storage, [&] {
    if (works) mine.write = write_rate(name(index), bytes);
  });
  if (!written) return;
  const bool read = d.attempt_all("rates", Exit::storage, [&] {
    if (works) mine.read = read_rate(name((index + 1) % hosts), bytes);
  });
  if (!read) return;
  const auto all = ranks.all_gather(nlohmann::json{mine.write, mine.read}.dump());
  if (ranks.rank() != 0) return;
  double write = 0, least = 1e300, reads = 0;
  for (std::size_t h = 0; h < hosts; ++h) {
    const auto one = nlohmann::json::parse(all[static_cast<std::size_t>(d.hosts.ranks[h][0])]);
    write += one[0].get<double>();
    reads += one[1].get<double>();
    least = std::min(least, one[0].get<double>());
    (*d.details)["rates"][d.hosts.names[h]] = {{"write_mb_s", one[0].get<double>() / 1e6},
                                            {"read_mb_s", one[1].get<double>() / 1e6}};
  }
  Finding f{"rates", Fitness::ok,
            fmt::format("{} MiB a host: written and synced {:.0f} MB/s, read {:.0f} MB/s in all",
                        d.options.mib, write / 1e6, reads / 1e6)};
  f.of_job = true;
  if (least < kSlowWrite) {
    f.fitness = Fitness::warn;
    f.value += fmt::format("; the slowest host writes {:.1f} MB/s", least / 1e6);
    f.remedy = "write checkpoints less often (checkpoint.every_minutes) or elsewhere, and read shards "
               "from local disks (data.stage_dir)";
  }
  d.add(std::move(f));
}

}  // namespace

void examine_storage(Doctor& d) {
  Place place;
  const bool first = d.ranks().rank() == 0;
  if (open_place(d, place)) {
    if (first) d.attempt("space", Exit::storage, [&] { examine_space(d, place); });
    examine_commits(d, place);
    examine_exclusive(d, place);
    examine_lock(d, place, LockKind::whole_file);
    examine_lock(d, place, LockKind::range);
    d.attempt("file clock", Exit::storage, [&] { examine_file_clock(d, place); });
    examine_rates(d, place);
  }
  d.ranks().barrier();
  if (!first || place.folder.empty()) return;
  d.attempt("folder", Exit::storage, [&] {
    real_files().remove(place.folder);
    if (place.made && real_files().list(d.options.folder).empty())
      real_files().remove(d.options.folder);
  });
}

}  // namespace cohort
