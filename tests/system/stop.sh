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

# In an evaluation, which is left to the attempt that resumes.
evaluating() {
  echo data.shards="$SET/sentiment" runs="$RUNS" name="$1" train.epochs=2 device.threads=1 \
    train.log_every_steps=1 checkpoint.every_steps=100000 eval.split=train eval.batch=1
}
expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIGS/sentiment-cnn.yaml" $(evaluating whole)
evaluations() { grep '"kind":"eval"' "$RUNS/$1/metrics.jsonl"; }
[ "$(evaluations whole | wc -l)" = 2 ] || die "not two evaluations"
epoch=$(evaluations whole | sed -nE '1s/.*"step":([0-9]+).*/\1/p')
"$MPIEXEC" -n 2 "$COHORT" train "$CONFIGS/sentiment-cnn.yaml" $(evaluating part) >"$LOG" 2>&1 &
job=$!
until grep -qs "\"step\":$epoch," "$RUNS/part/metrics.jsonl"; do
  kill -0 $job 2>/dev/null || die "the job ended before its first evaluation"
  sleep 0.01
done
kill -TERM $(ranks | tail -n 1)
ends_with 75 "SIGTERM to one rank of two in an evaluation"
says "stopped on request at step $epoch with a checkpoint"
! evaluations part || die "the evaluation was not left"
expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIGS/sentiment-cnn.yaml" $(evaluating part) --resume
[ "$(evaluations part)" = "$(evaluations whole)" ] || die "other evaluations than of the whole run"
ends_as_whole part
state() { sed -n '/"ranking"/,/"rollbacks"/p' "$RUNS/$1/checkpoints/step-$(last_step whole)/state.json"; }
[ -n "$(state whole)" ] && [ "$(state part)" = "$(state whole)" ] || die "another ranking"
echo "stop passed"
