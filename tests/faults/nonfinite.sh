#!/usr/bin/env bash
# Steps whose values are not finite: skipped on all ranks, told with tensor and ranks, and an end with
# exit code 6. The learning rate is so large that the first update makes weights that overflow.
. "$(dirname "$0")/../system/lib.sh" "$@"

shard recommend-mlp
options() {
  echo data.shards="$SET/recommend-mlp" runs="$RUNS" name="$1" train.epochs=1 device.threads=1 \
    optimizer.name=sgd optimizer.schedule=constant optimizer.learning_rate=1e37 \
    train.nonfinite_limit=3
}
for ranks in 1 3; do
  expect 6 "$MPIEXEC" -n "$ranks" "$COHORT" train "$CONFIGS/recommend-mlp.yaml" $(options "of-$ranks")
  says "is not finite; the step is skipped on all ranks (1 in a row, 1 in all); first "
  says "on rank 0 (host "
  says "(shard:row) "
  says "(3 in a row, 3 in all)"
  says "3 steps in a row were not finite"
  [ "$(grep -c 'is not finite; the step is skipped' "$LOG")" = 3 ] || die "not told once a step"
done

# Equal replicas are compared and pass.
expect 0 "$MPIEXEC" -n 3 "$COHORT" train "$CONFIGS/recommend-mlp.yaml" \
  data.shards="$SET/recommend-mlp" runs="$RUNS" name=equal train.epochs=1 device.threads=1 \
  train.compare_every_steps=5
echo "nonfinite passed"
