# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it, which are called as: SCRIPT COHORT SOURCE_FOLDER MPIEXEC
set -u
[ $# = 3 ] || { echo "usage: $0 COHORT SOURCE_FOLDER MPIEXEC" >&2; exit 2; }
COHORT=$1
CONFIGS=$2/configs
SHARDS=$2/shards
MPIEXEC=$3
WORK=$(mktemp -d)
cd "$WORK" || exit 1
SET=$WORK/sets
RUNS=$WORK/runs
LOG=$WORK/log
PATIENCE=${COHORT_PATIENCE:-1}  # how many times slower than usual the program may be

# The ranks of this test, by what /proc says: one process id a line.
ranks() {
  local folder
  for folder in /proc/[0-9]*; do
    [ "$(cat "$folder/comm" 2>/dev/null)" = cohort ] || continue
    tr '\0' ' ' <"$folder/cmdline" 2>/dev/null | grep -qF "$WORK" && echo "${folder#/proc/}"
  done
  return 0
}

finish() {
  local status=$? left
  left=$(ranks)
  [ -z "$left" ] || kill -9 $left 2>/dev/null
  cd / && rm -rf "$WORK"
  exit "$status"
}
trap finish EXIT

die() {
  echo "FAILED: $*" >&2
  if [ -s "$LOG" ]; then
    echo "--- the last command said:" >&2
    tail -n 30 "$LOG" >&2
  fi
  exit 1
}

# skip REASON: this test cannot be had here.
skip() { echo "Skipped: $*"; exit 77; }

# expect STATUS COMMAND...: runs it with its output in $LOG. A first SIGTERM is a request to ranks,
# and one that hangs cannot answer it: they are killed 10 s later.
expect() {
  local wanted=$1 status
  shift
  timeout -k 10 $((100 * PATIENCE)) "$@" >"$LOG" 2>&1
  status=$?
  [ "$status" = "$wanted" ] || die "exit $status instead of $wanted: $*"
}

says() { grep -qF -- "$1" "$LOG" || die "does not say: $1"; }

# error_lines N PATTERN: N messages of errors in all, every one of them matching.
error_lines() {
  local all right
  all=$(grep -cE '^[^ ]+Z error' "$LOG")
  right=$(grep -E '^[^ ]+Z error' "$LOG" | grep -cE -- "$2")
  [ "$all" = "$1" ] || die "$all errors are told instead of $1"
  [ "$right" = "$1" ] || die "an error does not match: $2"
}

no_loss() { ! grep -q 'is gone' "$LOG" || die "a rank is told lost that was not"; }

same() { cmp -- "$1" "$2" >"$LOG" 2>&1 || die "$1 and $2 differ"; }

# last_step RUN: of its newest checkpoint, 12 digits.
last_step() { ls -d "$RUNS/$1"/checkpoints/step-???????????? | tail -n 1 | sed 's/.*-//'; }

# losses RUN [RUNS]: "step loss" of every training line.
losses() {
  sed -nE 's/.*"step":([0-9]+),.*"loss":([^,]*),.*/\1 \2/p' "${2:-$RUNS}/$1/metrics.jsonl"
}

# same_tensors CHECKPOINT OTHER: files of tensors, of the same number of ranks.
same_tensors() {
  local file
  for file in "$1"/tensors-*.safetensors; do
    same "$file" "$2/${file##*/}"
  done
}

# ends_as_whole RUN: at the step of the run `whole`, with its tensors and its ledger.
ends_as_whole() {
  local step
  step=step-$(last_step whole)
  [ "step-$(last_step "$1")" = "$step" ] || die "$1 did not end at $step"
  same_tensors "$RUNS/whole/checkpoints/$step" "$RUNS/$1/checkpoints/$step"
  same "$RUNS/whole/ledger.jsonl" "$RUNS/$1/ledger.jsonl"
}

# shard NAME...: demo data, and a shard set of each.
shard() {
  local name
  expect 0 "$COHORT" shard --demo "$WORK/raw"
  for name in "$@"; do
    expect 0 "$COHORT" shard "$SHARDS/demo-$name.yaml" root="$WORK/raw" output="$SET/$name"
  done
}

# wait_for_step RUN STEP: until a checkpoint of this step or a later one exists.
wait_for_step() {
  local i folder step
  for ((i = 0; i < 3000 * PATIENCE; i++)); do
    for folder in "$RUNS/$1"/checkpoints/step-*[0-9]; do
      step=${folder##*-}
      case $step in
        *[!0-9]*) continue ;;
      esac
      [ "$((10#$step))" -lt "$2" ] || return 0
    done
    sleep 0.02
  done
  die "no checkpoint of step $2 in $1"
}

# serve ARGUMENT...: starts a server in the background: $SERVER, and $URL when it takes requests.
serve() {
  local i
  : >"$WORK/url"
  "$COHORT" serve "$@" --port 0 >"$WORK/url" 2>"$WORK/server.log" &
  SERVER=$!
  for ((i = 0; i < 600 * PATIENCE; i++)); do
    URL=$(cat "$WORK/url")
    [ -z "$URL" ] || return 0
    kill -0 "$SERVER" 2>/dev/null || break
    sleep 0.1
  done
  cp "$WORK/server.log" "$LOG"
  die "no server of $*"
}

# stopped: the server has been told to stop, and does so well.
stopped() {
  wait "$SERVER"
  local status=$?
  cp "$WORK/server.log" "$LOG"
  [ "$status" = 0 ] || die "the server ended with $status"
  says "all that was begun is answered"
}

# wait_for_handoff RUN PID: until the training has begun a hand-off.
wait_for_handoff() {
  until [ -e "$RUNS/$1/handoff" ]; do
    kill -0 "$2" 2>/dev/null || die "$1 ended without a hand-off"
    sleep 0.01
  done
}
