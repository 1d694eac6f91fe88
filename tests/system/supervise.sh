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
incidents() { grep -c "\"event\":\"$2\"" "$RUNS/$1/incidents.jsonl" 2>/dev/null; }

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
1 0 5 ORTE has lost communication with a remote daemon. rm: No such file or directory
1 0 1 a non-zero exit code. Per user-direction, the job has been aborted.
1 0 5 bash: line 1: orted: command not found
1 0 2 execve(): No such file or directory
1 0 1 2026-11-24T00:00:00Z warn: x: No such file or directory, ORTE has lost
127 0 2
END
# The same failure: with other numbers, on the same host.
alike() { [ "$(without_numbers <<<"$1")" = "$(without_numbers <<<"$2")" ]; }
alike "rank 2 (node01) at step 12 is gone after 1.5 s." "rank 3 (node01) at step 7 is gone after 20 s." ||
  die "the same failure is taken for two"
for other in node02 node-01 10.0.0.2; do
  ! alike "rank 2 (node01) is gone" "rank 2 ($other) is gone" || die "node01 is taken for $other"
done
! alike "10.0.0.1:33 is gone" "10.0.0.2:33 is gone" || die "two addresses are taken for one"

# Requests before the job's number is known, and after: each is handed on once.
sh -c 'trap "echo asked >>'"$WORK"'/asked" USR1; echo >'"$WORK"'/ready; while :; do sleep 0.05; done' &
ask
[ $ASKED = 1 ] && [ $HANDED = 0 ] || die "a request was handed to no job"
JOB=$!
until [ -e ready ]; do sleep 0.05; done
hand_on && hand_on
sleep 0.3 && ask && sleep 0.3
[ "$(grep -c asked asked)" = 2 ] || die "$(grep -c asked asked) requests reach a job instead of 2"
kill -9 "$JOB" && wait "$JOB" 2>/dev/null
JOB='' ASKED=0 HANDED=0

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

# Only the second place takes checkpoints, by a stand-in for the program: they are progress, so that
# more failures than --same are outlived; without progress they are not.
mkdir "$WORK/fake"
cp "$WORK/build/CMakeCache.txt" "$WORK/fake"
cat >"$WORK/fake/cohort" <<END
#!/bin/bash
n=\$(cat "$WORK/starts" 2>/dev/null || echo 0)
[ \$n -lt 4 ] || exit 0
echo \$((n + 1)) >"$WORK/starts"
mkdir -p "$RUNS/second" && printf 'checkpoint:\n  second: %s\n' "$WORK/else" >"$RUNS/second/config.yaml"
echo second-01 >"$RUNS/second/id"
[ -e "$WORK/stuck" ] || mkdir -p "$WORK/else/second-01/checkpoints/step-00000000000\$n"
echo "2026-01-01T00:00:00Z error: no space" >&2
exit 4
END
chmod +x "$WORK/fake/cohort"
again=("$LAUNCH/supervise" --backoff 0 --same 2 1 train "$CONFIG" $(options second))
COHORT_BUILD=$WORK/fake expect 0 "${again[@]}"
[ "$(incidents second failed)" = 4 ] || die "$(incidents second failed) failures instead of 4"
grep -q '"event":"done".*"checkpoint":"step-000000000003"' "$RUNS/second/incidents.jsonl" ||
  die "the checkpoints of the second place are not noted"
touch stuck && rm starts
COHORT_BUILD=$WORK/fake expect 4 "${again[@]}"
says "the same failure 2 times"

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
