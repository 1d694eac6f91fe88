#!/usr/bin/env bash
# A rank that is slow is named in a warning, with what it spends its time in. Training goes on.
. "$(dirname "$0")/../system/lib.sh" "$@"

shard behavior
# slow EVENT PATTERN: a job that trains until the warning is there, then is stopped.
slow() {
  local name=$1 event=$2 pattern=$3 i job status
  timeout -k 10 $((100 * PATIENCE)) "$MPIEXEC" -n 3 "$COHORT" train "$CONFIGS/behavior-rnn.yaml" \
    data.shards="$SET/behavior" runs="$RUNS" name="$name" train.epochs=100000 device.threads=1 \
    train.blame_every_s=2 checkpoint.every_steps=200 --chaos "$event" >"$LOG" 2>&1 &
  job=$!
  for ((i = 0; i < 600 * PATIENCE; i++)); do
    grep -qE " warning rank 0 .*$pattern" "$LOG" && break
    kill -0 $job 2>/dev/null || die "the job ended before a rank was named"
    sleep 0.1
  done
  grep -qE " warning rank 0 .*$pattern" "$LOG" || die "$event: not named: $pattern"
  kill -USR1 $(ranks | head -n 1)
  wait $job
  status=$?
  [ $status = 75 ] || die "exit $status instead of 75 after SIGUSR1"
}

slow compute slow-rank=1:20x "rank 1 \(host [^ ]+\) is [0-9].*x slower than the median of the other ranks, [0-9]+ % of it in computing"
slow reads slow-reads=2:300ms "rank 2 \(host [^ ]+\) is .*x slower than the median of the other ranks, [0-9]+ % of it in reading train-[0-9]+\.h5"
echo "slow passed"
