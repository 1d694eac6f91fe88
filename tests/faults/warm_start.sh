#!/usr/bin/env bash
# Weights of another run by name: what is taken, left to the seed and frozen; what is refused; and that
# a resume reads its own checkpoint. Under ranks as alone.
. "$(dirname "$0")/../system/lib.sh" "$@"

shard sentiment
options() {
  echo data.shards="$SET/sentiment" runs="$RUNS" name="$1" device.threads=1
}
CONFIG=$CONFIGS/sentiment-cnn.yaml
train() { # STATUS RANKS NAME [more]
  local status=$1 ranks=$2 name=$3
  shift 3
  expect "$status" "$MPIEXEC" -n "$ranks" "$COHORT" train "$CONFIG" $(options "$name") "$@"
}
loss_of_first_step() {
  grep -m1 '"step":1,' "$RUNS/$1/metrics.jsonl" | sed 's/.*"loss":\([^,]*\),.*/\1/'
}
FROM=(init.from="$RUNS/base" 'init.fresh=["dense*"]' 'init.freeze=["words*", "conv3.*"]')

train 0 1 base train.epochs=1
train 0 2 fine train.epochs=1 train.log_every_steps=1 "${FROM[@]}"
says "warm start, not a resume"
says "taken: 7 (words.weight, conv3.weight"
says "left to the seed: 2 (dense9.weight, dense9.bias)"
says "frozen: 3 (words.weight, conv3.weight, conv3.bias)"
train 0 1 alone train.max_steps=1 train.log_every_steps=1 "${FROM[@]}"
train 0 1 seed train.max_steps=1 train.log_every_steps=1
awk -v a="$(loss_of_first_step fine)" -v b="$(loss_of_first_step alone)" \
  -v c="$(loss_of_first_step seed)" \
  'function abs(x) { return x < 0 ? -x : x } END { exit !(abs(a - b) < 1e-5 && abs(a - c) > 1e-4) }' ||
  die "the weights are not those of the other run on all ranks"

train 0 2 fine train.epochs=2 "${FROM[@]}" --resume
says "is not read again: the run goes on from its own checkpoint"
says "resumed from"

train 2 1 refused init.from="$RUNS/base" 'init.freeze=["nope*"]'
says 'init.freeze: "nope*" matches no parameter'
train 2 2 refused-2 init.from="$RUNS/base" model.layers.1.conv1d.filters=50
says "tensor 'conv3.weight': expected shape [50, 3, 100], got [100, 3, 100]; add it to init.fresh"
train 2 1 refused-3 init.from="$RUNS/none"
says "expected a run folder"
train 2 1 refused-4 'init.freeze=["*"]'
says "nothing is left to train"
echo "warm_start passed"
