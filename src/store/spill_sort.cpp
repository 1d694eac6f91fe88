#include "store/spill_sort.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <queue>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/text.h"

namespace cohort {
namespace {

// A record's bytes: two u32 sizes, the key, the value.
constexpr std::size_t head = 8;
constexpr std::size_t write_size = std::size_t{1} << 20;

struct Record {
  const char* at = nullptr;
  std::size_t bytes() const { return head + size(0) + size(4); }
  std::string_view key() const { return {at + head, size(0)}; }
  std::string_view value() const { return {at + head + size(0), size(4)}; }

 private:
  u32 size(int offset) const {
    u32 result = 0;
    std::memcpy(&result, at + offset, sizeof result);
    return result;
  }
};

// The first bytes of a key as a number of the same order.
u64 prefix_of(std::string_view key) {
  u64 prefix = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    prefix = prefix << 8 | (i < key.size() ? static_cast<unsigned char>(key[i]) : 0u);
  }
  return prefix;
}

// A file without a name.
class SpillFile {
 public:
  explicit SpillFile(const std::string& path) : path_(path + ".spill-XX" "XXXX") {
    handle_ = ::mkostemp(path_.data(), O_CLOEXEC);
    if (handle_ < 0) failed("create");
    static_cast<void>(::unlink(path_.c_str()));
  }
  ~SpillFile() { static_cast<void>(::close(handle_)); }
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;
  i64 size() const { return size_; }

  void append(const char* data, std::size_t bytes) {
    while (bytes > 0) {
      const ssize_t n = ::pwrite(handle_, data, bytes, size_);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) failed("write");
      data += n;
      bytes -= static_cast<std::size_t>(n);
      size_ += n;
    }
  }
  void read(i64 offset, char* to, std::size_t bytes) const {
    while (bytes > 0) {
      const ssize_t n = ::pread(handle_, to, bytes, offset);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) failed("read");
      if (n == 0) fail(Exit::storage, "{}: read failed: the file was cut", path_);
      to += n;
      bytes -= static_cast<std::size_t>(n);
      offset += n;
    }
  }

 private:
  [[noreturn]] void failed(const char* operation) const {
    fail(Exit::storage, "{}: {} failed: {}: rows that do not fit the memory are kept there until "
         "they are sorted ({} so far): free space, or allow more memory",
         path_, operation, std::generic_category().message(errno), human_bytes(size_));
  }
  std::string path_;
  int handle_ = -1;
  i64 size_ = 0;
};

struct Run {
  i64 begin = 0, end = 0;  // in the file
};

// Reads a run record by record.
class Cursor {
 public:
  Cursor(const SpillFile& file, Run run, std::size_t buffer)
      : file_(&file), run_(run), buffer_(std::max(buffer, head)) {}
  const Record& record() const { return record_; }
  bool next() {
    at_ += record_.at == nullptr ? 0 : record_.bytes();
    if (!have(head)) return false;
    record_.at = buffer_.data() + at_;
    have(record_.bytes());
    return true;
  }

 private:
  // Makes that many bytes lie at record_ in the buffer; false at the run's end.
  bool have(std::size_t bytes) {
    if (filled_ - at_ >= bytes) return true;
    std::memmove(buffer_.data(), buffer_.data() + at_, filled_ - at_);
    filled_ -= at_;
    at_ = 0;
    if (buffer_.size() < bytes) buffer_.resize(bytes);
    const std::size_t n =
        std::min(buffer_.size() - filled_, static_cast<std::size_t>(run_.end - run_.begin));
    file_->read(run_.begin, buffer_.data() + filled_, n);
    filled_ += n;
    run_.begin += static_cast<i64>(n);
    record_.at = buffer_.data();
    return filled_ >= bytes;
  }

  const SpillFile* file_;
  Run run_;
  std::vector<char> buffer_;
  std::size_t at_ = 0, filled_ = 0;
  Record record_;
};

}  // namespace

// Records fill the buffer from its begin, entries (what is sorted) from its end.
struct SpillSort::State {
  struct Entry {
    u64 prefix;
    Record record;
    bool operator<(const Entry& other) const {
      if (prefix != other.prefix) return prefix < other.prefix;
      const int order = record.key().compare(other.record.key());
      return order != 0 ? order < 0 : record.at < other.record.at;
    }
  };
  std::string path;
  std::size_t memory = 0, used = 0, entries = 0;
  std::unique_ptr<char[]> buffer;  // not cleared: its pages are there once they are used
  std::unique_ptr<SpillFile> file;
  std::vector<Run> runs;
  bool reading = false;

  Entry* last_entry() const { return reinterpret_cast<Entry*>(buffer.get() + memory); }
  Entry* first_entry() const { return last_entry() - entries; }

  void allocate(std::size_t bytes) {
    memory = (bytes + sizeof(Entry) - 1) / sizeof(Entry) * sizeof(Entry);
    buffer.reset(new char[memory]);
  }
  void sort() { std::sort(first_entry(), last_entry()); }

  void spill() {
    if (entries == 0) return;
    if (!file) file = std::make_unique<SpillFile>(path);
    sort();
    Run run{file->size(), 0};
    std::string out;
    for (const Entry* entry = first_entry(); entry != last_entry(); ++entry) {
      out.append(entry->record.at, entry->record.bytes());
      if (out.size() < write_size && entry + 1 != last_entry()) continue;
      file->append(out.data(), out.size());
      out.clear();
    }
    run.end = file->size();
    runs.push_back(run);
    used = entries = 0;
  }

  void merge(const Use& use) {
    const std::size_t share = std::clamp(memory / runs.size(), std::size_t{1} << 12, write_size);
    std::vector<Cursor> cursors;
    for (const Run& run : runs) cursors.emplace_back(*file, run, share);
    const auto later = [&](std::size_t a, std::size_t b) {
      const int order = cursors[a].record().key().compare(cursors[b].record().key());
      return order != 0 ? order > 0 : a > b;
    };
    std::priority_queue<std::size_t, std::vector<std::size_t>, decltype(later)> heap(later);
    for (std::size_t i = 0; i < cursors.size(); ++i) {
      if (cursors[i].next()) heap.push(i);
    }
    while (!heap.empty()) {
      const std::size_t least = heap.top();
      heap.pop();
      use(cursors[least].record().key(), cursors[least].record().value());
      if (cursors[least].next()) heap.push(least);
    }
  }
};

SpillSort::SpillSort(std::string path, i64 memory) : state_(std::make_unique<State>()) {
  state_->path = std::move(path);
  state_->memory = static_cast<std::size_t>(std::max<i64>(memory, 1));
}
SpillSort::~SpillSort() = default;

i64 SpillSort::spilled_bytes() const { return state_->file ? state_->file->size() : 0; }

void SpillSort::add(std::string_view key, std::string_view value) {
  State& s = *state_;
  COHORT_CHECK(!s.reading, "add() after each()");
  constexpr std::size_t most = std::numeric_limits<u32>::max();
  COHORT_CHECK(key.size() <= most && value.size() <= most, "a record of over 4 GiB");
  const std::size_t bytes = head + key.size() + value.size(), need = bytes + sizeof(State::Entry);
  if (s.used + need + s.entries * sizeof(State::Entry) > s.memory) s.spill();
  if (!s.buffer || need > s.memory) s.allocate(std::max(s.memory, need));
  char* at = s.buffer.get() + s.used;
  const u32 sizes[2] = {static_cast<u32>(key.size()), static_cast<u32>(value.size())};
  std::memcpy(at, sizes, head);
  key.copy(at + head, key.size());
  value.copy(at + head + key.size(), value.size());
  s.used += bytes;
  ++s.entries;
  *s.first_entry() = {prefix_of(key), {at}};
}

void SpillSort::each(const Use& use) {
  State& s = *state_;
  if (!s.reading && s.file) {
    s.spill();
    s.buffer.reset();
  } else if (!s.reading && s.entries > 0) {
    s.sort();
  }
  s.reading = true;
  if (s.file) return s.merge(use);
  if (s.entries == 0) return;
  for (const State::Entry* entry = s.first_entry(); entry != s.last_entry(); ++entry) {
    use(entry->record.key(), entry->record.value());
  }
}

void pack_size(std::string& out, u64 size) {
  for (; size >= 128; size >>= 7) out += static_cast<char>(size | 128);
  out += static_cast<char>(size);
}

void pack_text(std::string& out, std::string_view text) {
  pack_size(out, text.size());
  out += text;
}

void pack_ordered(std::string& out, u64 value) {
  for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
}

void pack_ordered(std::string& out, double value) {
  const u64 bits = std::bit_cast<u64>(value + 0.0);  // -0 becomes 0
  pack_ordered(out, bits >> 63 ? ~bits : bits | u64{1} << 63);
}

u64 Unpacker::size() {
  u64 result = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const u8 byte = value<u8>();
    result |= static_cast<u64>(byte & 127) << shift;
    if (byte < 128) break;
  }
  return result;
}

std::string_view Unpacker::take(u64 bytes) {
  COHORT_CHECK(bytes <= bytes_.size(), "packed values end early");
  const std::string_view result = bytes_.substr(0, bytes);
  bytes_.remove_prefix(bytes);
  return result;
}

}  // namespace cohort
