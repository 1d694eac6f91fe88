#!/usr/bin/env bash
# launch/slurm/submit and train.sbatch without a Slurm: what is asked of sbatch, how a job is followed
# while Slurm does not answer, and which requests queue a job again. tests/system/slurm.sh has a real one.
. "$(dirname "$0")/lib.sh" "$@"

ROOT=$2
SUBMIT=$ROOT/launch/slurm/submit
CONFIG=$CONFIGS/behavior-rnn.yaml
mkdir "$WORK/build" && ln -s "$COHORT" "$WORK/build/cohort"
echo "MPIEXEC_EXECUTABLE:FILEPATH=$MPIEXEC" >"$WORK/build/CMakeCache.txt"
export COHORT_BUILD=$WORK/build COHORT_ROOT=$ROOT COHORT_POLL=0.1

# asks TEXT: of the dry run of cluster.yaml, whose lines are on stdin.
asks() {
  cat >cluster.yaml
  expect 0 "$SUBMIT" --dry-run cluster.yaml "$CONFIG" train.epochs=3
  says "$1$ROOT/launch/slurm/train.sbatch $CONFIG train.epochs=3"
}
asks "-%j.out --partition=main --nodes=2 --ntasks-per-node=4 --time=8:00:00 --signal=B:USR1@60 " <<'END'
partition: 'main'   # single quotes
nodes: 2
tasks_per_node: 4
gpus_per_node: 0
time: "8:00:00"     # a comment with "quotes"
signal_seconds: 60
account:
exclusive: false
options: []
END
asks '--mem=64G --qos=long --constraint=a#b --exclusive --nice --exclude=n1\,n2 --x=1 ' <<'END'
# GPUs, and more of sbatch
gpus_per_node: a100:4
mem: 64G
qos: long
constraint: "a#b"
exclusive: true
options: [--nice, "--exclude=n1,n2"] # [of any kind]
options:
  - '--x=1'
END
refuses() {  # refuses LINE MESSAGE
  echo "$1" >cluster.yaml
  expect 1 "$SUBMIT" --dry-run cluster.yaml "$CONFIG"
  says "cluster.yaml:1: $2"
}
refuses 'node: 2' "there is no key 'node'"
refuses 'nodes 2' "'nodes 2' is not 'key: value'"
refuses 'exclusive: maybe' "exclusive is 'maybe', expected true or false"
refuses 'options: [--a, --b' "expected ',' or ']'"
refuses 'options: [reservation=x]' "'reservation=x' is no option of sbatch"
refuses "time: '8:00" "''8:00' is no single value"
expect 0 "$SUBMIT" --dry-run "$ROOT/cluster/example.yaml" "$CONFIG"

# Stand-ins: sbatch takes job 7; scontrol gives one answer after another, and notes what else it is told.
mkdir bin && PATH=$WORK/bin:$PATH
cat >bin/sbatch <<'END'
#!/bin/bash
printf '%s\n' "$@" >sbatch.arguments
echo '==> Ended with 6, which is 6 (2026-01-01T00:00:00Z)' >slurm-7.out
echo '7;cluster'
END
cat >bin/scontrol <<'END'
#!/bin/bash
[ "$2" = show ] || { echo "$*" >>"$NOTED"; exit 0; }
answer=$(head -n 1 answers)
sed -i 1d answers
case $answer in
  error*) echo "slurm_load_jobs $answer" >&2; exit 1 ;;
  *) echo "JobId=7 JobName=cohort $answer DerivedExitCode=0:0" ;;
esac
END
chmod +x bin/*
export NOTED=$WORK/noted
echo 'nodes: 1' >cluster.yaml
# follows CODE ANSWER...: of scontrol, in turn.
follows() {
  printf '%s\n' "${@:2}" >answers
  expect "$1" "$SUBMIT" cluster.yaml "$CONFIG" name=x
  [ ! -s answers ] || die "the job was not followed to its end"
}
running='JobState=RUNNING Reason=None ExitCode=0:0'
down='error: Unable to contact slurm controller (connect failure)'
follows 0 "$running" "$down" "$down" "$running" 'JobState=COMPLETING Reason=None ExitCode=0:0' \
  'JobState=PENDING Reason=BeginTime ExitCode=0:0' "$running" 'JobState=COMPLETED Reason=None ExitCode=0:0'
says "Slurm does not answer (slurm_load_jobs $down): waiting"
[ "$(grep -c 'does not answer' "$LOG")" = 1 ] || die "told more than once"
follows 4 "$running" 'JobState=FAILED Reason=NonZeroExitCode ExitCode=4:0'
follows 5 "$running" 'JobState=CANCELLED Reason=None ExitCode=0:15'
says "job 7 is CANCELLED"
follows 6 "$down" 'error: Invalid job id specified'   # over for long: the log knows the code
grep -q "sbatch.*train.sbatch $CONFIG name=x" slurm-7.sh || die "slurm-7.sh has not the command"
cp sbatch.arguments before && rm sbatch.arguments
expect 0 bash slurm-7.sh
same before sbatch.arguments

# A job that is asked to stop: by USR1 it is queued again, by USR2 it is not.
shard behavior
stopped_by() {  # stopped_by SIGNAL RUN
  : >"$NOTED"
  SLURM_JOB_ID=7 SLURM_NTASKS=2 SLURM_JOB_NUM_NODES=1 COHORT_START=mpirun \
    bash "$ROOT/launch/slurm/train.sbatch" "$CONFIG" data.shards="$SET/behavior" runs="$RUNS" name="$2" \
    train.epochs=100000 device.threads=1 checkpoint.every_steps=5 >"$LOG" 2>&1 &
  local job=$! i
  wait_for_step "$2" 5
  kill "-$1" $job
  for ((i = 0; i < 600 * PATIENCE; i++)); do
    grep -qs "requeue 7" "$NOTED" && kill -0 $job && pkill -P $job sleep && break  # Slurm would end it
    kill -0 $job 2>/dev/null || break
    sleep 0.1
  done
  wait $job
  local status=$?
  [ $status = 75 ] || die "exit $status instead of 75 after $1"
  says "stopped on request"
}
stopped_by USR2 good
[ ! -s "$NOTED" ] || die "queued again after USR2: $(cat "$NOTED")"
stopped_by USR1 again
[ "$(cat "$NOTED")" = "requeue 7" ] || die "not queued again after USR1"
echo "submit passed"
