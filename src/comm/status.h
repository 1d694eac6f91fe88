// What a rank does at the moment and where its seconds went. The threads of training publish it,
// the watchdog tells it to rank 0 once a second. Every call takes well under a microsecond.
#pragma once
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/types.h"

namespace cohort {

// What the main thread is in. `rows`, `compute` and `records` are work whose seconds tell a slow
// rank: `device` also holds what a GPU waits for others, which tells its own work itself; the rest
// is uneven by design.
enum class Phase : u8 { start, rows, compute, device, records, evaluation, checkpoint, end };

// One look at a rank. Seconds of work and waiting are sums since the start.
struct Beat {
  i64 step = 0;             // done
  Phase phase = Phase::start;
  bool waiting = false;     // for other ranks
  i64 bucket = 0;           // collectives given away in this step
  double idle = 0;          // seconds since a step was done, or a long phase began, went on or ended
  double compute = 0, reading = 0, waited = 0;
  double records = 0;       // writing metrics
  double device_wait = 0;   // of the main thread, for its device
  double device_work = 0;   // of a GPU alone, beside the main thread: Status::device_worked
  std::string file;         // read now, or most of the time since the last look; may be empty
  double open_read = 0;     // seconds that the oldest read has been under way; 0: none is
  double file_seconds = 0;  // that `file` took since the last look
  std::string device;
};

// "step 41, reading train-003.h5 for 12 s": what comes after a rank's name.
std::string describe(const Beat& beat);
// Whether this phase may take longer than a step.
bool is_long(Phase phase);

class Status {
 public:
  Status();
  void set_device(const std::string& text);
  // Of the main thread.
  void enter(Phase phase);
  void done(i64 step);
  void goes_on();           // a part of a long phase is done
  void device_worked(double seconds);   // a GPU's own work in the step that is done
  void bucket_given();
  void wait_begins();       // for other ranks; not nested
  void wait_ends();
  // Of the thread that prepares rows: while the main thread waits for it, this is waiting, too.
  void rows_wait(bool waits);
  // Of any thread: a read of a file, from begin to end.
  i64 read_begins(const std::string& file);
  void read_ends(i64 read);
  double busy_seconds() const;   // compute and reading

  Beat look();              // of the watchdog alone

 private:
  struct Read { i64 number; std::string file; double since; };
  void account() const;     // adds the time since the last change to where it belongs
  void progress();

  mutable std::mutex mutex_;
  mutable Beat now_;
  mutable double changed_;
  double progressed_;
  bool main_waits_ = false, rows_wait_ = false;
  i64 reads_ = 0;
  std::vector<Read> open_;
  std::vector<std::pair<std::string, double>> files_;   // seconds since the last look
};

// A read of a file by the thread that has this object.
class Reading {
 public:
  Reading(Status& status, const std::string& file)
      : status_(status), number_(status.read_begins(file)) {}
  ~Reading() { status_.read_ends(number_); }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

 private:
  Status& status_;
  i64 number_;
};

}  // namespace cohort
