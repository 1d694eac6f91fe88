#!/usr/bin/env bash
# launch/supervise and launch/mpirun.sh: a job whose ranks are killed ends as one that never was; what
# cannot be cured ends the supervisor; a request passes through; hosts that do not answer are left out.
. "$(dirname "$0")/lib.sh" "$@"

LAUNCH=$2/launch
# The launchers look for the program and its MPI in a build folder.
mkdir "$WORK/build" && ln -s "$COHORT" "$WORK/build/cohort"
echo "MPIEXEC_EXECUTABLE:FILEPATH=$MPIEXEC" >"$WORK/build/CMakeCache.txt"
export COHORT_BUILD=$WORK/build
CONFIG=$CONFIGS/sentiment-cnn.yaml
options() {
  echo data.shards="$SET/sentiment" runs="$RUNS" name="$1" train.epochs=8 device.threads=1 \
    train.log_every_steps=1 checkpoint.every_steps=9
}
supervise() {  # supervise RUN [OPTION ...] -- [key=value ...]: in the background, its id in $job
  local run=$1 front=()
  shift
  while [ "$1" != -- ]; do
    front+=("$1")
    shift
  done
  shift
  "$LAUNCH/supervise" --backoff 0 "${front[@]}" 2 train "$CONFIG" $(options "$run") "$@" >"$LOG" 2>&1 &
  job=$!
}
ends_with() {
  wait "$job"
  local status=$?
  [ "$status" = "$1" ] || die "exit $status instead of $1: $2"
}
incidents() { grep -c "\"event\":\"$2\"" "$RUNS/$1/incidents.jsonl"; }

# What each code of a launcher means.
. "$LAUNCH/exit_codes.sh"
while read -r raw asked wanted words; do
  echo "$words" >"$WORK/notes"
  got=$(our_exit_code "$raw" "$WORK/notes" "$asked")
  [ "$got" = "$wanted" ] || die "exit $raw ($words) became $got instead of $wanted"
done <<'END'
0 0 0
2 0 2
3 0 3
4 0 4
6 0 6
75 0 75
137 0 5
143 0 5
141 0 5
205 0 5
139 0 1
134 0 1
138 1 75
138 0 5
1 0 1 2026-11-24T00:00:00Z error: unexpected
0 0 5 srun: error: Timed out waiting for job step to complete
1 0 5 ORTE has lost communication with a remote daemon.
1 0 2 There are not enough slots available in the system
127 0 2
END

shard sentiment
expect 0 "$LAUNCH/mpirun.sh" 2 train "$CONFIG" $(options whole)
[ "$(losses whole | wc -l)" -gt 100 ] || die "too few steps to compare"

# A rank is killed, then both: the run ends as the one above.
supervise killed --
wait_for_step killed 20
kill -9 "$(ranks | head -n 1)" || die "no rank to kill"
for ((i = 0; i < 600 * PATIENCE; i++)); do
  [ "$(incidents killed failed)" != 1 ] || break
  sleep 0.1
done
wait_for_step killed $((10#$(last_step killed) + 18))
kill -9 $(ranks) || die "no ranks to kill"
ends_with 0 "a job whose ranks are killed"
[ "$(incidents killed failed)" = 2 ] || die "$(incidents killed failed) failures noted instead of 2"
grep -q '"event":"failed","code":5,' "$RUNS/killed/incidents.jsonl" || die "not noted as lost"
losses whole >whole && losses killed >killed
same whole killed
same "$RUNS/whole/ledger.jsonl" "$RUNS/killed/ledger.jsonl"

# A request passes through; the next start goes on.
supervise asked -- train.epochs=400
wait_for_step asked 18
kill -TERM "$job"
wait "$job"
ends_with 75 "SIGTERM to the supervisor"
[ "$(incidents asked stopped)" = 1 ] || die "the stop is not noted"
supervise asked --
ends_with 0 "the start after a stop"

# Nothing to cure: at once, or after the same failure three times.
supervise usage -- train.epoch=3
ends_with 2 "a config that cannot be run"
says "did you mean"
cp -r "$SET/sentiment" "$SET/damaged"
for file in "$SET"/damaged/train-*.h5; do truncate -s 4096 "$file"; done
supervise damaged -- data.shards="$SET/damaged"
ends_with 3 "a shard set that is damaged"
says "the same failure 3 times"
[ "$(grep -c '"event":"failed","code":3' "$RUNS/damaged.incidents.jsonl")" = 3 ] || die "not three failures"

# A host does not answer: fewer ranks.
printf '#!/bin/sh\nexit 1\n' >agent && chmod +x agent
expect 0 "$LAUNCH/supervise" --hosts localhost:1,gone.invalid:2 --rsh "$WORK/agent" \
  3 train "$CONFIG" $(options fewer) train.epochs=1
says "do not answer: gone.invalid"
grep -q '"event":"started","ranks":1,.*"silent":"gone.invalid"' "$RUNS/fewer/incidents.jsonl" ||
  die "the silent host is not noted"
echo "supervise passed"
