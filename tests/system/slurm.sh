#!/usr/bin/env bash
# A real Slurm of two nodes: a job that is asked to stop is queued again and ends as one that never was,
# which launch/slurm/submit followed; another number of ranks than the job's tasks is refused.
# With COHORT_LONG=1 also: mpirun, the signal before the time is up, on four nodes by mpirun, too; an
# array, a node that loses power.
LOCAL=$2/cluster/local
reason=$("$LOCAL/slurm" check) || {
  echo "Skipped: $reason"
  exit 77
}
. "$(dirname "$0")/lib.sh" "$@"
export COHORT_LAB=$WORK/lab COHORT_ROOT=$2 COHORT_BUILD=$WORK/build
mkdir "$WORK/build" && ln -s "$COHORT" "$WORK/build/cohort"
echo "MPIEXEC_EXECUTABLE:FILEPATH=$MPIEXEC" >"$WORK/build/CMakeCache.txt"
SCRIPT=$2/launch/slurm/train.sbatch
slurm() { "$LOCAL/slurm" "$@"; }
trap 'status=$?; slurm down; "$LOCAL/hosts" down; (exit $status); finish' EXIT
# Shared memory and what is on the lab's network only.
export OMPI_MCA_btl_tcp_if_include=10.77.0.0/24 OMPI_MCA_oob_tcp_if_include=10.77.0.0/24
CONFIG=$CONFIGS/sentiment-cnn.yaml
options() {
  echo data.shards="$SET/sentiment" runs="$RUNS" name="$1" train.epochs=2 device.threads=1 \
    train.log_every_steps=1 checkpoint.every_steps=9
}
submit() {  # submit RUN [SBATCH_OPTION ...] -- [key=value ...]: its number in $id
  local run=$1 front=()
  shift
  while [ "$1" != -- ]; do
    front+=("$1")
    shift
  done
  shift
  LOG=$WORK/$run.log
  id=$(slurm do sbatch --parsable -N2 -n2 -o "$LOG" "${front[@]}" "$SCRIPT" "$CONFIG" \
    $(options "$run") "$@") || die "sbatch refuses $run"
}
job() { slurm do scontrol -o show job "$id" 2>/dev/null; }
await() {  # await STATE...: of the job; one that waits 2 min to begin again waits 4 s, so that what
           # ran before, under the same number, has ended
  local i now
  for ((i = 0; i < 400 * PATIENCE; i++)); do
    now=$(job)
    [[ ! $now =~ JobState=($1) ]] || return 0
    [[ ! $now =~ Reason=BeginTime ]] || {
      sleep 4
      slurm do scontrol update JobId="$id" StartTime=now 2>/dev/null
    }
    sleep 0.3
  done
  die "job $id is not $1: $now"
}
await_none() {  # of the array's tasks is left
  local i
  for ((i = 0; i < 400 * PATIENCE; i++)); do
    [ -n "$(slurm do squeue -h -j "$id" 2>/dev/null)" ] || return 0
    sleep 0.3
  done
  die "array $id does not end"
}
ended() {  # ended CODE RESTARTS
  await 'COMPLETED|FAILED|CANCELLED|NODE_FAIL|TIMEOUT'
  [[ $(job) =~ ExitCode=$1:0 ]] || die "job $id: $(job)"
  [[ $(job) =~ Restarts=$2 ]] || die "job $id did not begin again $2 times: $(job)"
}
equal() {
  losses "$1" >"$1.losses" && losses "$2" >"$2.losses"
  [ "$(wc -l <"$1.losses")" -gt 100 ] || die "too few steps to compare"
  same "$1.losses" "$2.losses"
  same "$RUNS/$1/ledger.jsonl" "$RUNS/$2/ledger.jsonl"
}

shard sentiment
hosts=3
[ "${COHORT_LONG:-0}" != 1 ] || hosts=5
"$LOCAL/hosts" up $hosts && slurm up 2 || die "no Slurm"
cat >cluster.yaml <<'END'
partition: main
nodes: 2
tasks_per_node: 1   # ranks
gpus_per_node: 0
time: "0:10:00"
signal_seconds: 60
account:
END
from_file() {  # from_file CODE RUN [key=value ...]: by launch/slurm/submit, which follows the log
  expect "$1" "$LOCAL/slurm" do "$COHORT_ROOT/launch/slurm/submit" cluster.yaml "$CONFIG" \
    "$(options "$2")" "${@:3}"
}
from_file 0 whole
says "2 ranks on h[1-2]"
says "effective training time"

expect 0 "$LOCAL/slurm" do srun --mpi=pmix -N2 -n2 "$COHORT" doctor --folder "$WORK/doctor" --mib 1
says "2 ranks by srun"
says "between hosts"

submit asked --
wait_for_step asked 20
slurm do scancel --signal=USR1 "$id"
ended 0 1
grep -q "Queued again" "$LOG" || grep -q "which is 75" "$LOG" || die "not told that it was stopped"
equal whole asked

submit good --
wait_for_step good 20
slurm do scancel --batch --signal=USR2 "$id"
ended 75 0

from_file 2 usage train.epoch=3
says "did you mean"

# batch CODE COMMAND...: in a job of two nodes and four tasks, with what it says in $LOG.
batch() {
  LOG=$WORK/batch.log
  printf '#!/bin/bash\nunset COHORT_WORLD_SIZE\n%s\n' "${*:2}" >batch.sbatch
  slurm do sbatch -W --no-requeue -N2 -n4 -o "$LOG" batch.sbatch >/dev/null
  local status=$?
  [ $status = "$1" ] || die "exit $status instead of $1: ${*:2}"
}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
batch 2 "$MPIEXEC" -n 2 "$COHORT" doctor
says "2 ranks were started, but the Slurm job has 4 tasks"
batch 2 srun --mpi=pmix -N1 -n2 "$COHORT" doctor
says "the ranks are on 1 of the job's 2 nodes"
batch 2 srun --mpi=pmix -N2 -n2 "$COHORT" doctor
says "2 ranks were started, but the Slurm job has 4 tasks"
batch 0 "$MPIEXEC" -n 4 "$COHORT" doctor --folder "$WORK/doctor" --mib 1
batch 0 srun --mpi=pmix "$COHORT" doctor --folder "$WORK/doctor" --mib 1
batch 0 COHORT_WORLD_SIZE=2 "$MPIEXEC" -n 2 "$COHORT" doctor --folder "$WORK/doctor" --mib 1
[ "${COHORT_LONG:-0}" = 1 ] || { echo "slurm passed" && exit 0; }

export COHORT_START=mpirun
submit mpirun --
ended 0 0
equal whole mpirun
unset COHORT_START

# Too slow for its time at the first start.
submit time_up --time=1 --signal=B:USR1@30 -- --chaos slow-rank=1:20x
ended 0 '[1-9]'   # a busy machine may need more than two
grep -q "which is 75" "$LOG" || die "the signal before the time is up led to no checkpoint"
equal whole time_up

# The same by mpirun, on four nodes.
export COHORT_START=mpirun
submit whole4 -N4 -n4 --
ended 0 0
submit time_up4 -N4 -n4 --time=1 --signal=B:USR1@30 -- --chaos slow-rank=1:20x
ended 0 '[1-9]'
grep -q "which is 75" "$LOG" || die "the signal before the time is up led to no checkpoint"
equal whole4 time_up4
unset COHORT_START

submit array --array=0-1%1 -- name=array-%a
await_none
equal whole array-0
equal whole array-1

cat >sweep.yaml <<END
name: sweep
config: $CONFIG
runs: $RUNS
set: [data.shards=$SET/sentiment, train.epochs=1, device.threads=1]
objective: {metric: accuracy}
keys: {train.seed: {choice: [1, 2, 3]}}
parallel: 2
END
expect 0 "$LOCAL/slurm" do "$COHORT" sweep sweep.yaml --slurm
id=$(cat "$RUNS/sweep/array.job")
await_none
expect 0 "$COHORT" sweep sweep.yaml --report
[ "$(grep -c ',done,' "$RUNS/sweep/sweep.csv")" = 3 ] || die "not three trials are done"

submit power --
wait_for_step power 20
"$LOCAL/hosts" off h2
await 'PENDING|REQUEUED'
"$LOCAL/hosts" boot h2 && slurm node h2
ended 0 1
equal whole power
echo "slurm passed, long"
