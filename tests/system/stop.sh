#!/usr/bin/env bash
# A stop signal may come at any instant of a step, also inside oneDNN's generated kernels: the run
# always ends with a checkpoint and exit 75. A second signal ends it at once.
. "$(dirname "$0")/lib.sh" "$@"

shard sentiment
start() {
  local run=$1
  shift
  "$@" "$COHORT" train "$CONFIGS/sentiment-cnn.yaml" data.shards="$SET/sentiment" runs="$RUNS" \
    name="$run" train.epochs=500 device.threads=1 checkpoint.every_steps=9 >"$LOG" 2>&1 &
  job=$!
  wait_for_step "$run" 9
}
ends_with() {
  wait "$job"
  local status=$?
  [ "$status" = "$1" ] || die "exit $status instead of $1 after $2"
}

for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
  start "run$i" env
  sleep "0.0$((RANDOM % 90 + 10))"
  kill -TERM "$job"
  ends_with 75 SIGTERM
  says "stopped on request"
done
start both "$MPIEXEC" -n 2
kill -USR1 $(ranks | head -n 1)
ends_with 75 "SIGUSR1 to one rank of two"
says "stopped on request"
expect 0 "$COHORT" verify "$RUNS/both/checkpoints/step-$(last_step both)"
echo "stop passed"
