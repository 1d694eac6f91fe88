#include "train/chaos.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <functional>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "train/checkpoint.h"

namespace cohort {
namespace {

using Kind = ChaosEvent::Kind;

const char* const kEvents =
    "kill-rank=R@step=N, hang-rank=R@step=N, slow-rank=R:Fx, slow-reads=R:Nms, nan@step=N, "
    "disk-full@checkpoint=K or corrupt-latest";

[[noreturn]] void bad(const std::string& event, const std::string& why) {
  fail(Exit::usage, "--chaos: '{}': {}; expected {}", event, why, kEvents);
}

i64 number(const std::string& event, const std::string& text, const char* what, i64 least) {
  const auto value = parse_i64(text);
  if (!value || *value < least)
    bad(event, fmt::format("'{}' is no {} of at least {}", text, what, least));
  return *value;
}

// "3x" or "50ms" without its unit.
double amount(const std::string& event, const std::string& text, const std::string& unit) {
  const bool named = text.size() > unit.size() &&
                     text.compare(text.size() - unit.size(), unit.size(), unit) == 0;
  const auto value =
      named ? parse_double(text.substr(0, text.size() - unit.size())) : std::nullopt;
  if (!value || !(*value > 0) || !(*value < 1e6))
    bad(event, fmt::format("'{}' is no positive number with '{}' behind it", text, unit));
  return *value;
}

struct Form {
  const char* name;
  Kind kind;
  bool rank, may_rank;       // "=R" must be there, may be there
  const char* unit;          // ":<amount>unit" must be there
  const char* at;            // "@<at>=N" may be there; must where needs_at
  bool needs_at;
};

const Form kForms[] = {{"kill-rank", Kind::kill_rank, true, true, nullptr, "step", false},
                       {"hang-rank", Kind::hang_rank, true, true, nullptr, "step", false},
                       {"slow-rank", Kind::slow_rank, true, true, "x", nullptr, false},
                       {"slow-reads", Kind::slow_reads, true, true, "ms", nullptr, false},
                       {"nan", Kind::nan, false, true, nullptr, "step", false},
                       {"disk-full", Kind::disk_full, false, false, nullptr, "checkpoint", true},
                       {"corrupt-latest", Kind::corrupt_latest, false, false, nullptr, nullptr,
                        false}};

void parse_place(ChaosEvent& event, const Form& form, const std::string& place) {
  const std::vector<std::string> parts = split(place, '=');
  if (form.at == nullptr || parts.size() != 2 || parts[0] != form.at)
    bad(event.text, form.at ? fmt::format("after @ comes {}=N", form.at) : "takes no @");
  const i64 n = number(event.text, parts[1], form.at, 1);
  (event.kind == Kind::disk_full ? event.checkpoint : event.step) = n;
}

ChaosEvent parse_event(const std::string& text) {
  ChaosEvent event;
  event.text = text;
  const std::size_t at = text.find('@');
  const std::string head = text.substr(0, at);
  const std::size_t equals = head.find('=');
  const std::string name = head.substr(0, equals);
  const auto form = std::find_if(std::begin(kForms), std::end(kForms),
                                 [&](const Form& f) { return name == f.name; });
  if (form == std::end(kForms)) {
    std::vector<std::string> names;
    for (const Form& f : kForms) names.push_back(f.name);
    const std::string near = nearest(name, names);
    bad(text, near.empty() ? "no such event" : fmt::format("did you mean '{}'?", near));
  }
  event.kind = form->kind;
  if (form->rank && equals == std::string::npos) bad(text, "names no rank");
  if (!form->may_rank && equals != std::string::npos) bad(text, "takes no rank");
  if (equals != std::string::npos) {
    const std::vector<std::string> parts = split(head.substr(equals + 1), ':');
    event.rank = number(text, parts[0], "rank", 0);
    if (parts.size() != (form->unit ? 2u : 1u))
      bad(text, form->unit ? fmt::format("after the rank comes :<number>{}", form->unit)
                           : "nothing comes after the rank");
    if (form->unit) event.amount = amount(text, parts[1], form->unit);
  }
  if (at == std::string::npos && form->needs_at)
    bad(text, fmt::format("@{}=N is missing", form->at));
  if (at != std::string::npos) parse_place(event, *form, text.substr(at + 1));
  if (event.kind == Kind::slow_rank && event.amount < 1) bad(text, "faster is not slow");
  if (event.kind == Kind::slow_reads) event.amount /= 1000;
  return event;
}

[[noreturn]] void hang() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

// Flips a bit in the middle of the largest file of a folder, past what storage classes know.
void damage(Files& files, const std::string& folder) {
  std::string largest;
  i64 most = -1;
  for (const std::string& name : files.list(folder)) {
    const i64 size = files.size(folder + "/" + name);
    if (size <= most) continue;
    most = size;
    largest = folder + "/" + name;
  }
  char byte = 0;
  const int fd = ::open(largest.c_str(), O_RDWR | O_CLOEXEC);
  const bool done = fd >= 0 && most > 0 && ::pread(fd, &byte, 1, most / 2) == 1 &&
                    (byte = static_cast<char>(byte ^ 4), ::pwrite(fd, &byte, 1, most / 2) == 1) &&
                    ::fsync(fd) == 0;
  const int code = errno;
  if (fd >= 0) ::close(fd);
  if (!done)
    fail(Exit::storage, "chaos: {}: cannot be damaged: {}", largest,
         std::generic_category().message(code));
  log::warn("chaos: a bit of {} is flipped", largest);
}

}  // namespace

std::vector<ChaosEvent> parse_chaos(const std::string& text) {
  std::vector<ChaosEvent> events;
  std::set<std::string> seen;
  for (const std::string& part : split(text, ',')) {
    const std::string event(trim(part));
    events.push_back(parse_event(event));
    if (!seen.insert(event).second) bad(event, "is given twice");
  }
  return events;
}

Chaos::Chaos(const std::vector<ChaosEvent>& events, i64 rank, i64 ranks)
    : rank_(rank), ranks_(ranks) {
  for (const ChaosEvent& event : events) events_.push_back({{event}, true});
}

void Chaos::open(Files& files, const std::string& run) {
  if (events_.empty()) return;
  files_ = &files;
  folder_ = run + "/chaos";
  files.make_folder(folder_);
  for (Pending& event : events_) {
    event.open = !files.exists(folder_ + "/" + event.text);
    if (!event.open || event.rank < ranks_) continue;
    const std::string why = fmt::format("the job has {} ranks, counted from 0", ranks_);
    if (!files.exists(run + "/run.json")) bad(event.text, why);
    if (rank_ == 0) log::warn("chaos: '{}' cannot happen: {}", event.text, why);
    event.open = false;
  }
}

bool Chaos::take(Pending& event) {
  event.open = false;
  if (!files_->make_folder_exclusive(folder_ + "/" + event.text)) return false;
  files_->sync_folder(folder_);
  log::warn("chaos: {}", event.text);
  log::flush();
  return true;
}

void Chaos::before_resume(const std::string& checkpoints) {
  for (Pending& event : events_) {
    if (event.kind != Kind::corrupt_latest || !event.open || !files_->exists(checkpoints)) continue;
    std::vector<std::string> complete;
    for (const std::string& name : files_->list(checkpoints))
      if (checkpoint_step(name)) complete.push_back(name);
    if (complete.size() >= 2 && take(event)) damage(*files_, checkpoints + "/" + complete.back());
  }
}

void Chaos::before_step(i64 step, i64 first) {
  for (Pending& event : events_) {
    if (event.kind == Kind::disk_full || !event.open || event.rank != rank_ ||
        step != (event.step < 0 ? first : event.step))
      continue;
    if (event.kind == Kind::kill_rank && take(event)) {
      ::kill(::getpid(), SIGKILL);
      hang();
    }
    if (event.kind == Kind::hang_rank && take(event)) hang();
    if (event.kind == Kind::slow_rank && take(event)) slowness_ = event.amount;
    if (event.kind == Kind::slow_reads && take(event)) read_delay_ = event.amount;
  }
}

bool Chaos::poisons(i64 step, i64 first) {
  bool any = false;
  for (Pending& event : events_) {
    if (event.kind != Kind::nan || !event.open) continue;
    if (step != (event.step < 0 ? first : event.step)) continue;
    any = (event.rank == rank_ && take(event)) || any;
  }
  return any;
}

bool Chaos::is_edge(i64 steps_done, i64 first) const {
  return std::any_of(events_.begin(), events_.end(), [&](const Pending& event) {
    const i64 step = event.step < 0 ? first : event.step;
    return event.kind == Kind::nan && (steps_done == step - 1 || steps_done == step);
  });
}

namespace {

class FullWriter final : public FileWriter {
 public:
  FullWriter(std::unique_ptr<FileWriter> file, std::string path)
      : file_(std::move(file)), path_(std::move(path)) {}
  void write(const void*, i64 bytes) override {
    fail(Exit::storage, "{}: write of {} bytes ({} left) failed: {} (errno {})", path_, bytes,
         bytes, std::generic_category().message(ENOSPC), ENOSPC);
  }
  void sync() override { file_->sync(); }
  void close() override { file_->close(); }

 private:
  std::unique_ptr<FileWriter> file_;
  std::string path_;
};

// Checkpoints are told apart by the step in the name of the folder that they are written to.
class FullFiles final : public Files {
 public:
  using Begin = std::function<bool(i64 checkpoint)>;   // whether this one, from 1, finds no space
  FullFiles(Files& files, Begin begin) : files_(files), begin_(std::move(begin)) {}
  std::unique_ptr<FileWriter> create(const std::string& path) override {
    std::unique_ptr<FileWriter> file = files_.create(path);
    if (!full(path)) return file;
    return std::make_unique<FullWriter>(std::move(file), path);
  }
  std::unique_ptr<FileWriter> append(const std::string& path) override {
    return files_.append(path);
  }
  std::string read(const std::string& path) override { return files_.read(path); }
  void rename(const std::string& from, const std::string& to) override { files_.rename(from, to); }
  void sync_folder(const std::string& path) override { files_.sync_folder(path); }
  void make_folder(const std::string& path) override { files_.make_folder(path); }
  bool make_folder_exclusive(const std::string& path) override {
    return files_.make_folder_exclusive(path);
  }
  void remove(const std::string& path) override { files_.remove(path); }
  bool exists(const std::string& path) override { return files_.exists(path); }
  i64 size(const std::string& path) override { return files_.size(path); }
  i64 free_bytes(const std::string& path) override { return files_.free_bytes(path); }
  std::vector<std::string> list(const std::string& path) override { return files_.list(path); }

 private:
  bool full(const std::string& path) {
    const std::string mark = "/checkpoints/step-";
    const std::size_t at = path.find(mark);
    if (at == std::string::npos) return false;
    const std::string step = path.substr(at + mark.size(), 12);
    const std::lock_guard lock(mutex_);
    if (step != step_) {
      step_ = step;
      full_ = begin_(++checkpoints_);
    }
    return full_;
  }
  Files& files_;
  Begin begin_;
  std::mutex mutex_;
  std::string step_;
  i64 checkpoints_ = 0;
  bool full_ = false;
};

}  // namespace

std::unique_ptr<Files> Chaos::faulty(Files& files) {
  if (std::none_of(events_.begin(), events_.end(),
                   [](const Pending& event) { return event.kind == Kind::disk_full; }))
    return nullptr;
  return std::make_unique<FullFiles>(files, [this](i64 checkpoint) {
    bool full = false;
    for (Pending& event : events_)
      if (event.kind == Kind::disk_full && event.open && rank_ == 0 &&
          event.checkpoint == checkpoint)
        full = take(event) || full;
    return full;
  });
}

}  // namespace cohort
