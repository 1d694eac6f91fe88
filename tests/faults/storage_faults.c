// Preloaded into a rank: what becomes of its reads, writes, fsyncs and renames of files under the
// folder FAULT_FOLDER is said by the file FAULT_CONTROL at the time of the call:
//   delay MS            each takes as many milliseconds more
//   hold                each waits until the file says otherwise
//   fail CALL ERRNO     read, write, fsync or rename fails with this number, from now on
//   once CALL ERRNO     likewise, the first time only: the file is removed by the call that failed
//   short               every second write takes half of what it is given
// Without the file all goes well. FAULT_CONTROL.met tells that a call waits, or took half.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void sleep_ms(long ms) {
  struct timespec left = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

// What the control file says: "" where there is none. By system calls, which nothing stands in
// front of.
static void read_control(char* text, size_t room) {
  const char* control = getenv("FAULT_CONTROL");
  text[0] = 0;
  if (control == NULL) return;
  const long handle = syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC);
  if (handle < 0) return;
  const long n = syscall(SYS_read, handle, text, room - 1);
  syscall(SYS_close, handle);
  text[n > 0 ? n : 0] = 0;
}

static void tell_met(void) {
  char met[PATH_MAX];
  snprintf(met, sizeof met, "%s.met", getenv("FAULT_CONTROL"));
  const long handle = syscall(SYS_openat, AT_FDCWD, met, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (handle >= 0) syscall(SYS_close, handle);
}

static int is_concerned(const char* path) {
  const char* folder = getenv("FAULT_FOLDER");
  const size_t length = folder == NULL ? 0 : strlen(folder);
  return length > 0 && strncmp(path, folder, length) == 0 && path[length] == '/';
}

// The error number that `call` on `path` fails with after what the control file asks for; 0: none.
static int fault(const char* call, const char* path) {
  char text[64], word[16], name[16];
  long number = 0;
  if (!is_concerned(path)) return 0;
  for (read_control(text, sizeof text); strncmp(text, "hold", 4) == 0;) {
    tell_met();
    sleep_ms(10);
    read_control(text, sizeof text);
  }
  if (sscanf(text, "delay %ld", &number) == 1) sleep_ms(number);
  if (sscanf(text, "%15s %15s %ld", word, name, &number) != 3 || strcmp(name, call) != 0) return 0;
  if (strcmp(word, "fail") == 0) return (int)number;
  if (strcmp(word, "once") == 0 && syscall(SYS_unlinkat, AT_FDCWD, getenv("FAULT_CONTROL"), 0) == 0)
    return (int)number;
  return 0;
}

static void path_of(int handle, char* path, size_t room) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
  const ssize_t n = readlink(link, path, room - 1);
  path[n > 0 ? n : 0] = 0;
}

// Likewise, for the file behind a handle: errno is that of the fault, or untouched.
static int fails(const char* call, int handle) {
  char path[PATH_MAX];
  const int before = errno;
  path_of(handle, path, sizeof path);
  const int number = fault(call, path);
  errno = number != 0 ? number : before;
  return number != 0;
}

// The bytes that a write of so many takes.
static size_t taken(int handle, size_t bytes) {
  static atomic_uint calls;
  char text[64], path[PATH_MAX];
  path_of(handle, path, sizeof path);
  read_control(text, sizeof text);
  if (strncmp(text, "short", 5) != 0 || !is_concerned(path) || bytes < 2) return bytes;
  if (atomic_fetch_add(&calls, 1) % 2 != 0) return bytes;
  tell_met();
  return bytes / 2;
}

#define NEXT(type, name) type next = (type)dlsym(RTLD_NEXT, name)

typedef ssize_t (*ReadFn)(int, void*, size_t);
typedef ssize_t (*ReadAtFn)(int, void*, size_t, off_t);
typedef ssize_t (*WriteFn)(int, const void*, size_t);
typedef ssize_t (*WriteAtFn)(int, const void*, size_t, off_t);
typedef int (*SyncFn)(int);
typedef int (*RenameFn)(const char*, const char*);

ssize_t read(int handle, void* to, size_t bytes) {
  NEXT(ReadFn, "read");
  return fails("read", handle) ? -1 : next(handle, to, bytes);
}
ssize_t pread(int handle, void* to, size_t bytes, off_t offset) {
  NEXT(ReadAtFn, "pread");
  return fails("read", handle) ? -1 : next(handle, to, bytes, offset);
}
ssize_t pread64(int handle, void* to, size_t bytes, off64_t offset) {
  NEXT(ReadAtFn, "pread64");
  return fails("read", handle) ? -1 : next(handle, to, bytes, offset);
}
ssize_t write(int handle, const void* from, size_t bytes) {
  NEXT(WriteFn, "write");
  return fails("write", handle) ? -1 : next(handle, from, taken(handle, bytes));
}
ssize_t pwrite(int handle, const void* from, size_t bytes, off_t offset) {
  NEXT(WriteAtFn, "pwrite");
  return fails("write", handle) ? -1 : next(handle, from, taken(handle, bytes), offset);
}
ssize_t pwrite64(int handle, const void* from, size_t bytes, off64_t offset) {
  NEXT(WriteAtFn, "pwrite64");
  return fails("write", handle) ? -1 : next(handle, from, taken(handle, bytes), offset);
}
int fsync(int handle) {
  NEXT(SyncFn, "fsync");
  return fails("fsync", handle) ? -1 : next(handle);
}
int rename(const char* from, const char* to) {
  NEXT(RenameFn, "rename");
  char path[PATH_MAX];
  const int number = realpath(from, path) == NULL ? 0 : fault("rename", path);
  if (number == 0) return next(from, to);
  errno = number;
  return -1;
}
