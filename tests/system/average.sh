#!/usr/bin/env bash
# The average of the weights (optimizer.ema): training does not see it, all who ask the model do; it
# survives kills bit for bit and is neither lost nor begun by a resume.
. "$(dirname "$0")/lib.sh" "$@"
HERE=$2/tests/system

CONFIG=$CONFIGS/recommend-mlp.yaml
# train STATUS RANKS NAME [more]
train() {
  local status=$1 ranks=$2 name=$3
  shift 3
  expect "$status" "$MPIEXEC" -n "$ranks" "$COHORT" train "$CONFIG" \
    data.shards="$SET/recommend-mlp" runs="$RUNS" name="$name" train.epochs=2 device.threads=1 \
    checkpoint.every_steps=5 checkpoint.keep_last=100 "$@"
}
newest() { echo "$RUNS/$1/checkpoints/step-$(last_step "$1")"; }
# tensors RELATION FOLDER OTHER: of two folders with *.safetensors.
tensors() { expect 0 python3 "$HERE/average_check.py" "$@"; }

shard recommend-mlp sentiment

# Refused before anything is made.
train 2 1 refused optimizer.ema=1
says "optimizer.ema"
expect 2 "$COHORT" train "$CONFIGS/sentiment-cnn.yaml" data.shards="$SET/sentiment" runs="$RUNS" \
  name=refused optimizer.ema=0.9
says "is a sparse embedding: expected optimizer.ema 0, got 0.9; set sparse: false"
[ ! -e "$RUNS/refused" ] || die "a refused config left a run folder"

# Training is the same with it and without.
train 0 2 raw
train 0 2 whole optimizer.ema=0.99
says "evaluation takes the averages of the weights (optimizer.ema 0.99)"
tensors same_weights "$(newest whole)" "$(newest raw)"
tensors moved_averages "$(newest whole)"
[ "$(losses raw)" = "$(losses whole)" ] || die "losses differ with an average"

# A run that has but the checkpoints of its first epoch goes on to the same bytes; on other ranks, to
# the same scores up to rounding.
half() { # NAME RANKS
  local folder
  cp -r "$RUNS/whole" "$RUNS/$1"
  for folder in "$RUNS/$1"/checkpoints/step-*; do
    [ "$((10#${folder##*-}))" -lt 71 ] || rm -r "$folder"
  done
  train 0 "$2" "$1" optimizer.ema=0.99 --resume
  says "resumed from"
}
half part 2
ends_as_whole part
half three 3

# The trainer's evaluation, and those of the checkpoint: of the averages.
metric() { sed -nE 's/.*"log_loss":([^,}]*).*/\1/p' | awk 'END { if (NR) printf "%.12g", $1 }'; }
for run in raw whole; do
  "$COHORT" eval "$RUNS/$run" --split validation --checkpoint last --json >"$run.json" 2>"$LOG" ||
    die "eval of $run"
  grep '"kind":"eval"' "$RUNS/$run/metrics.jsonl" >"$run.lines"
  [ -s "$run.lines" ] || die "$run has no evaluation"
  [ -n "$(metric <"$run.json")" ] || die "eval of $run tells no log_loss"
  [ "$(metric <"$run.json")" = "$(metric <"$run.lines")" ] || die "$run: the trainer evaluates others"
done
says "the weights are their averages (optimizer.ema)"
awk -v a="$(metric <"$RUNS/three/metrics.jsonl")" -v b="$(metric <whole.json)" \
  'BEGIN { exit !(a > 0 && a - b < 1e-4 && b - a < 1e-4) }' || die "three ranks average otherwise"
[ "$(metric <raw.json)" != "$(metric <whole.json)" ] || die "eval takes the weights, not the averages"

# A bundle holds the averages.
expect 0 "$COHORT" export "$RUNS/whole" --checkpoint last --to bundle
says "the weights are their averages (optimizer.ema)"
tensors averages_as_weights "$(newest whole)" bundle
expect 0 "$COHORT" verify bundle

# A frozen sparse table has no average and needs none.
expect 0 "$COHORT" train "$CONFIGS/sentiment-cnn.yaml" data.shards="$SET/sentiment" runs="$RUNS" \
  name=frozen optimizer.ema=0.9 'init.freeze=["words*"]' train.max_steps=3 device.threads=1
expect 0 "$COHORT" export "$RUNS/frozen" --checkpoint last --to frozen

# Neither lost nor begun by a resume.
train 2 1 raw optimizer.ema=0.99 --resume
says "cannot resume with optimizer.ema=0.99: the checkpoint holds no averages"
train 2 1 whole --resume
says "cannot resume with optimizer.ema=0: the checkpoint holds averages"

# A warm start takes them for weights and begins the average there. Weights that do not move tell.
train 0 2 warm optimizer.ema=0.99 optimizer.learning_rate=1e-30 train.max_steps=5 \
  init.from="$RUNS/whole"
says "warm start: the weights are that run's averages of them"
tensors averages_as_weights "$(newest whole)" "$(newest warm)"
tensors still_averages "$(newest warm)"
echo "average passed"
