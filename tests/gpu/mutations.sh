#!/usr/bin/env bash
# Shows what the tests detect: builds test_cuda_on_host with each fault of mutations.txt (or those that
# are named), and wants the tests named there red with it and green without.
#   mutations.sh CMAKE BUILD_FOLDER [NAME...]
set -u
ulimit -c 0
CMAKE=$1
BUILD=$2
LIST=$(dirname "$0")/mutations.txt
SOUND=$BUILD/tests/gpu/test_cuda_on_host
shift 2
LOG=$(mktemp)
trap 'rm -f "$LOG"' EXIT
declare -A sound

die() {
  echo "FAILED: $*" >&2
  tail -n 30 "$LOG" >&2
  exit 1
}

# In a shell of its own: it tells of a program that aborts.
run() {
  (timeout -k 5 300 "$1" --gtest_filter="$2" --gtest_brief=1 --gtest_fail_fast; exit $?) >"$LOG" 2>&1
}

# The tests of a filter exist, and pass without the fault.
check_sound() {
  [ -z "${sound[$1]:-}" ] || return 0
  run "$SOUND" "$1" || die "without a fault: $1"
  grep -qE '^\[  PASSED  \] [1-9]' "$LOG" || die "no test is named $1"
  sound[$1]=yes
}

what_failed() {
  local test
  test=$(sed -n "s/^\[  FAILED  \] \([A-Za-z_\/]*\.[^ ,]*\).*/\1/p" "$LOG" | head -n 1)
  [ -n "$test" ] || test=$(grep -m 1 -o 'gpu_on_host: .*' "$LOG" | cut -c 1-80)
  echo "${test:-a crash}"
}

[ $# -gt 0 ] || set -- $(awk '/^mutant / { print $2 }' "$LIST")
survived=
for name in "$@"; do
  filter=$(awk -v name="$name" '/^mutant / { of = $2 } of == name && $1 == "kills" { print $2 }' "$LIST")
  [ -n "$filter" ] || die "$name is not in $LIST, or kills nothing"
  "$CMAKE" --build "$BUILD" --target "mutant_$name" >"$LOG" 2>&1 || die "$name cannot be built"
  check_sound "$filter"
  if run "$BUILD/tests/gpu/mutant_$name" "$filter"; then
    survived="$survived $name"
    echo "SURVIVED $name"
  else
    echo "killed   $name by $(what_failed)"
  fi
  rm -f "$BUILD/tests/gpu/mutant_$name"
done
[ -z "$survived" ] || die "no test of those named detects:$survived"
echo "$# faults, all detected"
