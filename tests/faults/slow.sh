#!/usr/bin/env bash
# A rank that is slow is named in a warning, with what it spends its time in. Training goes on.
. "$(dirname "$0")/../system/lib.sh" "$@"

shard behavior
train=("$COHORT" train "$CONFIGS/behavior-rnn.yaml" data.shards="$SET/behavior" runs="$RUNS"
       train.epochs=100000 device.threads=1 train.blame_every_s=2 checkpoint.every_steps=200)
# named PATTERN MPIEXEC ARGUMENTS...: a job that trains until the warning is there, then is stopped.
named() {
  local pattern=$1 i job status
  shift
  timeout -k 10 $((100 * PATIENCE)) "$MPIEXEC" "$@" >"$LOG" 2>&1 &
  job=$!
  for ((i = 0; i < 600 * PATIENCE; i++)); do
    grep -qE " warning rank 0 .*$pattern" "$LOG" && break
    kill -0 $job 2>/dev/null || die "the job ended before a rank was named"
    sleep 0.1
  done
  grep -qE " warning rank 0 .*$pattern" "$LOG" || die "not named: $pattern"
  kill -USR1 $(ranks | head -n 1)
  wait $job
  status=$?
  [ $status = 75 ] || die "exit $status instead of 75 after SIGUSR1"
}

slow() { named "$3" -n 3 "${train[@]}" name="$1" --chaos "$2"; }
slow compute slow-rank=1:20x "rank 1 \(host [^ ]+\) is (over )?[0-9].*x slower than the median of the other ranks, [0-9]+ % of it in computing"
slow reads slow-reads=2:300ms "rank 2 \(host [^ ]+\) is .*x slower than the median of the other ranks, [0-9]+ % of it in reading train-[0-9]+\.h5"

# A slow GPU, by the stand-in, where it is built. Not recorded: it would run a recorded step's sums,
# which wait for other ranks, in the midst of other work.
if [ -e "${COHORT%/*}/libcohort_cuda_on_host.so" ]; then
  export COHORT_CUDA_MODULE=libcohort_cuda_on_host.so HG_DEVICES=3
  gpu=("${train[@]}" name=gpu device.kind=cuda device.graph=false)
  named "rank 1 \(host [^ ]+\) is (over )?[0-9].*x slower than the median of the other ranks, computing on its GPU" \
    -n 1 "${gpu[@]}" : -n 1 env HG_WRONG=slow "${gpu[@]}" : -n 1 "${gpu[@]}"
else
  echo "left out: a slow GPU: the stand-in for GPUs is not built"
fi
echo "slow passed"
