#!/usr/bin/env bash
# A stop signal may come at any instant of a step, also inside oneDNN's generated kernels: the run
# always ends with a checkpoint and exit 75. A second signal ends it at once.
. "$(dirname "$0")/lib.sh" "$@"

shard sentiment
start() {  # start RUN LAUNCHER... [-- OPTION...]
  local run=$1 front=()
  shift
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    front+=("$1")
    shift
  done
  "${front[@]}" "$COHORT" train "$CONFIGS/sentiment-cnn.yaml" data.shards="$SET/sentiment" runs="$RUNS" \
    name="$run" train.epochs=500 device.threads=1 checkpoint.every_steps=9 "${@:2}" >"$LOG" 2>&1 &
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

# A second signal does not wait for the step, which here never ends; the last checkpoint stays good.
for ranks in 1 2; do
  run=twice$ranks
  launcher=(env)
  [ $ranks = 1 ] || launcher=("$MPIEXEC" -n 2)
  start $run "${launcher[@]}" -- --chaos hang-rank=0@step=40
  until grep -q 'chaos: hang-rank' "$LOG"; do sleep 0.05; done
  kill -TERM $(ranks)
  sleep 1
  [ "$(ranks | wc -l)" = $ranks ] || die "the first signal ended $run in the middle of a step"
  began=$(date +%s%3N)
  kill -TERM $(ranks)
  ends_with 75 "a second signal"
  took=$(($(date +%s%3N) - began))
  [ $took -lt $((5000 * PATIENCE)) ] || die "a second signal took $took ms"
  [ -z "$(ranks)" ] || die "ranks outlive a second signal"
  expect 0 "$COHORT" verify "$RUNS/$run/checkpoints/step-$(last_step $run)"
done
echo "stop passed"
