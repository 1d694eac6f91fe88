#!/usr/bin/env bash
# Storage that fails under a whole job: EIO of a write, an fsync, a rename (libfiu), once and for good;
# short writes; a folder that becomes read-only. The error is told with path, errno and sizes. Where
# it passes, the job ends with 0 and the weights of the undisturbed run; where it stays, with 4, and
# the last good checkpoint goes on to those weights.
command -v fiu-run >/dev/null || {
  echo "Skipped: no fiu-run (package fiu-utils)"
  exit 77
}
. "$(dirname "$0")/../system/lib.sh" "$@"

CONFIG=$CONFIGS/behavior-rnn.yaml
options() {  # options RUN [RETRIES]
  echo data.shards="$SET/behavior" runs="$RUNS" name="$1" train.epochs=12 device.threads=1 \
    checkpoint.every_steps=20 checkpoint.retries="${2:-3}"
}
# start RANK RUN [RETRIES]: two ranks in the background, RANK of which can be made to fail, until there
# is a checkpoint. A process under libfiu hangs now and then before it does anything: another try.
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
  timeout 10 fiu-ctrl -f "$WORK/control" -c "$1" "${pipe%.in}" >/dev/null || die "libfiu does not take: $1"
}
ends() {  # ends STATUS WHAT
  wait $job
  local status=$?
  [ $status = "$1" ] || die "exit $status instead of $1: $2"
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
read_only() {  # read_only RUN
  mount --bind "$RUNS/$1/checkpoints" "$RUNS/$1/checkpoints" 2>/dev/null &&
    mount -o remount,ro,bind "$RUNS/$1/checkpoints" 2>/dev/null
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
