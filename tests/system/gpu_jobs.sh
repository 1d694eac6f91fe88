#!/usr/bin/env bash
# Jobs on GPUs, by the stand-in: every config as on the CPU, whatever the ranks, the order of what a
# GPU does and the precision.
. "$(dirname "$0")/lib.sh" "$@"
. "$2/tests/system/gpu_lib.sh"

few_rows behavior next-event recommend recommend-mlp sentiment
pictures 40 33
toys

# Rates of nets with batch norm are low here: at eight rows a step rounding soon grows.
for file in toys/*.yaml; do
  config=$(basename "$file" .yaml)
  rate=
  case $config in image-resnet*) rate=optimizer.learning_rate=0.0001 ;; esac
  train "$config" "$config-cpu" 1 device.kind=cpu $rate
  for n in 1 2 4; do
    train "$config" "$config-$n" "$n" $rate
    near "$config-$n" "$config-cpu" 1e-4
  done
done

# Recorded steps are eager ones; so are they in any order of threads, streams and graph nodes.
for config in behavior-lstm recommend-two-tower image-cnn; do
  train "$config" "$config-eager" 2 device.graph=false
  equal "$config-eager" "$config-2"
done
order() {
  export HG_WHEN=$1 HG_ORDER=$2 HG_SEED=$3
  train recommend-two-tower "two-tower-$1-$2" 2
  train image-cnn "image-$1-$2" 1
  unset HG_WHEN HG_ORDER HG_SEED
  equal "two-tower-$1-$2" recommend-two-tower-2
  equal "image-$1-$2" image-cnn-1
}
order eager reverse 1
order random random 2
order lazy random 3

# Nothing is leaked, and the host touches no memory of a GPU.
for config in sentiment-cnn image-cnn; do
  HG_LEAKS=1 HG_PROTECT=1 train "$config" "$config-clean" 2
  equal "$config-clean" "$config-2"
done

# Every precision learns: of the last epoch's loss much less is left than of the first's.
learns() {
  train "$1" "$1-$2" 1 device.precision="$2" train.epochs=8 "$3" "${4:-train.seed=1}"
  steps "$1-$2" | awk '{ loss[NR] = $2 } END {
    for (i = 0; i < 4; i++) { first += loss[1 + i]; last += loss[NR - i] }
    exit !(NR > 8 && last < 0.8 * first) }' || { steps "$1-$2" >"$LOG"; die "$1 in $2 learns nothing"; }
}
for precision in tf32 bf16 f16; do
  learns sentiment-cnn $precision optimizer.learning_rate=0.01
  learns behavior-lstm $precision optimizer.learning_rate=0.02
done
train image-resnet18 resnet18-bf16 2 device.precision=bf16 device.reduce=bf16 \
  optimizer.learning_rate=0.0001
near resnet18-bf16 image-resnet18-2 0.1

# A step in several passes is the same step; so is its clipped norm.
train sentiment-cnn passes 2 train.accumulate=2
near passes sentiment-cnn-2 1e-4
train recommend-mlp clipped 2 optimizer.clip_norm=0.01
train recommend-mlp clipped-cpu 1 optimizer.clip_norm=0.01 device.kind=cpu
near clipped clipped-cpu 1e-4
echo "jobs on GPUs passed"
