#include "app/handoff.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>

#include "app/child.h"
#include "app/publish.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "store/files.h"
#include "train/json_lines.h"

namespace cohort {
namespace {

struct Wanted {
  std::string checkpoint;
  i64 step = 0;
  bool best = false;
  std::string identity;   // of its manifest: a step may be trained again after a rollback
};

class ChildHandoff final : public Handoff {
 public:
  ChildHandoff(HandoffConfig config, const std::string& run)
      : config_(std::move(config)), scratch_(run + "/handoff"), log_(run + "/logs/handoff.log"),
        done_(run + "/handoffs.jsonl") {}
  ~ChildHandoff() override {
    if (child_ <= 0) return;
    kill(child_, SIGKILL);   // the repository is whole whatever is killed
    reap(0);
  }

  void begin(const std::string& checkpoint, i64 step, bool best) override {
    guarded([&] {
      const std::string manifest = real_files().read(checkpoint + "/manifest.json");
      Wanted wanted{checkpoint, step, best, to_hex(hash_text(manifest))};
      if (done_before(wanted)) return;
      std::erase_if(waiting_, [&](const Wanted& other) { return other.best == best; });
      waiting_.insert(best ? waiting_.begin() : waiting_.end(), std::move(wanted));
    });
    poll();
  }
  void poll() override { guarded([&] { advance(WNOHANG); }); }
  void wait() override {
    while (child_ > 0 || !waiting_.empty()) guarded([&] { advance(0); });
  }
  std::vector<i64> steps() const override {
    std::vector<i64> all;
    if (child_ > 0) all.push_back(under_way_.step);
    for (const Wanted& wanted : waiting_) all.push_back(wanted.step);
    std::sort(all.begin(), all.end());
    return all;
  }
  const HandoffTotals& totals() const override { return totals_; }

 private:
  // What fails is one hand-off: those that wait go on waiting.
  template <class Work>
  void guarded(Work work) {
    try {
      work();
    } catch (const std::exception& e) {
      ++totals_.failed;
      log::warn("hand-off to {}: {}; training goes on", config_.repo, e.what());
    }
  }

  void advance(int flags) {
    if (child_ > 0) {
      const std::optional<int> status = reap(flags);
      if (!status) return;
      tell(*status);
    }
    if (!waiting_.empty()) start();
  }

  // How the child ended; nothing while it has not.
  std::optional<int> reap(int flags) {
    int status = 0;
    pid_t ended = 0;
    do {
      ended = waitpid(child_, &status, flags);
    } while (ended < 0 && errno == EINTR);
    if (ended == 0) return std::nullopt;
    child_ = 0;
    return ended < 0 ? -1 : status;
  }

  void start() {
    under_way_ = std::move(waiting_.front());
    waiting_.erase(waiting_.begin());
    Files& files = real_files();
    files.remove(scratch_);   // of a run that was killed
    files.make_folder(parent_of(log_));
    log_from_ = files.exists(log_) ? files.size(log_) : 0;
    const std::string bundle = fmt::format("{}/step-{}", scratch_, under_way_.step);
    child_ = start_child({{this_program(), "handoff", under_way_.checkpoint, bundle,
                           "--repo", config_.repo, "--metric", config_.metric,
                           "--max-worse", fmt::format("{}", config_.max_worse),
                           "--keep", std::to_string(config_.keep)}, {}, log_, -1});
  }

  bool done_before(const Wanted& wanted) const {
    const std::vector<nlohmann::json> lines = read_json_lines(real_files(), done_);
    return std::any_of(lines.begin(), lines.end(), [&](const nlohmann::json& line) {
      return line.value("checkpoint", "") == wanted.identity && line.value("repo", "") == config_.repo;
    });
  }

  void note_done(bool promoted) {
    const nlohmann::ordered_json line = {{"time", utc_now()},
                                         {"step", under_way_.step},
                                         {"checkpoint", under_way_.identity},
                                         {"repo", config_.repo},
                                         {"promoted", promoted}};
    const std::unique_ptr<FileWriter> file = real_files().append(done_);
    const std::string text = line.dump() + "\n";
    file->write(text.data(), static_cast<i64>(text.size()));
    file->close();
  }

  void tell(int status) {
    const int code = status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    const std::string text = real_files().read(log_);
    const std::string since =
        text.substr(std::min(text.size(), static_cast<std::size_t>(log_from_)));
    if (code == 0 || code == not_promoted) {
      ++(code == 0 ? totals_.promoted : totals_.not_promoted);
      log::info("hand-off of step {}: {}", under_way_.step, last_message(since, "info"));
      note_done(code == 0);
      return;
    }
    ++totals_.failed;
    const std::string error = last_message(since, "error");
    log::warn("hand-off of step {} failed ({}): {}; training goes on, {} has all of it",
              under_way_.step,
              code >= 0 ? fmt::format("exit {}", code)
                        : status >= 0 ? fmt::format("signal {}", WTERMSIG(status)) : "lost",
              error.empty() ? "it left no message" : error, log_);
  }

  HandoffConfig config_;
  std::string scratch_, log_, done_;
  i64 log_from_ = 0;
  pid_t child_ = 0;
  Wanted under_way_;
  std::vector<Wanted> waiting_;   // a best one, which goes first, and another
  HandoffTotals totals_;
};

}  // namespace

std::unique_ptr<Handoff> make_handoff(const HandoffConfig& config, const std::string& run) {
  return std::make_unique<ChildHandoff>(config, run);
}

}  // namespace cohort
