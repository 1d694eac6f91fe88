#!/usr/bin/env bash
# A rank that hangs, and one that is stopped, is named by the others: with host, process, step and
# what it was doing. All ranks end with 5, and the run goes on from its checkpoint.
. "$(dirname "$0")/../system/lib.sh" "$@"

shard behavior
TIMEOUT=$((3 * PATIENCE))
options() {
  echo data.shards="$SET/behavior" runs="$RUNS" name="$1" train.epochs=100000 device.threads=1 \
    train.step_timeout_s=$TIMEOUT checkpoint.every_steps=20
}
rank_of() {
  tr '\0' '\n' <"/proc/$1/environ" |
    sed -n -e 's/^OMPI_COMM_WORLD_RANK=//p' -e 's/^PMI_RANK=//p' | head -n 1
}

# Every rank in turn hangs by itself.
for rank in 0 1 2; do
  expect 5 "$MPIEXEC" -n 3 "$COHORT" train "$CONFIGS/behavior-rnn.yaml" $(options "hang$rank") \
    --chaos "hang-rank=$rank@step=300"
  grep -qE " error rank 0 .*step 300 was not done in .*: rank $rank \(host [^ ]+, pid [0-9]+, cpu .*\) is at step 300, computing" \
    "$LOG" || die "rank $rank is not named"
  no_loss
  [ -z "$(ranks)" ] || die "ranks outlive their job"
done
expect 5 "$COHORT" train "$CONFIGS/behavior-rnn.yaml" $(options alone) --chaos hang-rank=0@step=3
says "step 3 was not done in"

# A process is stopped: it cannot speak, the others do. Rank 0 is missed by all others.
for rank in 0 2; do
  timeout -k 10 $((100 * PATIENCE)) "$MPIEXEC" -n 3 "$COHORT" train "$CONFIGS/behavior-rnn.yaml" \
    $(options "stop$rank") >"$LOG" 2>&1 &
  job=$!
  wait_for_step "stop$rank" 20
  victim=''
  for process in $(ranks); do
    [ "$(rank_of "$process")" = $rank ] && victim=$process
  done
  [ -n "$victim" ] || die "no rank $rank to stop"
  kill -STOP "$victim"
  wait $job
  status=$?
  [ $status = 5 ] || die "exit $status instead of 5 when rank $rank was stopped"
  grep -qE " error rank [0-9] .*: rank $rank \(host [^ ]+, pid $victim[^)]*\) has said nothing for .*: its process is stopped" \
    "$LOG" || die "the stopped rank $rank is not named"
done

# Storage that does not answer while a job starts.
cp -r "$SET/behavior" stuck
rm stuck/manifest.json
mkfifo stuck/manifest.json
expect 4 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIGS/behavior-rnn.yaml" $(options start) \
  data.shards="$PWD/stuck" train.step_timeout_s=1
error_lines 1 'rank 0 \(host .*\) is at step 1, starting, reading .*/stuck for'
[ -z "$(ranks)" ] || die "ranks outlive their job"

# The run goes on, and what was rehearsed does not happen again.
expect 0 "$MPIEXEC" -n 3 "$COHORT" train "$CONFIGS/behavior-rnn.yaml" $(options hang1) --resume \
  train.epochs=1 --chaos "hang-rank=1@step=300"
says "resumed from"
echo "hang passed"
