#!/usr/bin/env bash
# An error that every rank meets: one message, by rank 0, one exit code everywhere, no noise of a lost
# rank or of MPI_Abort. An error that one rank meets alone: that rank names itself and ends the job.
. "$(dirname "$0")/lib.sh" "$@"

CONFIG=$CONFIGS/behavior-rnn.yaml
options() {
  echo data.shards="$SET/behavior" runs="$RUNS" name="$1" train.epochs=1 device.threads=1
}

# What every rank runs: the program, and its exit code noted. mpirun kills the others once one has
# ended with an error, so each waits until all have noted theirs. PER_RANK: a working folder of each.
cat >rank.sh <<'END'
trap '' TERM
rank=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}}
[ -z "${ALLOCATION:-}" ] || export SLURM_JOB_ID=7 SLURM_NTASKS=$ALLOCATION SLURM_PROCID=0
[ -z "${STEP:-}" ] || export SLURM_JOB_ID=7 SLURM_STEP_ID=0 PATH=$STEP:$PATH
[ -z "${PER_RANK:-}" ] || cd "$PER_RANK/$rank" || exit 99
"$@"
code=$?
echo $code >"$CODES/$rank"
for ((i = 0; i < 50 && $(ls "$CODES" | wc -l) < ${OMPI_COMM_WORLD_SIZE:-${PMI_SIZE:-1}}; i++)); do
  sleep 0.1
done
exit $code
END
export CODES=$WORK/codes

# on_ranks N STATUS ARGUMENT...: `cohort ARGUMENT...` on N ranks ends with STATUS.
on_ranks() {
  local n=$1 status=$2
  shift 2
  rm -rf "$CODES" && mkdir "$CODES"
  expect "$status" "$MPIEXEC" -n "$n" bash "$WORK/rank.sh" "$COHORT" "$@"
}

# together STATUS TEXT ARGUMENT...: with and without a launcher.
together() {
  local status=$1 text=$2 n rank
  shift 2
  expect "$status" "$COHORT" "$@"
  error_lines 1 " error: .*$text"
  for n in 1 2 3; do
    on_ranks $n "$status" "$@"
    [ $n = 1 ] && error_lines 1 "$text" || error_lines 1 " error rank 0 [^ ]+: .*$text"
    no_loss
    ! grep -q MPI_ABORT "$LOG" || die "$n ranks that agree called MPI_Abort"
    for ((rank = 0; rank < n; rank++)); do
      [ "$(cat "$CODES/$rank" 2>/dev/null)" = "$status" ] || die "rank $rank did not exit $status"
    done
  done
}

shard behavior
together 2 "train\.epoch'; did you mean" train "$CONFIG" $(options key) train.epoch=1

sed 's/dense: {units: 1}/conv2d: {filters: 3, kernel: 3}/' "$CONFIG" >misfit.yaml
together 2 "misfit\.yaml:[0-9]+:[0-9]+: " train misfit.yaml $(options misfit)

together 3 'sets/none: no shard set there .*`cohort shard' train "$CONFIG" $(options missing) data.shards="$SET/none"

: >plain
together 4 "plain/runs: .*[Nn]ot a directory" train "$CONFIG" $(options folder) runs="$WORK/plain/runs"

# A command line that is none.
on_ranks 3 2 train
[ "$(grep -c 'config is required' "$LOG")" = 1 ] || die "not told once: config is required"

# In a batch script of Slurm: as many ranks as tasks, or as many as are meant.
ALLOCATION=4 on_ranks 2 2 doctor
error_lines 1 " error rank 0 [^ ]+: 2 ranks were started, but the Slurm job has 4 tasks"
no_loss
# In a step only Slurm itself knows the job's tasks.
mkdir slurm && cat >slurm/scontrol <<'END'
#!/bin/sh
[ "$*" = "-o show job 7" ] && echo "JobId=7 JobName=x NumNodes=1 NumCPUs=4 NumTasks=3 CPUs/Task=1"
END
chmod +x slurm/scontrol
STEP=$WORK/slurm on_ranks 2 2 doctor
error_lines 1 " error rank 0 [^ ]+: 2 ranks were started, but the Slurm job has 3 tasks"
STEP=$WORK/slurm on_ranks 4 2 train no.yaml
says "no.yaml"
ALLOCATION=4 COHORT_WORLD_SIZE=2 on_ranks 2 0 train "$CONFIG" $(options meant) train.max_steps=1
ALLOCATION=4 on_ranks 2 0 eval "$RUNS/meant"   # no training: any number

# Rank 0 can write no checkpoint any more: every rank ends with what it says.
timeout -k 10 $((100 * PATIENCE)) "$MPIEXEC" -n 3 "$COHORT" train "$CONFIG" $(options storage) train.epochs=100000 \
  checkpoint.every_steps=5 >"$LOG" 2>&1 &
job=$!
wait_for_step storage 5
until mv "$RUNS/storage/checkpoints" "$RUNS/storage/moved" && : >"$RUNS/storage/checkpoints"; do
  rm -rf "$RUNS/storage/moved"
done 2>"$WORK/moving"
wait $job
status=$?
[ $status = 4 ] || die "exit $status instead of 4 when a checkpoint could not be written"
error_lines 1 " error rank 0 [^ ]+: step [0-9]+: the last checkpoint could not be written: .*[Nn]ot a directory"
no_loss
! grep -q MPI_ABORT "$LOG" || die "ranks that agreed called MPI_Abort"
grep -q '"exit_code": 4' "$RUNS/storage/run.json" || die "run.json does not tell how the run ended"

# alone N RANK: each rank has a copy of the shards; that of RANK is cut while the ranks train.
alone() {
  local n=$1 rank=$2 name=alone-$1-$2 r job status
  export PER_RANK=$WORK/$name
  for ((r = 0; r < n; r++)); do
    mkdir -p "$PER_RANK/$r" && cp -r "$SET/behavior" "$PER_RANK/$r/set"
  done
  rm -rf "$CODES" && mkdir "$CODES"
  timeout -k 10 $((100 * PATIENCE)) "$MPIEXEC" -n "$n" bash "$WORK/rank.sh" "$COHORT" train "$CONFIG" \
    $(options "$name") data.shards=set train.epochs=100000 checkpoint.every_steps=5 >"$LOG" 2>&1 &
  job=$!
  wait_for_step "$name" 5
  for r in "$PER_RANK/$rank"/set/train-*.h5; do
    truncate -s 4096 "$r"
  done
  wait $job
  status=$?
  [ $status = 3 ] || die "exit $status instead of 3 when rank $rank of $n met a cut shard"
  error_lines 1 " error$([ "$n" = 1 ] || echo " rank $rank [^ ]+"): .*train-0000[0-9]\.h5"
  no_loss
  [ -z "$(ranks)" ] || die "ranks outlive their job"
  unset PER_RANK
}
alone 1 0
alone 2 1
alone 3 0
alone 3 2

# One rank with another config: it meets an error before the others wait for it.
mkdir 0 1 && cp "$CONFIG" 0/mine.yaml && sed 's/units: 50/units: x/' "$CONFIG" >1/mine.yaml
PER_RANK=$WORK on_ranks 2 2 train mine.yaml $(options differs)
error_lines 1 " error rank 1 [^ ]+: mine\.yaml:[0-9]+:[0-9]+: "
no_loss

# Two configs that are both good: told before the ranks do anything else together.
sed 's/^train:/device: {kind: reference}\ntrain:/' "$CONFIG" >1/mine.yaml
PER_RANK=$WORK on_ranks 2 2 train mine.yaml $(options differs)
error_lines 1 " error rank 0 [^ ]+: rank 1 .* 'kind: reference', rank 0 .* 'kind: cpu'"
no_loss
echo "errors on ranks passed"
