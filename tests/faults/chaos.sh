#!/usr/bin/env bash
# Rehearsed failures: each happens once, the run survives it and tells how much of its time counted.
. "$(dirname "$0")/../system/lib.sh" "$@"

shard behavior
options() {
  echo data.shards="$SET/behavior" runs="$RUNS" name="$1" train.epochs=4 device.threads=1 \
    checkpoint.every_steps=10
}
CONFIG=$CONFIGS/behavior-rnn.yaml

expect 2 "$COHORT" train "$CONFIG" $(options wrong) --chaos kil-rank=1@step=5
says "did you mean 'kill-rank'?"
expect 2 "$COHORT" train "$CONFIG" $(options rank) --chaos kill-rank=1@step=5
says "the job has 1 ranks"
expect 2 "$COHORT" train "$CONFIG" $(options rank) --resume --chaos kill-rank=1@step=5

# Not a number: one step is skipped on all ranks, the run goes on.
expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options nan) --chaos nan=1@step=7
says "step 7: loss"
says "not finite"
[ "$(grep -c 'is not finite; the step is skipped' "$LOG")" -ge 1 ] || die "no step is skipped"
! grep -qE 'step (6|8): loss .* not finite' "$LOG" || die "another step was not finite"
says "effective training time"

# A rank kills itself; the same command with --resume goes on from a damaged newest checkpoint to the
# end, and nothing happens twice.
EVENTS=kill-rank=1@step=400,corrupt-latest
timeout -k 10 $((100 * PATIENCE)) "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options kill) \
  --chaos $EVENTS >"$LOG" 2>&1 && die "a job that lost a rank ended with 0"
says "chaos: kill-rank=1@step=400"
expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options kill) --resume --chaos $EVENTS
says "chaos: corrupt-latest"
says "resumed from"
! grep -q 'chaos: kill-rank' "$LOG" || die "a rank was killed twice"
grep -q '"effective_time_ratio"' "$RUNS/kill/run.json" || die "run.json tells no effective time"
expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options whole)
same "$RUNS/kill/ledger.jsonl" "$RUNS/whole/ledger.jsonl"
# On fewer ranks the same command still goes on.
expect 0 "$COHORT" train "$CONFIG" $(options kill) train.epochs=5 --resume \
  --chaos $EVENTS,nan=1@step=9999
says "chaos: 'nan=1@step=9999' cannot happen: the job has 1 ranks"
[ "$(ls "$RUNS/kill/chaos" | wc -l)" = 2 ] || die "chaos/ does not hold both events"
echo "chaos passed"
