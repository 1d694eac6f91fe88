#!/usr/bin/env bash
# A disk that fills: checkpoints that do not fit are told with sizes and cost none of the good ones; a
# second place takes them; with room again the run goes on to the end that it would have had.
. "$(dirname "$0")/../system/lib.sh" "$@"

SMALL=$WORK/small
mkdir "$SMALL"
mount -t tmpfs -o size=160k small "$SMALL" 2>/dev/null || {
  echo "skipped: mounting a small disk needs root"
  exit 77
}
trap 'umount -l "$SMALL"; finish' EXIT
shard behavior
options() {
  echo data.shards="$SET/behavior" name="$1" train.epochs=6 device.threads=1 \
    checkpoint.every_steps=20 checkpoint.keep_last=9 checkpoint.retries=0
}
CONFIG=$CONFIGS/behavior-rnn.yaml

expect 4 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options full) runs="$SMALL"
says "No space left on device"
says "KiB, the checkpoint"
says "training goes on; older checkpoints are untouched"
says "the last checkpoint could not be written"
expect 0 "$COHORT" checkpoint verify "$SMALL/full"
says "0 problems"
expect 0 "$COHORT" checkpoint list "$SMALL/full"
[ "$(grep -c ' whole$' "$LOG")" -ge 2 ] || die "fewer than two checkpoints were kept"

expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options full) runs="$SMALL" --resume \
  checkpoint.second="$WORK/second"
says "resumed from"
[ "$(find "$WORK/second" -name manifest.json | wc -l)" -ge 1 ] || die "the second place is empty"

expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options whole) runs="$RUNS"
last=$(basename "$(ls -d "$RUNS"/whole/checkpoints/step-* | tail -n 1)")
expect 0 "$COHORT" checkpoint diff "$RUNS/whole/checkpoints/$last" \
  "$(find "$WORK/second" -type d -name "$last")"
expect 0 "$COHORT" eval "$SMALL/full" --checkpoint last   # which is in the second place
says "step $((10#${last#step-}))"
expect 0 "$COHORT" checkpoint list "$SMALL/full"
says "whole, in $WORK/second/$(cat "$SMALL/full/id")/checkpoints"
expect 0 "$COHORT" checkpoint verify "$SMALL/full"
says "0 problems"
checked=$(sed -n 's/.*: \([0-9]*\) checked.*/\1/p' "$LOG")
[ "$checked" -gt "$(ls -d "$SMALL/full/checkpoints"/step-* | wc -l)" ] ||
  die "the second place is not verified"

# Another run of this name does not go on from what lies there.
rm -rf "$SMALL/full"
expect 0 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options full) runs="$SMALL" \
  checkpoint.second="$WORK/second" checkpoint.keep_last=1
! grep -q "resumed from" "$LOG" || die "a fresh run goes on from another one"
[ -n "$(losses whole)" ] && [ "$(losses full "$SMALL")" = "$(losses whole)" ] ||
  die "a fresh run is not the run from the beginning"
echo "disk passed"
