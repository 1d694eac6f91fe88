#!/usr/bin/env bash
# Steps whose values are not finite: skipped on all ranks, told with tensor and ranks; after some in a
# row an end with exit code 6, or a rollback to a checkpoint from before them, as configured.
. "$(dirname "$0")/../system/lib.sh" "$@"

shard recommend-mlp behavior

# The learning rate is so large that the first update makes weights that overflow.
overflow() {
  echo data.shards="$SET/recommend-mlp" runs="$RUNS" name="$1" train.epochs=1 device.threads=1 \
    optimizer.name=sgd optimizer.schedule=constant optimizer.learning_rate=1e37 \
    train.nonfinite_limit=3
}
for ranks in 1 3; do
  expect 6 "$MPIEXEC" -n "$ranks" "$COHORT" train "$CONFIGS/recommend-mlp.yaml" $(overflow "of-$ranks")
  says "is not finite; the step is skipped on all ranks (1 in a row, 1 in all); first "
  says "on rank 0 (host "
  says "(shard:row) "
  says "(3 in a row, 3 in all)"
  says "3 steps in a row were not finite"
  [ "$(grep -c 'is not finite; the step is skipped' "$LOG")" = 3 ] || die "not told once a step"
done

# Checkpoints that no finite step followed are not gone back to: their weights are what overflows.
expect 6 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIGS/recommend-mlp.yaml" $(overflow none) \
  train.nonfinite_action=rollback checkpoint.every_steps=1
says "no checkpoint from before them is good to go back to"
[ ! -e "$RUNS/none/rollbacks.jsonl" ] || die "a rollback is recorded that did not happen"

# Equal replicas are compared and pass.
expect 0 "$MPIEXEC" -n 3 "$COHORT" train "$CONFIGS/recommend-mlp.yaml" \
  data.shards="$SET/recommend-mlp" runs="$RUNS" name=equal train.epochs=1 device.threads=1 \
  train.compare_every_steps=5

# options NAME: back after 3 steps in a row. A constant rate, as max_steps may differ.
options() {
  echo "$CONFIGS/behavior-rnn.yaml" data.shards="$SET/behavior" runs="$RUNS" name="$1" train.epochs=1 \
    device.threads=1 train.log_every_steps=1 train.compare_every_steps=7 optimizer.schedule=constant \
    checkpoint.keep_last=1 checkpoint.keep_best=0 train.nonfinite_limit=3 optimizer.ema=0.9 \
    train.nonfinite_action=rollback
}
# A run of 20 steps, one of them skipped, whose last checkpoint surely exists, goes on as two.
expect 0 "$MPIEXEC" -n 2 "$COHORT" train $(options back) train.max_steps=20 --chaos nan@step=10
cp -r "$RUNS/back" "$RUNS/killed"
BAD=nan=1@step=22,nan@step=23,nan@step=24
expect 0 "$MPIEXEC" -n 2 "$COHORT" train $(options back) checkpoint.every_steps=10 --resume --chaos $BAD
says "steps 22 to 24 were not finite: going back to the checkpoint of step 20, with 0.5 times"
says "steps skipped because they were not finite: 4; rollbacks: 1"
grep -q '"skipped_steps": 4' "$RUNS/back/run.json" || die "run.json does not count skipped steps"
grep -q '"rollbacks": 1' "$RUNS/back/run.json" || die "run.json does not count rollbacks"
[ "$(wc -l <"$RUNS/back/rollbacks.jsonl")" = 1 ] || die "not one line in rollbacks.jsonl"

# Each step has one line, with what is skipped by then.
train_lines() { grep '"kind":"train"' "$RUNS/$1/metrics.jsonl"; }
steps=$(train_lines back | sed -E 's/.*"step":([0-9]+),.*/\1/')
[ "$steps" = "$(seq "$(wc -l <<<"$steps")")" ] || die "steps are missing or there twice:" $steps
[ "$((10#$(last_step back)))" = "$(tail -n 1 <<<"$steps")" ] || die "the last step has no checkpoint"
counts() {
  local got
  got=$(train_lines back |
    sed -nE "s/.*\"step\":$1,.*\"skipped_steps\":([0-9]+),\"rollbacks\":([0-9]+).*/\1 \2/p")
  [ "$got" = "$2 $3" ] || die "step $1 counts '$got' instead of '$2 $3'"
}
counts 9 0 0
counts 20 1 0
counts 21 4 1

# Killed after the rollback, before the next checkpoint and later, and resumed: the same run.
EVENTS=$BAD,kill-rank=1@step=27,kill-rank=0@step=75
for kill in 1 2; do
  timeout -k 10 $((100 * PATIENCE)) "$MPIEXEC" -n 2 "$COHORT" train $(options killed) \
    checkpoint.every_steps=10 --resume --chaos $EVENTS >"$LOG" 2>&1 &&
    die "a job that lost a rank ended with 0"
  [ "$(ls "$RUNS/killed/chaos" | grep -c kill)" = $kill ] || die "kill $kill did not happen"
  [ "$(wc -l <"$RUNS/killed/rollbacks.jsonl")" = 1 ] || die "killed before the rollback"
done
expect 0 "$MPIEXEC" -n 2 "$COHORT" train $(options killed) checkpoint.every_steps=10 --resume \
  --chaos $EVENTS
says "steps skipped because they were not finite: 4; rollbacks: 1"
last=$(last_step back)
same_tensors "$RUNS/back/checkpoints/step-$last" "$RUNS/killed/checkpoints/step-$last"
same "$RUNS/back/ledger.jsonl" "$RUNS/killed/ledger.jsonl"
[ "$(losses back)" = "$(losses killed)" ] || die "losses differ after kills"

# Checkpoints as often as can be, also amid what is skipped, and only the newest kept: a good one stays.
BAD=nan@step=31,nan@step=32,nan@step=33,nan@step=61,nan@step=62,nan@step=63
expect 0 "$MPIEXEC" -n 2 "$COHORT" train $(options often) checkpoint.every_steps=1 --chaos $BAD
says "steps 31 to 33 were not finite: going back to the checkpoint of step "
says "steps 61 to 63 were not finite: going back to the checkpoint of step "
says "with 0.25 times the learning rate of the config (rollback 2 of 3)"
says "steps skipped because they were not finite: 6; rollbacks: 2"

# Rollbacks are used up.
expect 6 "$MPIEXEC" -n 2 "$COHORT" train $(options spent) checkpoint.every_steps=1 \
  train.most_rollbacks=1 --chaos $BAD
says "step 63: 3 steps in a row were not finite, and so it was after 1 rollbacks"
grep -q '"rollbacks": 1' "$RUNS/spent/run.json" || die "run.json does not count the rollback"
echo "nonfinite passed"
