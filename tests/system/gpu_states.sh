#!/usr/bin/env bash
# What outlives a job on GPUs, by the stand-in: checkpoints and scores, there and on the CPU; and how
# jobs end that cannot run or lose a rank.
. "$(dirname "$0")/lib.sh" "$@"
. "$2/tests/system/gpu_lib.sh"

few_rows behavior recommend sentiment
toys
TWO="train.epochs=2 checkpoint.every_steps=1 checkpoint.keep_last=100"
# options CONFIG: one of them with an average of its weights.
options() { [ "$1" != behavior-rnn ] || TWO="$TWO optimizer.ema=0.9"; echo "$TWO"; }

# go_on RUN NAME CONFIG DEVICE: a run that has but the first half of the checkpoints of RUN, resumed.
go_on() {
  local step
  cp -r "$RUNS/$1" "$RUNS/$2"
  rm "$RUNS/$2/metrics.jsonl"
  for step in "$RUNS/$2"/checkpoints/step-*; do
    [ "$((10#${step##*-}))" -le 6 ] || rm -r "$step"
  done
  # One that was due while another was being written has a later step.
  step=$((10#$(last_step "$2")))
  [ "$step" -ge 1 ] || die "$1 has no early checkpoint"
  train "$3" "$2" 2 --resume $(options "$3") device.kind="$4"
  says "resumed from"
  says "at step $step"
}
for config in recommend-two-tower sentiment-cnn behavior-rnn; do
  train $config $config-gpu 2 $(options $config)
  train $config $config-cpu 2 $(options $config) device.kind=cpu
  near $config-gpu $config-cpu 1e-4
  go_on $config-gpu $config-gpu-gpu $config cuda
  same_end $config-gpu-gpu $config-gpu
  go_on $config-gpu $config-gpu-cpu $config cpu
  near $config-gpu-cpu $config-gpu 1e-4
  go_on $config-cpu $config-cpu-gpu $config cuda
  near $config-cpu-gpu $config-gpu 1e-4
done

# numbers FILE: every number in it, one a line.
numbers() { grep -oE '[-]?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?' "$1"; }
close_to() {
  numbers "$1" >one.numbers
  numbers "$2" >two.numbers
  [ -s one.numbers ] || die "no number in $1"
  [ "$(wc -l <one.numbers)" = "$(wc -l <two.numbers)" ] || die "$1 and $2 are of different length"
  paste one.numbers two.numbers | awk '{ d = $1 - $2; if (d < 0) d = -d; m = $2 < 0 ? -$2 : $2
    if (!(d <= 1e-4 * (m > 1 ? m : 1))) bad = 1 } END { exit bad }' || die "$1 and $2 differ"
}

# Scores and predictions of one checkpoint are the same on both devices.
for config in recommend-two-tower sentiment-cnn behavior-rnn; do
  for device in cpu cuda; do
    run=$RUNS/$config-gpu
    $(on_gpus 2) "$COHORT" eval "$run" --split test --json device.kind=$device >$device.json 2>"$LOG" ||
      die "eval of $config on $device"
    expect 0 $(on_gpus 2) "$COHORT" predict "$run" --split test device.kind=$device
    mv "$run/predictions/test.jsonl" $device.jsonl
  done
  close_to cuda.json cpu.json
  close_to cuda.jsonl cpu.jsonl
done
train behavior-rnn both 2 --parity 3
says "equal up to rounding"

# Jobs that cannot run say so before the first step.
MORE=
refused() {
  local wanted=$1
  shift
  expect 2 "$@" "$COHORT" train toys/behavior-rnn.yaml data.shards="$SET/behavior" runs="$RUNS" \
    name=refused device.kind=cuda $SMALL $MORE
  says "$wanted"
  [ ! -s "$RUNS/refused/metrics.jsonl" ] || die "a step ran before: $wanted"
  rm -rf "$RUNS/refused"
}
refused "has no GPU: check nvidia-smi" env HG_DEVICES=0
refused "device.share_gpu: true" env HG_DEVICES=1 "$MPIEXEC" -n 2
refused "train.global_batch" env HG_MEMORY_MIB=64
MORE=train.global_batch=20000
refused "lower train.global_batch or raise train.accumulate" env HG_MEMORY_MIB=200
MORE=
refused "none.so: there is no module for GPUs" env COHORT_CUDA_MODULE=none.so
HG_DEVICES=1 train behavior-rnn shared 1
expect 0 env HG_DEVICES=1 "$MPIEXEC" -n 2 "$COHORT" train toys/behavior-rnn.yaml device.share_gpu=true \
  data.shards="$SET/behavior" runs="$RUNS" name=shared-2 device.kind=cuda $SMALL
near shared-2 shared 1e-4

# A rank that is killed ends the others, who name it.
$(on_gpus 3) "$COHORT" train toys/behavior-rnn.yaml data.shards="$SET/behavior" runs="$RUNS" \
  name=killed device.kind=cuda $SMALL train.epochs=100000 checkpoint.every_steps=5 >"$LOG" 2>&1 &
job=$!
wait_for_step killed 5
began=$SECONDS
victim=$(ranks | tail -n 1)
number=$(tr '\0' '\n' <"/proc/$victim/environ" | sed -n 's/^OMPI_COMM_WORLD_RANK=//p; s/^PMI_RANK=//p')
kill -9 "$victim"
wait $job && die "a job that lost a rank ended with 0"
[ $((SECONDS - began)) -le $((30 * PATIENCE)) ] || die "the others ended after $((SECONDS - began)) s"
[ -z "$(ranks)" ] || die "ranks outlive their job"
says "rank $number"
echo "states of GPU jobs passed"
