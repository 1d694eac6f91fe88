#!/usr/bin/env bash
# A flipped bit in any file of the newest checkpoint: `checkpoint verify` names the file, --resume skips
# the checkpoint, says why, and goes on from the one before to the end of the undamaged run. With all
# of them damaged the job ends with 4, and starts nothing anew.
#   COHORT_FLIP_SEED  of the flipped bits, default 1
. "$(dirname "$0")/../system/lib.sh" "$@"

RANDOM=${COHORT_FLIP_SEED:-1}
CONFIG=$CONFIGS/behavior-rnn.yaml
train() {  # train STATUS NAME [key=value ...]
  expect "$1" "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" data.shards="$SET/behavior" runs="$RUNS" \
    name="$2" train.epochs=1 device.threads=1 checkpoint.every_steps=20 checkpoint.keep_last=9 "${@:3}"
}
# flip FILE BYTE BIT
flip() {
  python3 - "$@" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]))
    byte = f.read(1)[0]
    f.seek(int(sys.argv[2]))
    f.write(bytes([byte ^ 1 << int(sys.argv[3])]))
PY
}
fresh() { rm -rf "$RUNS/hurt" && cp -r "$RUNS/good" "$RUNS/hurt"; }

shard behavior
train 0 good
checkpoints=$RUNS/hurt/checkpoints
[ "$(ls -d "$RUNS"/good/checkpoints/step-* | wc -l)" -ge 2 ] || die "fewer than two checkpoints"
newest=step-$(last_step good)

flips=0 files=0
for path in "$RUNS/good/checkpoints/$newest"/*; do
  file=${path##*/}
  size=$(stat -c %s "$path")
  for byte in 0 $((size - 1)) $((RANDOM % size)) $((RANDOM % size)) $((RANDOM % size)); do
    fresh
    flip "$checkpoints/$newest/$file" "$byte" $((RANDOM % 8))
    expect 4 "$COHORT" checkpoint verify "$RUNS/hurt"
    says "$newest"
    says "$file"
    flips=$((flips + 1))
  done
  train 0 hurt --resume   # from the last of the flips above
  says "skipped the checkpoint"
  says "$newest/$file"
  says "resumed from"
  ! grep -q "resumed from .*$newest" "$LOG" || die "a damaged checkpoint was used"
  expect 0 "$COHORT" checkpoint verify "$RUNS/hurt"
  same_tensors "$RUNS/good/checkpoints/$newest" "$checkpoints/$newest"
  same "$RUNS/good/ledger.jsonl" "$RUNS/hurt/ledger.jsonl"
  files=$((files + 1))
done
[ $files -ge 4 ] || die "only $files files in a checkpoint of two ranks"

fresh
for folder in "$checkpoints"/step-*; do
  paths=("$folder"/*)
  path=${paths[$((RANDOM % ${#paths[@]}))]}
  flip "$path" $((RANDOM % $(stat -c %s "$path"))) $((RANDOM % 8))
done
train 4 hurt --resume
says "checkpoints is valid"
says "start again with --new, or bring back a copy"
for folder in "$checkpoints"/step-*; do says "skipped the checkpoint $folder"; done
echo "damage passed: $flips flips in $files files"
