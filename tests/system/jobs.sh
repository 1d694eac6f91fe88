#!/usr/bin/env bash
# From raw files to predictions, alone and on several ranks.
. "$(dirname "$0")/lib.sh" "$@"

train_options() { echo data.shards="$SET/$1" runs="$RUNS" train.epochs=1 device.threads=1; }

# train_eval SET CONFIG: on 1, 2 and 3 ranks; ledger and scores equal whatever the ranks.
train_eval() {
  local set=$1 config=$2 n
  expect 0 "$COHORT" train "$CONFIGS/$config.yaml" $(train_options "$set") name="$config-1"
  for n in 2 3; do
    expect 0 "$MPIEXEC" -n $n "$COHORT" train "$CONFIGS/$config.yaml" $(train_options "$set") \
      name="$config-$n"
    same "$RUNS/$config-1/ledger.jsonl" "$RUNS/$config-$n/ledger.jsonl"
  done
  "$COHORT" eval "$RUNS/$config-2" --split test --json >one.json 2>"$LOG" || die "eval of $config"
  "$MPIEXEC" -n 3 "$COHORT" eval "$RUNS/$config-2" --split test --json >three.json 2>"$LOG" ||
    die "eval of $config on 3 ranks"
  grep -q '"metrics"' one.json || die "eval of $config reports no metrics"
  same one.json three.json
}

shard behavior recommend sentiment
for set in behavior recommend sentiment; do
  expect 0 "$COHORT" verify "$SET/$set"
  says "0 problems"
done
expect 0 "$COHORT" inspect "$SET/sentiment"
says "tokens"
# 64 rows of 32 steps: forward and gradients of 200 x 54 weights, and of the state through 200 x 50.
expect 0 "$COHORT" inspect "$CONFIGS/behavior-lstm.yaml" data.shards="$SET/behavior"
says "a step of 64 rows takes at least 129.45 MFLOP"

train_eval behavior behavior-rnn
train_eval recommend recommend-two-tower
train_eval sentiment sentiment-cnn

# One prediction for every row of the split.
rows=$(($(wc -l <"$WORK/raw/sentiment/test.csv") - 1))
expect 0 "$MPIEXEC" -n 2 "$COHORT" predict "$RUNS/sentiment-cnn-1" --split test
lines=$(wc -l <"$RUNS/sentiment-cnn-1/predictions/test.jsonl")
[ "$lines" = "$rows" ] || die "$lines predictions of $rows rows"
cp "$RUNS/sentiment-cnn-1/predictions/test.jsonl" two.jsonl
expect 0 "$COHORT" predict "$RUNS/sentiment-cnn-1" --split test
same "$RUNS/sentiment-cnn-1/predictions/test.jsonl" two.jsonl

expect 0 "$COHORT" inspect "$RUNS/behavior-rnn-2"
says '"done"'
expect 0 "$COHORT" verify "$RUNS/behavior-rnn-2"/checkpoints/step-*
says "0 problems"
expect 0 "$COHORT" compare "$RUNS/behavior-rnn-1" "$RUNS/behavior-rnn-3"
says "validation/mse"

# The best evaluation has a checkpoint, also where no other one is due.
expect 0 "$COHORT" train "$CONFIGS/behavior-rnn.yaml" $(train_options behavior) name=seldom \
  train.epochs=4 checkpoint.every_steps=100000 optimizer.learning_rate=0.05
expect 0 "$COHORT" inspect "$RUNS/seldom" --json
best=$(tr -d '\n ' <"$LOG" | sed -n 's/.*"validation\/mse":{"best":[^,]*,"best_step":\([0-9]*\).*/\1/p')
[ -n "$best" ] || die "no best step of seldom"
expect 0 "$COHORT" eval "$RUNS/seldom" --split validation --checkpoint best --json
says "\"step\":$best}"
echo "jobs passed"
