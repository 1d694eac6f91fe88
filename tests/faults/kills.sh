#!/usr/bin/env bash
# kill -9 of a random rank, or of all ranks, at random instants of a job with frequent checkpoints:
# started again until it is done, it has the very weights and ledger of the run that was never stopped.
# After a first kill a copy goes on with another number of ranks: its next loss is the same to 1e-6.
#   COHORT_KILLS  how many kills, default 2; COHORT_KILL_SEED  of their instants, default 1
. "$(dirname "$0")/../system/lib.sh" "$@"

KILLS=${COHORT_KILLS:-2}
RANDOM=${COHORT_KILL_SEED:-1}
CONFIG=$CONFIGS/behavior-rnn.yaml
EVERY=5
EPOCHS=8
start_ranks() {
  local n=$1 run=$2
  shift 2
  "$MPIEXEC" -n "$n" "$COHORT" train "$CONFIG" data.shards="$SET/behavior" runs="$RUNS" name="$run" \
    train.epochs=$EPOCHS train.log_every_steps=1 device.threads=1 checkpoint.every_steps=$EVERY "$@"
}
# The newest step that has a complete checkpoint; nothing where there is none.
newest() { ls "$RUNS/$1/checkpoints" 2>/dev/null | grep -x 'step-[0-9]*' | sort | tail -n 1; }

# equal RUN: its last tensors and its ledger are those of the run never stopped.
equal() {
  local step file files=0
  step=$(newest whole)
  [ "$(newest "$1")" = "$step" ] || die "$1 ended at $(newest "$1") instead of $step"
  for file in "$RUNS/whole/checkpoints/$step"/*.safetensors; do
    same "$file" "$RUNS/$1/checkpoints/$step/${file##*/}"
    files=$((files + 1))
  done
  [ $files -gt 0 ] || die "no tensors in $step"
  same "$RUNS/whole/ledger.jsonl" "$RUNS/$1/ledger.jsonl"
}

# loss_of RUN STEP [RANKS]: "step loss" of that step, or of the first one on so many ranks.
loss_of() {
  awk -v step="$2" -v ranks="${3:-}" '
    function of(key,   s) { s = $0; if (!sub(".*\"" key "\":", "", s)) return ""; sub(/[,}].*/, "", s); return s }
    of("kind") == "\"train\"" && (ranks == "" ? of("step") == step : of("ranks") == ranks) {
      print of("step"), of("loss"); exit
    }' "$RUNS/$1/metrics.jsonl"
}

# other_ranks RUN N: a copy of it makes one step more on N ranks.
other_ranks() {
  local step loss wanted last
  last=$(newest "$1")
  [ -n "$last" ] || return 0
  rm -rf "$RUNS/other" && cp -r "$RUNS/$1" "$RUNS/other"
  start_ranks "$2" other --resume train.max_steps=$((10#${last#step-} + 1)) >"$LOG" 2>&1 ||
    die "$2 ranks do not go on from $1"
  read -r step loss <<<"$(loss_of other 0 "$2")"
  if [ -z "$step" ]; then   # the run had ended
    says "resumed from"
    return 0
  fi
  read -r step wanted <<<"$(loss_of whole "$step")"
  awk -v a="$loss" -v b="$wanted" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(b != "" && d <= 1e-6) }' ||
    die "step $step: loss $loss on $2 ranks, $wanted in the run never stopped"
  compared=$((compared + 1))
}

# kill_once RUN: starts it, kills at a random instant of half of what a whole run takes, so that a run
# is killed several times, everywhere. 1 where it was done.
kill_once() {
  local run=$1 job victims i instant=$RANDOM   # not in the $( ) below: that is another process
  start_ranks 2 "$run" --resume >>"$LOG" 2>&1 &
  job=$!
  sleep "$(awk -v r=$instant -v whole="$took" 'BEGIN { printf "%.3f", r / 32768 * whole / 2000 }')"
  victims=($(ranks))
  if [ ${#victims[@]} = 0 ]; then
    wait $job || die "$run failed without a kill"
    return 1
  fi
  if [ $((killed % 2)) = 0 ]; then   # one of them: the launcher and the others must end by themselves
    kill -9 "${victims[$((RANDOM % ${#victims[@]}))]}" 2>/dev/null || true
  else
    kill -9 "${victims[@]}" 2>/dev/null || true
  fi
  for ((i = 0; i < 600 * PATIENCE; i++)); do
    kill -0 $job 2>/dev/null || break
    sleep 0.1
  done
  ! kill -0 $job 2>/dev/null || die "60 s after a kill the job still runs"
  ! wait $job || return 1   # it was done at that very moment
  [ -z "$(ranks)" ] || die "ranks outlive their job"
}

shard behavior
began=$(date +%s%3N)
start_ranks 2 whole >"$LOG" 2>&1 || die "the run without kills failed"
took=$(($(date +%s%3N) - began))

killed=0 runs=0 compared=0 idle=0
began=$(date +%s)
while [ $killed -lt "$KILLS" ]; do
  runs=$((runs + 1)) run=killed-$runs
  : >"$LOG"
  for kill in 1 2 3 4 5 6 7 8; do
    [ $killed -lt "$KILLS" ] || break
    if kill_once "$run"; then
      killed=$((killed + 1)) idle=0
      [ $kill != 1 ] || { cp "$LOG" "$LOG.kept" && other_ranks "$run" $((1 + 2 * (runs % 2))) && mv "$LOG.kept" "$LOG"; }
    else
      idle=$((idle + 1))
      [ $idle -lt 20 ] || die "20 jobs in a row ended before they could be killed"
      break
    fi
  done
  start_ranks 2 "$run" --resume >>"$LOG" 2>&1 || die "after the kills $run cannot be ended"
  equal "$run"
  rm -rf "${RUNS:?}/$run"
done
# Every first kill may have been before the first checkpoint, or after the last step.
if [ $compared = 0 ]; then
  : >"$LOG"
  start_ranks 2 late >>"$LOG" 2>&1 &
  job=$!
  wait_for_step late $EVERY
  kill -9 $(ranks)
  ! wait $job || die "the run ended before it could be killed"
  other_ranks late 3
fi
[ $compared -gt 0 ] || die "no loss was compared on another number of ranks"
echo "$killed kills in $runs runs: weights and ledger equal; $compared losses on other ranks equal to 1e-6;" \
  "$(($(date +%s) - began)) s"
