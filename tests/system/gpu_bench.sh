#!/usr/bin/env bash
# `cohort bench` on the stand-in for GPUs: it runs, counts what it launches, and says what it cannot.
. "$(dirname "$0")/lib.sh" "$@"
export COHORT_CUDA_MODULE=libcohort_cuda_on_host.so HG_DEVICES=1

# Two convolution passes (the way back from the places that won), two dense layers with three and
# three products: 49840128 + 12460032 + 3 * (138444800 + 256000).
expect 0 "$COHORT" bench image-seed --floor --json
says '"flop":478402560.0'

# The floors that the page about GPUs tells are these.
expect 0 "$COHORT" bench --floor --device cuda --precision bf16
while IFS= read -r line; do
  grep -qxF -- "$line" "$2/docs/performance.md" || die "docs/performance.md does not have: $line"
done <"$LOG"

timed() {
  expect 0 "$COHORT" bench "$1" --device cuda --seconds 0.01 --json "${@:2}"
  says '"skipped":0,'
  grep -Eq '"samples_per_s":[0-9.]*[1-9]' "$LOG" || die "no rate"
}
timed behavior-seed --batch 2
says 'recorded steps'
timed behavior-seed --batch 2 --no-graph --precision bf16
says 'bf16'
says 'eager steps'
timed recommend --batch 3
says '"batch":3,'

# Copies: what kernels read, the loss sums, two results. Zeros: those sums, gradients, two tables'.
expect 0 "$COHORT" bench recommend --device cuda --batch 3 --plan --json
says '"copies":4,'
says '"zeros":4'
grep -Eq '"kernels":[3-9][0-9],' "$LOG" || die "not as many kernels as steps"
expect 0 "$COHORT" bench recommend --device cuda --batch 3 --plan
says 'recorded step: '

expect 2 "$COHORT" bench image-seed --precision bf16
error_lines 1 'precision "bf16" on a processor: expected f32'
expect 2 "$COHORT" bench no-such-workload
error_lines 1 "unknown workload 'no-such-workload'; expected one of: behavior-seed, .*resnet50"
echo passed
