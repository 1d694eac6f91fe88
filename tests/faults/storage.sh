#!/usr/bin/env bash
# Storage that is slow or fails under a whole job. Slow: checkpoints that take longer than their
# interval, and the shards of a rank. Failing: EIO of a write, an fsync, a rename, once and for good;
# short writes; a folder that becomes read-only. The error is told with path, errno and
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
# control WORDS: what is done to the files of the rank under storage_faults.c, from now on.
control() { echo "$*" >"$WORK/control.new" && mv "$WORK/control.new" "$WORK/control"; }
# start RANK FOLDER RUN RETRIES KEY=VALUE...: two ranks in the background, RANK of which does with
# the files in FOLDER what `control` says.
start() {
  local rank=$1 folder=$2 run=$3 retries=$4 program=() r
  shift 4
  for r in 0 1; do
    [ "$r" = 0 ] || program+=(:)
    program+=(-n 1)
    [ "$r" != "$rank" ] || program+=(env LD_PRELOAD="$WORK/storage_faults.so"
      FAULT_FOLDER="$(realpath -m "$folder")" FAULT_CONTROL="$WORK/control")
    program+=("$COHORT" train "$CONFIG" $(options "$run" "$retries") "$@")
  done
  rm -f "$WORK/control.met"
  timeout -k 10 $((100 * PATIENCE)) "$MPIEXEC" "${program[@]}" >"$LOG" 2>&1 &
  job=$!
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
  control hold
  start "$1" "$checkpoints" "$run" 3
  until_there "it was held" [ -e "$WORK/control.met" ]
  until_there "step 100" grep -q '"step":100,' "$RUNS/$run/metrics.jsonl"
  [ -z "$(saved)" ] || die "a checkpoint of rank $1 was not held"
  ! ls -d "$checkpoints"/step-???????????? 2>/dev/null || die "an unfinished checkpoint exists"
  sleep 2
  control delay 30
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
  control delay 100
  start 1 "$RUNS/slow-stop/checkpoints" slow-stop 3
  wait_for_step slow-stop 20
  control hold
  until_there "it was held" [ -e "$WORK/control.met" ]
  before=$(last_step slow-stop)
  kill -TERM $(ranks | tail -n 1)
  sleep 1
  kill -0 $job 2>/dev/null || die "the job did not wait for its checkpoint"
  "$COHORT" checkpoint verify "$RUNS/slow-stop" >"$WORK/verified" 2>&1 ||
    die "not whole beside one that is being written: $(cat "$WORK/verified")"
  control delay 100
  ends 75 "SIGTERM during a slow checkpoint"
  says "stopped on request at step $((10#$(last_step slow-stop))) with a checkpoint"
  [ "$(last_step slow-stop)" -gt "$before" ] || die "no checkpoint after that of step $before"
  good_ones_go_on slow-stop
}

# The rank whose shards are slow is named, with the file, and training goes on to the same end.
slow_shards() {
  local named="warning .*rank 1 \(host .*\) is .*, [0-9]+ % of it in reading train-[0-9]+\.h5"
  control delay 200
  start 1 "$SET" slow-shards 3 train.blame_every_s=1
  until_there "a rank was named" grep -qE "$named" "$LOG"
  control delay 0
  ends 0 "slow shards"
  ends_as_whole slow-shards
}

"${CC:-cc}" -shared -fPIC -o storage_faults.so "$FOLDER/storage_faults.c" -ldl >"$LOG" 2>&1 ||
  skip "no C compiler: $(head -n 1 "$LOG")"
slow_checkpoints 1
slow_checkpoints 0
slow_stop
slow_shards

# Shards that cannot be read end the job and are named.
rm control
start 1 "$SET" reads 3
wait_for_step reads 20
control fail read 5
ends 3 "an error of reads of shards"
says "Input/output error"
grep -qE ' error rank 1 .*/[a-z]+-[0-9]+\.h5: field ' "$LOG" || die "rank and shard are not named"

# A checkpoint that cannot be read is told, and the one before it is gone on from.
rm control
start 0 "$RUNS/reread/checkpoints" reread 3
wait_for_step reread 60
kill -TERM $(ranks | head -n 1)
ends 75 "SIGTERM"
newest=$(last_step reread)
control once read 5
start 0 "$RUNS/reread/checkpoints" reread 3 --resume
ends 0 "an error of a read at a resume"
[ ! -e control ] || die "nothing was read"
says "skipped the checkpoint $RUNS/reread/checkpoints/step-$newest"
says "Input/output error"
grep -q "resumed from $RUNS/reread/checkpoints/" "$LOG" || die "not resumed"
ends_as_whole reread

# Each of these begins once there is a checkpoint.
begin() {  # begin RANK RUN RETRIES
  rm -f "$WORK/control"
  start "$1" "$RUNS/$2/checkpoints" "$2" "$3"
  wait_for_step "$2" 20
}

# passing RANK CALL TEXT: an error, once.
passing() {
  begin "$1" "$2" 3
  control once "$2" 5
  ends 0 "an error of $2 that passes"
  says "$3"
  says "Input/output error (errno 5)"
  says "try 1 of 3 follows"
  says "runs/$2/checkpoints/step-"
  ends_as_whole "$2"
}
passing 1 write "this rank's slice takes"
passing 1 fsync "fsync failed"
passing 0 rename "rename to"

# staying, likewise: from then on.
staying() {
  begin "$1" "$2-stays" 1
  control fail "$2" 5
  ends 4 "an error of $2 that stays"
  says "given up, training goes on; older checkpoints are untouched"
  says "the last checkpoint could not be written"
  says "$3"
  rm "$WORK/control"
  good_ones_go_on "$2-stays"
}
staying 1 write "this rank's slice takes"
staying 1 fsync "fsync failed"
staying 0 rename "rename to"

# Writes that take a part at a time are no error.
begin 1 short 3
control short
ends 0 "short writes"
[ -e "$WORK/control.met" ] || die "no write was short"
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
  begin 1 $run $([ $run = passes ] && echo 4 || echo 1)
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
