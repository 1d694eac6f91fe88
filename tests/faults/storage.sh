#!/usr/bin/env bash
# Storage that is slow or fails under a whole job. Slow: checkpoints that take longer than their
# interval, and the shards of a rank. Failing (libfiu): EIO of a write, an fsync, a rename, once and
# for good; short writes; a folder that becomes read-only. The error is told with path, errno and
# sizes. Where it passes, the job ends with 0 and the weights of the undisturbed run; where it
# stays, with 4, and the last good checkpoint goes on to those weights.
FOLDER=$(cd "$(dirname "$0")" && pwd)
. "$FOLDER/../system/lib.sh" "$@"
# AddressSanitizer is not told to be the first: what fails for the ranks is preloaded.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0

CONFIG=$CONFIGS/behavior-rnn.yaml
options() {  # options RUN [RETRIES]
  echo data.shards="$SET/behavior" runs="$RUNS" name="$1" train.epochs=12 device.threads=1 \
    checkpoint.every_steps=20 checkpoint.retries="${2:-3}"
}
ends() {  # ends STATUS WHAT
  wait $job
  local status=$?
  [ $status = "$1" ] || die "exit $status instead of $1: $2"
}
# start RANK RUN [RETRIES]: two ranks in the background, RANK of which can be made to fail, until
# there is a checkpoint. A process under libfiu hangs now and then before it does anything: another
# try.
start() {
  local rank=$1 program=() r try i
  for r in 0 1; do
    [ "$r" = 0 ] || program+=(:)
    program+=(-n 1)
    [ "$r" != "$rank" ] || program+=(fiu-run -x -f "$WORK/control")
    program+=("$COHORT" train "$CONFIG" $(options "${@:2}"))
  done
  for try in 1 2 3 4 5; do
    rm -f "$WORK"/control-*
    timeout -k 10 $((100 * PATIENCE)) "$MPIEXEC" "${program[@]}" >"$LOG" 2>&1 &
    job=$!
    for ((i = 0; i < 100 * PATIENCE; i++)); do
      if [ -e "$RUNS/$2" ]; then
        wait_for_step "$2" 20
        return
      fi
      sleep 0.1
    done
    kill -9 $(ranks) 2>/dev/null
    wait $job
  done
  die "5 starts under libfiu did nothing"
}
# control COMMAND: of libfiu, to the rank that was started under it.
control() {
  local pipe
  pipe=$(ls "$WORK"/control-*.in | tail -n 1)
  pipe=${pipe##*/control-}
  timeout 10 fiu-ctrl -f "$WORK/control" -c "$1" "${pipe%.in}" >/dev/null ||
    die "libfiu does not take: $1"
}
# good_ones_go_on RUN: what there is is whole, and leads to the end.
good_ones_go_on() {
  expect 0 "$COHORT" checkpoint verify "$RUNS/$1"
  expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options "$1") --resume
  says "resumed from"
  ends_as_whole "$1"
}

shard behavior
expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options whole)

# slow_storage RANK RUN FOLDER KEY=VALUE...: two ranks in the background. For RANK, what is in
# FOLDER is as slow as the file `control` says; see slow_files.c.
slow_storage() {
  local rank=$1 run=$2 folder=$3 program=() r
  shift 3
  for r in 0 1; do
    [ "$r" = 0 ] || program+=(:)
    program+=(-n 1)
    [ "$r" != "$rank" ] || program+=(env LD_PRELOAD="$WORK/slow_files.so"
      SLOW_FOLDER="$(realpath -m "$folder")" SLOW_CONTROL="$WORK/control")
    program+=("$COHORT" train "$CONFIG" $(options "$run") "$@")
  done
  rm -f "$WORK/control.held"
  timeout -k 10 $((100 * PATIENCE)) "$MPIEXEC" "${program[@]}" >"$LOG" 2>&1 &
  job=$!
}
# until_there WHAT COMMAND...: that the job does while it is under way.
until_there() {
  local what=$1
  shift
  while ! "$@"; do
    kill -0 $job 2>/dev/null || die "the job ended before $what"
    sleep 0.02
  done
}
saved() { sed -n 's/.*checkpoint of step \([0-9]*\):.*/\1/p' "$LOG"; }

# The checkpoint of step 20 does not come to its end until step 100 is done: training goes on, the
# ones that are due meanwhile are taken later. The others take longer than 20 steps, too.
slow_checkpoints() {  # slow_checkpoints RANK
  local run=slow-$1 checkpoints=$RUNS/slow-$1/checkpoints steps
  echo hold >"$WORK/control"
  slow_storage "$1" "$run" "$checkpoints"
  until_there "it was held" [ -e "$WORK/control.held" ]
  until_there "step 100" grep -q '"step":100,' "$RUNS/$run/metrics.jsonl"
  [ -z "$(saved)" ] || die "a checkpoint of rank $1 was not held"
  ! ls -d "$checkpoints"/step-???????????? 2>/dev/null || die "an unfinished checkpoint exists"
  sleep 2
  echo 30 >"$WORK/control"
  ends 0 "slow checkpoints of rank $1"
  steps=($(saved))
  [ "${steps[0]}" = 20 ] || die "the first checkpoint is of step ${steps[0]} instead of 20"
  [ "${steps[1]}" -ge 100 ] || die "a checkpoint of step ${steps[1]} began during another"
  grep -q 'checkpoint of step 20:.* in [1-9]' "$LOG" || die "the log does not tell the seconds"
  grep -qE '"slices_s": [1-9]' "$RUNS/$run/run.json" || die "run.json does not tell the seconds"
  says "rank $1: slow storage: its slice of the checkpoint of step 20, "
  ! grep -q 'not written' "$LOG" || die "slow storage is taken for an error"
  ends_as_whole "$run"
  expect 0 "$COHORT" checkpoint verify "$RUNS/$run"
}

# Asked to stop while a checkpoint is being written, a job waits for it and writes one of its last
# step.
slow_stop() {
  local before
  echo 100 >"$WORK/control"
  slow_storage 1 slow-stop "$RUNS/slow-stop/checkpoints"
  wait_for_step slow-stop 20
  echo hold >"$WORK/control"
  until_there "it was held" [ -e "$WORK/control.held" ]
  before=$(last_step slow-stop)
  kill -TERM $(ranks | tail -n 1)
  sleep 1
  kill -0 $job 2>/dev/null || die "the job did not wait for its checkpoint"
  "$COHORT" checkpoint verify "$RUNS/slow-stop" >"$WORK/verified" 2>&1 ||
    die "not whole beside one that is being written: $(cat "$WORK/verified")"
  echo 100 >"$WORK/control"
  ends 75 "SIGTERM during a slow checkpoint"
  says "stopped on request at step $((10#$(last_step slow-stop))) with a checkpoint"
  [ "$(last_step slow-stop)" -gt "$before" ] || die "no checkpoint after that of step $before"
  good_ones_go_on slow-stop
}

# The rank whose shards are slow is named, with the file, and training goes on to the same end.
slow_shards() {
  local named="warning .*rank 1 \(host .*\) is .*, [0-9]+ % of it in reading train-[0-9]+\.h5"
  echo 50 >"$WORK/control"
  slow_storage 1 slow-shards "$SET" train.blame_every_s=1
  until_there "a rank was named" grep -qE "$named" "$LOG"
  echo 0 >"$WORK/control"
  ends 0 "slow shards"
  ends_as_whole slow-shards
}

if "${CC:-cc}" -shared -fPIC -o slow_files.so "$FOLDER/slow_files.c" -ldl 2>"$LOG"; then
  slow_checkpoints 1
  slow_checkpoints 0
  slow_stop
  slow_shards
else
  echo "Skipped in part: slow storage needs a C compiler: $(head -n 1 "$LOG")"
fi

command -v fiu-run >/dev/null || {
  echo "Skipped: no fiu-run (package fiu-utils)"
  exit 77
}

# passing RUN RANK POINT TEXT: an error, once.
passing() {
  start "$2" "$1"
  control "enable name=$3,failinfo=5,onetime"
  ends 0 "an error of $3 that passes"
  says "$4"
  says "Input/output error (errno 5)"
  says "try 1 of 3 follows"
  says "runs/$1/checkpoints/step-"
  ends_as_whole "$1"
}
passing write 1 posix/io/rw/write "this rank's slice takes"
passing fsync 1 posix/io/sync/fsync "fsync failed"
passing rename 0 posix/io/dir/rename "rename to"

# staying, likewise: from then on. (Not of write, which MPI itself needs.)
staying() {
  start "$2" "$1" 1
  control "enable name=$3,failinfo=5"
  ends 4 "an error of $3 that stays"
  says "given up, training goes on; older checkpoints are untouched"
  says "the last checkpoint could not be written"
  says "$4"
  good_ones_go_on "$1"
}
staying fsync-stays 1 posix/io/sync/fsync "fsync failed"
staying rename-stays 0 posix/io/dir/rename "rename to"

# Writes that take a part at a time are no error. (MPI's own must be whole at its end.)
start 1 short
control "enable_random name=posix/io/rw/write/reduce,probability=0.5"
wait_for_step short 200
control "disable name=posix/io/rw/write/reduce"
ends 0 "short writes"
! grep -q 'not written' "$LOG" || die "a short write is taken for an error"
ends_as_whole short

# Read-only, which root must respect too.
# It is refused while a file is being written.
read_only() {  # read_only RUN
  local folder=$RUNS/$1/checkpoints i
  mount --bind "$folder" "$folder" 2>/dev/null || return
  for ((i = 0; i < 100; i++)); do
    ! mount -o remount,ro,bind "$folder" 2>/dev/null || return 0
  done
  umount -l "$folder"
  return 1
}
mounted=
trap '[ -z "$mounted" ] || umount -l "$mounted"; finish' EXIT
for run in passes stays; do
  start 1 $run $([ $run = passes ] && echo 4 || echo 1)
  mounted=$RUNS/$run/checkpoints
  read_only $run || {
    mounted=
    wait $job
    echo "Skipped in part: a read-only folder needs root"
    break
  }
  for ((i = 0; i < 500 * PATIENCE; i++)); do
    grep -q 'checkpoint not written' "$LOG" && break
    sleep 0.02
  done
  [ $run = stays ] || { umount -l "$mounted" && mounted=; }
  ends $([ $run = passes ] && echo 0 || echo 4) "a read-only folder"
  says "Read-only file system (errno 30)"
  [ -z "$mounted" ] || umount -l "$mounted"
  mounted=
  if [ $run = passes ]; then ends_as_whole $run; else good_ones_go_on $run; fi
done
echo "storage passed"
