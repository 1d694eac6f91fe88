#!/usr/bin/env bash
# A run that was killed or stopped goes on to the very bytes of a run that never was. The model has
# dropout, so the random numbers are part of this.
. "$(dirname "$0")/lib.sh" "$@"

CONFIG=$CONFIGS/sentiment-cnn.yaml
options() {
  echo data.shards="$SET/sentiment" runs="$RUNS" name="$1" train.epochs=2 device.threads=1 \
    checkpoint.every_steps=9
}

# equal RUN OTHER: last checkpoint and ledger.
equal() {
  local step
  step=$(last_step "$1")
  same_tensors "$RUNS/$1/checkpoints/step-$step" "$RUNS/$2/checkpoints/step-$step"
  same "$RUNS/$1/ledger.jsonl" "$RUNS/$2/ledger.jsonl"
}

# Every row of every epoch exactly once.
exactly_once() {
  awk 'match($0, /"rows":[0-9]+/) { rows = substr($0, RSTART + 7, RLENGTH - 7) }
       match($0, /"used":[0-9]+/) { if (substr($0, RSTART + 7, RLENGTH - 7) != rows) bad = 1; n++ }
       END { exit bad || n == 0 }' "$RUNS/$1/ledger.jsonl" || die "$1: a row was not used once"
  ! grep -q '"epoch":[^01]' "$RUNS/$1/ledger.jsonl" || die "$1: an epoch too many"
}

# kill_at RUN STEP [more arguments]: two ranks, both killed after a checkpoint of this step.
kill_at() {
  local run=$1 step=$2 job victims
  shift 2
  "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options "$run") "$@" >"$LOG" 2>&1 &
  job=$!
  wait_for_step "$run" "$step"
  victims=$(ranks)
  kill -9 $victims || die "no rank to kill"
  wait $job && die "a killed job ended with 0"
  [ "$((10#$(last_step "$run")))" -lt "$((10#$(last_step whole)))" ] || die "killed too late"
}

shard sentiment
expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options whole)
exactly_once whole

kill_at killed 20
kill_at killed 140 --resume
expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options killed) --resume
says "resumed from"
equal whole killed
exactly_once killed

expect 0 "$COHORT" train "$CONFIG" $(options alone)
exactly_once alone
"$COHORT" train "$CONFIG" $(options stopped) >"$LOG" 2>&1 &
job=$!
wait_for_step stopped 20
kill -TERM $job
wait $job
status=$?
[ $status = 75 ] || die "exit $status after SIGTERM instead of 75"
says "stopped on request"
[ "$((10#$(last_step stopped)))" -lt "$((10#$(last_step alone)))" ] || die "stopped too late"
expect 0 "$COHORT" verify "$RUNS/stopped/checkpoints/step-$(last_step stopped)"
expect 0 "$COHORT" train "$CONFIG" $(options stopped) --resume
says "resumed from"
equal alone stopped
exactly_once stopped
echo "resume passed"
