#!/usr/bin/env bash
# data.stage_dir: shards are copied once, used again, verified, bounded; the result is the same.
. "$(dirname "$0")/lib.sh" "$@"

CONFIG=$CONFIGS/behavior-rnn.yaml
options() {
  echo data.shards="$SET/behavior" runs="$RUNS" name="$1" train.epochs=1 device.threads=1
}
copy() { find "$WORK/disk" -maxdepth 1 -type d -name 'cohort-*'; }

shard behavior
expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options place)
expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options first) data.stage_dir="$WORK/disk"
says "copied to $(copy)"
[ "$(losses place)" = "$(losses first)" ] || die "staged shards gave other losses"
for file in "$SET"/behavior/*; do
  same "$file" "$(copy)/${file##*/}"
done
expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options second) data.stage_dir="$WORK/disk"
! grep -q 'copied to' "$LOG" || die "shards were copied again"

# A copy that was damaged is made again; evaluation reads it too.
printf '!' | dd of="$(copy)/train-00000.h5" bs=1 seek=4000 conv=notrunc 2>/dev/null
expect 0 "$COHORT" eval "$RUNS/first" --split test
says 'the copy is made again'
same "$SET/behavior/train-00000.h5" "$(copy)/train-00000.h5"

# Another set where there is room for none: read in place, with a warning of sizes.
: >plain
expect 0 "$COHORT" train "$CONFIG" $(options full) data.stage_dir="$WORK/plain/disk"
says "shards are read in place from $SET/behavior"
[ "$(losses full)" != '' ] || die "nothing was trained"

# A damaged original is refused on every rank, by name.
rm -rf "$WORK/disk"
printf '!' | dd of="$SET/behavior/train-00000.h5" bs=1 seek=4000 conv=notrunc 2>/dev/null
expect 3 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options bad) data.stage_dir="$WORK/disk"
says 'train-00000.h5: expected'
echo "stage passed"
