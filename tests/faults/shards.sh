#!/usr/bin/env bash
# Damage of every file of a shard set: told by `verify` with the file, and with the rows where it is
# they that were altered; never used by training, which ends with 3 or with the undamaged result.
. "$(dirname "$0")/../system/lib.sh" "$@"

CONFIG=$CONFIGS/behavior-rnn.yaml
train() {  # train STATUS NAME
  expect "$1" "$COHORT" train "$CONFIG" data.shards="$WORK/damaged" runs="$RUNS" name="$2" \
    train.epochs=1 device.threads=1 --new
}

shard behavior
cp -r "$SET/behavior" damaged
train 0 good

# flip FILE BYTE: the set again, with one byte altered.
flip() {
  rm -rf damaged && cp -r "$SET/behavior" damaged
  python3 - "damaged/$1" "$2" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]))
    byte = f.read(1)[0]
    f.seek(int(sys.argv[2]))
    f.write(bytes([byte ^ 0x10]))
PY
}

rows_named=0 trials=0
for path in "$SET"/behavior/*; do
  file=${path##*/}
  size=$(stat -c %s "$path")
  for part in 1 3 5 7; do
    flip "$file" $((size * part / 8))
    expect 3 "$COHORT" verify damaged
    says "$file"
    grep -qE "$file: field '[^']+', block [0-9]+ \(rows [0-9]+ to [0-9]+\)" "$LOG" &&
      rows_named=$((rows_named + 1))
    trials=$((trials + 1))
  done
  # Used by training: refused by name, or (bytes that hold no row that it reads) the same numbers.
  timeout -k 10 $((100 * PATIENCE)) "$COHORT" train "$CONFIG" data.shards="$WORK/damaged" \
    runs="$RUNS" name="flip-$file" train.epochs=1 device.threads=1 >"$LOG" 2>&1
  case $? in
    0) [ "$(losses "flip-$file")" = "$(losses good)" ] || die "damage of $file was used" ;;
    3) says "$file" ;;
    *) die "an exit that is neither 0 nor 3 with damage of $file" ;;
  esac
  rm -rf damaged && cp -r "$SET/behavior" damaged
  truncate -s $((size / 2)) "damaged/$file"
  train 3 "cut-$file"
  says "$file"
  rm "damaged/$file"
  train 3 "gone-$file"
  if [ "$file" = manifest.json ]; then says 'no shard set there'; else says "$file"; fi
done
[ "$rows_named" -gt 0 ] || die "of $trials flips none was told by its rows"
echo "shards passed: $trials flips, $rows_named told by rows"
