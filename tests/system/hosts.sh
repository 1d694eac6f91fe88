#!/usr/bin/env bash
# Four hosts, as namespaces: one loses power, and the supervisor goes on with the others to the end.
# Of two jobs on one run folder the first ends. With COHORT_LONG=1 also: a cable is pulled; a link is
# slow, which a line tells by the host's name.
LOCAL=$2/cluster/local
reason=$("$LOCAL/hosts" check) || {
  echo "Skipped: $reason"
  exit 77
}
. "$(dirname "$0")/lib.sh" "$@"
export COHORT_ROOT=$2 COHORT_LAB=$WORK/lab COHORT_BUILD=$WORK/build
mkdir "$WORK/build" && ln -s "$COHORT" "$WORK/build/cohort"
echo "MPIEXEC_EXECUTABLE:FILEPATH=$MPIEXEC" >"$WORK/build/CMakeCache.txt"
trap 'status=$?; "$LOCAL/hosts" down; (exit $status); finish' EXIT
CONFIG=$CONFIGS/sentiment-cnn.yaml
options() {
  echo data.shards="$SET/sentiment" runs="$RUNS" name="$1" train.epochs=2 device.threads=1 \
    checkpoint.every_steps=9
}
supervise() {  # supervise RUN HOSTS [key=value ...]: from h1, in the background, its id in $job
  LOG=$WORK/$1.log
  "$LOCAL/hosts" on h1 "$2/launch/supervise" --backoff 1 --rsh "$("$LOCAL/hosts" agent)" \
    --interfaces 10.77.0.0/24 --hosts "$3" all train "$CONFIG" "$(options "$1")" "${@:4}" >"$LOG" 2>&1 &
  job=$!
}
ends_with() {
  wait "$job"
  local status=$?
  [ "$status" = "$1" ] || die "exit $status instead of $1: $2"
}
lost_one() {  # lost_one RUN HOST: noted, and the run went on with the three others
  grep -q "\"event\":\"failed\",\"code\":5,.*\"message\":\"[^\"]*host $2[, :]" \
    "$RUNS/$1/incidents.jsonl" || die "$1: the loss of $2 was not noted"
  grep -q "\"event\":\"started\",\"ranks\":3,.*\"silent\":\"$2\"" "$RUNS/$1/incidents.jsonl" ||
    die "$1: did not go on without $2"
  grep -q '"event":"done"' "$RUNS/$1/incidents.jsonl" || die "$1: not done"
}

shard sentiment
"$LOCAL/hosts" up 4 || die "no hosts"
doctor() {  # between the four hosts: fit, and what it says
  expect 0 "$LOCAL/hosts" on h1 "$COHORT_ROOT/launch/mpirun.sh" --hosts h1,h2,h3,h4 \
    --rsh "$("$LOCAL/hosts" agent)" --interfaces 10.77.0.0/24 all doctor --folder "$WORK/doctor" --mib 1
  grep -qE "$1" "$LOG" || die "the doctor does not say: $1"
}
doctor 'between hosts.* 6 pairs'

supervise power "$2" h1,h2,h3,h4
wait_for_step power 20
"$LOCAL/hosts" off h3
ends_with 0 "a job whose host lost power"
lost_one power h3

# Another job takes the folder: the first ends, supervised as it is.
supervise fenced "$2" h1,h2 train.epochs=100000
wait_for_step fenced 20
LOG=$WORK/log
expect 0 "$LOCAL/hosts" on h4 "$COHORT" train "$CONFIG" "$(options fenced)" --resume
LOG=$WORK/fenced.log
ends_with 4 "a job whose folder another took"
says "another job has taken over"
[ "${COHORT_LONG:-0}" = 1 ] || { echo "hosts passed" && exit 0; }

"$LOCAL/hosts" boot h3
supervise cable "$2" h1,h2,h3,h4
wait_for_step cable 20
"$LOCAL/hosts" cut h4
ends_with 0 "a job whose link was cut"
lost_one cable h4
[ -z "$(ranks)" ] || die "ranks of the host that was cut off are left"
"$LOCAL/hosts" join h4

"$LOCAL/hosts" slow h4 20mbit
doctor 'warn.*between hosts.*h4'
"$LOCAL/hosts" fast h4

supervise slow "$2" h1,h2,h3,h4 train.epochs=100000
wait_for_step slow 20
"$LOCAL/hosts" slow h4 2mbit
for ((i = 0; i < 150; i++)); do
  grep -qE 'link.*h4|h4.*link' "$LOG" && break
  sleep 1
done
grep -qE 'link.*h4|h4.*link' "$LOG" || die "the slow link of h4 is not told"
echo "hosts passed, long"
