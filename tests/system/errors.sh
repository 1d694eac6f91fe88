#!/usr/bin/env bash
# Wrong input and lost ranks: the exit code, a message that names what is wrong, and never a hang.
. "$(dirname "$0")/lib.sh" "$@"

CONFIG=$CONFIGS/behavior-rnn.yaml
options() {
  echo data.shards="$SET/behavior" runs="$RUNS" name="$1" train.epochs=1 device.threads=1
}

# flip FILE: one bit in the middle of it.
flip() {
  local at byte
  at=$(($(stat -c %s "$1") / 2))
  byte=$(od -An -tu1 -j $at -N 1 "$1")
  printf "\\x$(printf %x $((byte ^ 1)))" | dd of="$1" bs=1 seek=$at conv=notrunc status=none
}

shard behavior

# Usage.
expect 2 "$COHORT" train "$CONFIG" $(options typo) train.epoch=1
says "train.epoch"
says "did you mean"
expect 2 "$COHORT" train "$CONFIG" $(options typo) train.epochs=many
says "train.epochs"
expect 2 "$COHORT" train "$CONFIG" $(options typo) train.early_stop_metric=auc
says "early_stop_metric"
expect 2 "$COHORT" train missing.yaml
says "missing.yaml"
[ ! -e "$RUNS/typo" ] || die "a refused config left a run folder"

expect 0 "$COHORT" train "$CONFIG" $(options first) checkpoint.every_steps=20
expect 2 "$COHORT" train "$CONFIG" $(options first)
says "--resume"
expect 0 "$COHORT" train "$CONFIG" $(options first) --new
[ -d "$RUNS/first-2" ] || die "--new made no folder beside the first"

# Raw data.
sed 's/train\.csv/train.parquet/' "$SHARDS/demo-behavior.yaml" >parquet.yaml
: >"$WORK/raw/behavior/train.parquet"
expect 3 "$COHORT" shard parquet.yaml root="$WORK/raw" output="$SET/parquet"
says "Parquet is not read"
says "train.parquet"
[ ! -e "$SET/parquet" ] || die "a failed shard run left a shard set"

# A damaged checkpoint: the one before it is taken.
newest=$RUNS/first/checkpoints/step-$(last_step first)
flip "$newest/tensors-00001-of-00001.safetensors"
expect 4 "$COHORT" verify "$newest"
expect 0 "$COHORT" train "$CONFIG" $(options first) checkpoint.every_steps=20 --resume
says "skipped the checkpoint $newest"
says "resumed from"
expect 0 "$COHORT" verify "$newest"
same_tensors "$newest" "$RUNS/first-2/checkpoints/${newest##*/}"

# A damaged shard: alone, and without a hang where the other rank is well.
flip "$SET/behavior/train-00001.h5"
expect 3 "$COHORT" verify "$SET/behavior"
says "train-00001.h5"
expect 3 "$COHORT" train "$CONFIG" $(options damaged)
says "train-00001.h5"
expect 3 "$MPIEXEC" -n 2 "$COHORT" train "$CONFIG" $(options damaged-2)
error_lines 1 " error rank [01] [^ ]+: .*train-00001\.h5"
no_loss
flip "$SET/behavior/train-00001.h5"
expect 0 "$COHORT" verify "$SET/behavior"

# A rank is killed: the job ends and the message names the rank.
"$MPIEXEC" -n 3 "$COHORT" train "$CONFIG" $(options lost) train.epochs=100000 \
  checkpoint.every_steps=20 >"$LOG" 2>&1 &
job=$!
wait_for_step lost 20
victim=$(ranks | tail -n 1)
rank=$(tr '\0' '\n' <"/proc/$victim/environ" |
  sed -n -e 's/^OMPI_COMM_WORLD_RANK=//p' -e 's/^PMI_RANK=//p' | head -n 1)
[ -n "$rank" ] || die "no rank to kill"
kill -9 "$victim"
for ((i = 0; i < 300; i++)); do
  kill -0 $job 2>/dev/null || break
  sleep 0.1
done
kill -0 $job 2>/dev/null && die "30 s after rank $rank was killed the job still runs"
wait $job && die "a job that lost a rank ended with 0"
# MPICH's launcher names the process and may kill the others before they can speak.
grep -qE -e " error rank [0-9] [^ ]+: rank $rank \(host [^ ]+, pid $victim\) is gone" \
  -e "PID $victim RUNNING AT" "$LOG" ||
  die "no rank says that rank $rank is gone"
[ -z "$(ranks)" ] || die "ranks outlive their job"
echo "errors passed"
