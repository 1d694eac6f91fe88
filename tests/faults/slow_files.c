// Preloaded into a rank: each read, write and fsync of a file under the folder SLOW_FOLDER takes as
// many milliseconds more as the file SLOW_CONTROL says at the time. Where that says "hold" they
// wait until it says otherwise, and the file SLOW_CONTROL.held tells that one waits.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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

// By system calls, which nothing stands in front of.
static long said(const char* control) {
  char text[32] = "";
  const long handle = syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC);
  if (handle < 0) return 0;
  const long n = syscall(SYS_read, handle, text, sizeof text - 1);
  syscall(SYS_close, handle);
  if (n <= 0) return 0;
  return strncmp(text, "hold", 4) == 0 ? -1 : atol(text);
}

static void delay(int handle) {
  const char* folder = getenv("SLOW_FOLDER");
  const char* control = getenv("SLOW_CONTROL");
  char link[64], path[PATH_MAX], held[PATH_MAX];
  const int before = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
  const ssize_t n = readlink(link, path, sizeof path - 1);
  if (folder != NULL && control != NULL && n > 0) {
    path[n] = 0;
    const size_t length = strlen(folder);
    if (strncmp(path, folder, length) == 0 && path[length] == '/') {
      long ms;
      while ((ms = said(control)) < 0) {
        snprintf(held, sizeof held, "%s.held", control);
        const long made = syscall(SYS_openat, AT_FDCWD, held, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (made >= 0) syscall(SYS_close, made);
        sleep_ms(10);
      }
      sleep_ms(ms);
    }
  }
  errno = before;
}

#define NEXT(type, name) type next = (type)dlsym(RTLD_NEXT, name)

typedef ssize_t (*ReadFn)(int, void*, size_t);
typedef ssize_t (*ReadAtFn)(int, void*, size_t, off_t);
typedef ssize_t (*WriteFn)(int, const void*, size_t);
typedef ssize_t (*WriteAtFn)(int, const void*, size_t, off_t);
typedef int (*SyncFn)(int);

ssize_t read(int handle, void* to, size_t bytes) {
  NEXT(ReadFn, "read");
  delay(handle);
  return next(handle, to, bytes);
}
ssize_t pread(int handle, void* to, size_t bytes, off_t offset) {
  NEXT(ReadAtFn, "pread");
  delay(handle);
  return next(handle, to, bytes, offset);
}
ssize_t pread64(int handle, void* to, size_t bytes, off64_t offset) {
  NEXT(ReadAtFn, "pread64");
  delay(handle);
  return next(handle, to, bytes, offset);
}
ssize_t write(int handle, const void* from, size_t bytes) {
  NEXT(WriteFn, "write");
  delay(handle);
  return next(handle, from, bytes);
}
ssize_t pwrite(int handle, const void* from, size_t bytes, off_t offset) {
  NEXT(WriteAtFn, "pwrite");
  delay(handle);
  return next(handle, from, bytes, offset);
}
ssize_t pwrite64(int handle, const void* from, size_t bytes, off64_t offset) {
  NEXT(WriteAtFn, "pwrite64");
  delay(handle);
  return next(handle, from, bytes, offset);
}
int fsync(int handle) {
  NEXT(SyncFn, "fsync");
  delay(handle);
  return next(handle);
}
