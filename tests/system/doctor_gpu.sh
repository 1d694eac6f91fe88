#!/usr/bin/env bash
# cohort doctor on GPUs, by the stand-in for them: two that are fit, one that two ranks share, a rank
# without one, and each way to be broken that a self-test is for: the rank, host and GPU are named.
. "$(dirname "$0")/lib.sh" "$@"
export COHORT_CUDA_MODULE=libcohort_cuda_on_host.so HG_DEVICES=2

doctor=("$COHORT" doctor --folder shared --mib 1)

expect 0 "$MPIEXEC" -n 2 "${doctor[@]}"
for check in 'GPU memory *ok .*from the host: median .* GB/s' 'GPU memory *ok .*to the host' \
  'GPU product *ok .*in f32: median .* TFLOP/s' 'GPU product *ok .*in f16' 'GPU sums *ok .* GB/s'; do
  grep -qE "^$check" "$LOG" || die "no line: $check"
done
! grep -q '^unfit' "$LOG" || die "GPUs that are fit are not"

HG_DEVICES=1 expect 0 "$MPIEXEC" -n 2 "${doctor[@]}"
says "ranks 0, 1 share GPU 0"
says "device.share_gpu"

expect 0 "$COHORT" doctor --folder shared --mib 1   # alone: no sums
! grep -q 'GPU sums' "$LOG" || die "one rank summed"

# broken RANK KIND EXIT TEXT: the GPU of a rank is, the other's is not.
broken() {
  local program=() r
  for r in 0 1; do
    [ "$r" = 0 ] || program+=(:)
    program+=(-n 1)
    [ "$r" != "$1" ] || program+=(env HG_WRONG="$2")
    program+=("${doctor[@]}")
  done
  expect "$3" "$MPIEXEC" "${program[@]}"
  says "$4"
}
one() {  # one RANK CHECK: rank RANK alone is unfit, for CHECK alone
  local found
  found=$(grep '^unfit: GPU' "$LOG")
  grep -qE "^unfit: $2: rank $1 \(host [^)]*\): GPU $1 \(.*expected|^unfit: $2: rank $1 .*was written" \
    <<<"$found" || die "not named: $2 of rank $1"
  [ "$(grep -vc "^unfit: $2: rank $1 " <<<"$found")" = 0 ] || die "others are unfit, too: $found"
}
broken 1 product 2 "f32: the result is"
one 1 "GPU product"
says "have it examined"
broken 0 convolution 2 "f16: the result is"
one 0 "GPU convolution"
broken 1 copy 2 "byte 99999 of 1048576 is"
one 1 "GPU memory"
broken 1 sum 2 "the sum over 2 ranks is 0.5 at element 1"
one 1 "GPU sums"

# A rank whose sums never end: whoever waits for it ends, and says for what.
doctor+=(--gpu-seconds 2)
broken 1 hang 2 "a sum by NCCL has not ended in"
says "GPU 1 ("
echo "doctor_gpu passed"
