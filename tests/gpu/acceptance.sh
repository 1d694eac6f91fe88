#!/usr/bin/env bash
# Everything that only a machine with a GPU can answer, in one command and at most 9 minutes on 16
# cores: builds there, runs the tests of the GPU part on the real libraries, then jobs and benchmarks.
#   tests/gpu/acceptance.sh [OUTPUT_FOLDER]          default: build/acceptance
# OUTPUT_FOLDER/gpu_report.md grows as results come, and the logs lie beside it. Exit 0 only where
# nothing failed. Settings:
#   TORCH_STEP=FILE        PyTorch's side of the benchmarks: torch_step.py
#   TORCH_PYTHON=python3   the Python that has PyTorch (and maybe CUDA's wheels)
#   CMAKE_OPTIONS="-D..."  more for CMake, as -DCMAKE_PREFIX_PATH=...
#   ACCEPTANCE_SECONDS=540
#   ACCEPTANCE_MODULE=on-host   a rehearsal without a GPU, on the stand-in of the tests
# shellcheck disable=SC2016,SC2046,SC2086
set -a   # phases run in shells of their own, which timeout can end: they need all of this
# shellcheck source=../../launch/lib.sh
. "$(dirname "$0")/../../launch/lib.sh"
OUT=${1:-$BUILD/acceptance}
mkdir -p "$OUT" || exit 1
OUT=$(cd "$OUT" && pwd)
REPORT=$OUT/gpu_report.md
WORK=$OUT/work
LIMIT=${ACCEPTANCE_SECONDS:-540}
TORCH_PYTHON=${TORCH_PYTHON:-python3}
ON_HOST=no
SUFFIX=
if [ "${ACCEPTANCE_MODULE:-}" = on-host ]; then
  ON_HOST=yes
  SUFFIX=_on_host
  export COHORT_CUDA_MODULE=libcohort_cuda_on_host.so HG_DEVICES=4
fi
BUILD=${COHORT_BUILD:-build/gpu$SUFFIX}
mkdir -p "$BUILD" || exit 1
BUILD=$(cd "$BUILD" && pwd)
COHORT=$BUILD/cohort
failures=0

left() { echo $((LIMIT - SECONDS)); }
line() { printf '%s\n' "$*" >>"$REPORT"; }
tail_of() { printf '```\n%s\n```\n' "$(tail -n "${2:-15}" "$1")" >>"$REPORT"; }

# phase NAME SECONDS COMMAND...: one row of the report; its output goes to NAME.log. What has no time
# left is not run, and counts as a failure.
phase() {
  local name=$1 most=$2 began=$SECONDS status
  shift 2
  [ "$most" -le "$(left)" ] || most=$(left)
  if [ "$most" -lt 5 ]; then
    line "| $name | NOT RUN | 0 s | no time left |"
    failures=$((failures + 1))
    return 1
  fi
  say "$name"
  timeout -k 5 "$most" bash -c '"$@"' phase "$@" >"$OUT/$name.log" 2>&1
  status=$?
  if [ $status = 0 ]; then
    line "| $name | passed | $((SECONDS - began)) s | $(summary "$OUT/$name.log") |"
    return 0
  fi
  [ $status != 124 ] || status="$status: more than $most s"
  line "| $name | FAILED (exit $status) | $((SECONDS - began)) s | $(summary "$OUT/$name.log") |"
  failures=$((failures + 1))
  return 1
}

# The line of a log that says most: what a test program counted, else the last one.
summary() {
  local text
  text=$(grep -E '^\[  (PASSED|FAILED)  \] [0-9]+ test|^sums passed|ERROR SUMMARY' "$1" | tail -n 2)
  [ -n "$text" ] || text=$(grep -v '^ *$' "$1" | tail -n 1)
  printf '%s' "$text" | tr '\n|' ' /' | cut -c 1-160
}

machine() {
  line "# GPU acceptance"
  line
  line "$(git describe --always --dirty 2>/dev/null || echo 'no commit'), $(date -u +%FT%TZ), $(cores) cores"
  line
  if [ $ON_HOST = yes ]; then
    line "**Rehearsal on the stand-in: nothing here was measured on a GPU.**"
  else
    nvidia-smi --query-gpu=name,pci.bus_id,driver_version,memory.total --format=csv,noheader \
      >"$OUT/gpus.txt" 2>&1 || die "nvidia-smi shows no GPU" \
      "run this on a machine with a GPU, or rehearse with ACCEPTANCE_MODULE=on-host"
    tail_of "$OUT/gpus.txt" 16
  fi
  line
  line "| phase | result | time | says |"
  line "|---|---|---|---|"
}

# The compute capability of the first GPU, as CMake wants it.
architecture() {
  nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .
}

build_all() {
  # What a compiler of that machine warns of is not what was asked.
  local options=(-DCMAKE_BUILD_TYPE=Release -DCOHORT_BUILD_TESTS=ON -DCOHORT_WERROR=OFF)
  local targets=(cohort cohort_cuda gpu_tests)
  if [ $ON_HOST = yes ]; then
    targets=(cohort cohort_cuda_on_host test_cuda_on_host nccl_mpi_check_on_host)
  else
    options+=(-DCOHORT_CUDA=on "-DCOHORT_CUDA_ARCHITECTURES=$(architecture)-real")
    options+=("-DCOHORT_TEST_PYTHON=$TORCH_PYTHON")
  fi
  cmake -S . -B "$BUILD" $(generator "$BUILD") "${options[@]}" ${CMAKE_OPTIONS:-} || return 1
  cmake --build "$BUILD" -j "$(cores)" --target "${targets[@]}" || return 1
  ldd "$BUILD/libcohort_cuda$SUFFIX.so" | grep -E 'cuda|cublas|cudnn|nccl' || true
}

gpu_count() {
  if [ $ON_HOST = yes ]; then echo 4; else nvidia-smi -L | wc -l; fi
}

# The tests of ops, updates, plans and PyTorch's numbers. NCCL takes no two threads of a process for
# ranks on one GPU: with fewer than four, ranks are tested as processes only.
library_tests() {
  local filter='*'
  [ "$(gpu_count)" -ge 4 ] || filter='-*Ranks*'
  "$BUILD/tests/gpu/test_cuda$SUFFIX" --gtest_brief=1 --gtest_filter="$filter"
}

# Of our kernels: the libraries' own are not ours to judge, nor the calls by which they probe drivers.
sanitizer() {
  compute-sanitizer --tool "$1" --kernel-name kns=cohort --report-api-errors no --error-exitcode 9 \
    "$BUILD/tests/gpu/test_cuda" --gtest_brief=1 --gtest_filter="$2"
}

ranks() {
  local n=$1
  shift
  "$LAUNCHER" -n "$n" "$@"
}

# pictures SIDE: a shard set of 400 grey ones of three classes.
pictures() {
  mkdir -p "$WORK/raw/pictures-$1" || return 1
  python3 -c "import random, struct
draw, n, side = random.Random(1), 400, $1
open('$WORK/raw/pictures-$1/pixels', 'wb').write(
    struct.pack('>4I', 0x0803, n, side, side) + draw.randbytes(n * side * side))
open('$WORK/raw/pictures-$1/labels', 'wb').write(
    struct.pack('>2I', 0x0801, n) + bytes(k % 3 for k in range(n)))" || return 1
  cat >"$WORK/pictures-$1.yaml" <<YAML
root: $WORK/raw/pictures-$1
output: $WORK/sets/pictures-$1
sources: [{path: pixels, labels: labels, format: idx, split: train}]
hold_out: [{from: train, to: validation, fraction: 0.2}]
fields: [{name: image, kind: image}, {name: label, kind: label, classes: 3}]
YAML
  "$COHORT" shard "$WORK/pictures-$1.yaml"
}

shard_demo() {
  local name
  "$COHORT" shard --demo "$WORK/raw" || return 1
  for name in behavior next-event recommend recommend-mlp sentiment; do
    "$COHORT" shard "shards/demo-$name.yaml" root="$WORK/raw" output="$WORK/sets/$name" || return 1
  done
  pictures 32 && pictures 64
}

# What each config trains on here.
set_of() {
  case $1 in
    behavior-next-event) echo next-event ;;
    behavior-*) echo behavior ;;
    recommend-two-tower) echo recommend ;;
    recommend-mlp) echo recommend-mlp ;;
    sentiment-*) echo sentiment ;;
    image-resnet50) echo pictures-64 ;;
    image-*) echo pictures-32 ;;
  esac
}

# Small batches: the CPU takes part, or is the GPU.
job_options() {
  local batch=16
  [ $ON_HOST = no ] || batch=4
  echo "data.shards=$WORK/sets/$(set_of "$1") runs=$WORK/runs device.kind=cuda data.lanes=0"
  echo "train.global_batch=$batch optimizer.warmup_steps=0"
}

# The same steps on the CPU and the GPU, each begun from the same state.
parity() {
  "$COHORT" train "configs/$1.yaml" $(job_options "$1") name="parity-$1" --parity "$2"
}

# A job on two ranks of one GPU, its checkpoint evaluated on the CPU.
job_on_two_ranks() {
  ranks 2 "$COHORT" train "configs/$1.yaml" $(job_options "$1") name="two-$1" train.epochs=1 \
    train.global_batch=1024 device.share_gpu=true || return 1
  COHORT_CUDA_MODULE='' "$COHORT" eval "$WORK/runs/two-$1" --split validation device.kind=cpu
}

WORKLOADS="behavior-seed image-seed sentiment recommend behavior resnet18 resnet50"
BENCH_OPTIONS="--seconds 1"
if [ $ON_HOST = yes ]; then
  WORKLOADS="behavior-seed image-seed"
  BENCH_OPTIONS="--seconds 0.01 --batch 2"
fi

bench_ours() {
  "$COHORT" bench "$1" --device cuda --precision "$2" $BENCH_OPTIONS
}

bench_torch() {
  "$TORCH_PYTHON" "$TORCH_STEP" --only "$1" --modes "$2" --seconds 1
}

benchmarks() {
  local name precision
  for name in $WORKLOADS; do
    for precision in tf32 bf16; do
      phase "bench-$name-$precision" 30 bench_ours "$name" "$precision"
    done
    [ -z "${TORCH_STEP:-}" ] || phase "torch-$name" 30 bench_torch "$name" eager,graph
  done
  # Slow to compile: as many as there is time for, first those that gain most.
  for name in resnet50 resnet18 behavior sentiment recommend image-seed behavior-seed; do
    if [ -n "${TORCH_STEP:-}" ] && [ "$(left)" -gt 60 ]; then
      phase "torch-compiled-$name" 90 bench_torch "$name" compile-graph
    fi
  done
}

# ours WORKLOAD PRECISION: samples/s, ms/step, host ms, kernels.
ours() { awk -v name="$1" '$1 == name { print $3, $4, $5, $6 }' "$OUT/bench-$1-$2.log"; }

# theirs WORKLOAD PRECISION: PyTorch's best, samples/s and its mode.
theirs() {
  cat "$OUT/torch-$1.log" "$OUT/torch-compiled-$1.log" 2>/dev/null |
    awk -v name="$1" -v precision="$2" '
      $1 == name && $2 == precision && $5 == "samples/s" && $4 > best { best = $4; mode = $3 }
      END { print best ? best " " mode : "- -" }'
}

# What the ceilings of one H100 (docs/performance.md) allow for, samples/s.
allowed() { "$COHORT" bench "$1" --device cuda --precision "$2" --floor | awk 'NR == 2 { print $NF }'; }

speed_table() {
  local name precision rate ms host kernels peer mode floor
  line
  line "## Speed"
  line
  line "| workload | precision | samples/s | ms/step | host ms | kernels | PyTorch's best | ratio | of the floor |"
  line "|---|---|---|---|---|---|---|---|---|"
  for name in $WORKLOADS; do
    for precision in tf32 bf16; do
      read -r rate ms host kernels <<<"$(ours "$name" "$precision")"
      [ -n "$rate" ] || continue
      read -r peer mode <<<"$(theirs "$name" "$precision")"
      floor=$(allowed "$name" "$precision")
      line "| $name | $precision | $rate | $ms | $host | $kernels | $peer ($mode) |" \
        "$(awk -v a="$rate" -v b="$peer" 'BEGIN { if (b > 0) printf "%.2f", a / b; else print "-" }') |" \
        "$(awk -v a="$rate" -v b="$floor" 'BEGIN { printf "%.0f%%", 100 * a / b }') |"
    done
  done
  line
  line "The floor is that of bf16 products for tf32 too. What the benchmarks said:"
  cat "$OUT"/bench-*.log "$OUT"/torch-*.log >"$OUT/speed.txt" 2>/dev/null
  tail_of "$OUT/speed.txt" 200
}

rm -rf "$WORK"
mkdir -p "$WORK"
: >"$REPORT"
machine
phase build "$((LIMIT * 6 / 10))" build_all || die "the build failed" "read $OUT/build.log"
mpi_environment
LAUNCHER=$(mpi_launcher) || exit 1
check=$BUILD/tests/gpu/nccl_mpi_check$SUFFIX
[ $ON_HOST = yes ] || phase tests 120 library_tests   # the rehearsal's are in launch/test
# cohort doctor on one rank per GPU, at most 8.
doctor() {
  local n
  n=$(gpu_count)
  [ "$n" -le 8 ] || n=8
  ranks "$n" "$COHORT" doctor --folder "$WORK/doctor" --mib "$([ $ON_HOST = yes ] && echo 1 || echo 64)"
}
phase doctor 90 doctor
phase nccl-2-ranks 30 ranks 2 "$check" share
phase nccl-4-ranks 40 ranks 4 "$check" share
[ "$(gpu_count)" -lt 2 ] || phase nccl-every-gpu 40 ranks "$(gpu_count)" "$check"
phase shards 60 shard_demo
for config in configs/*.yaml; do
  name=$(basename "$config" .yaml)
  case $ON_HOST-$name in
    yes-image-resnet*) ;;   # hours on the stand-in: the tests run small ones
    yes-*) phase "parity-$name" 120 parity "$name" 1 ;;
    *) phase "parity-$name" 30 parity "$name" 5 ;;
  esac
done
phase job-two-ranks 40 job_on_two_ranks behavior-rnn
if [ $ON_HOST = no ]; then
  small='*Agrees*/embedding*:*Agrees*/batch_norm*:*Agrees*/lstm*:*Agrees*/max*:*Agrees*/cross*'
  phase memcheck 60 sanitizer memcheck "$small"
  phase racecheck 60 sanitizer racecheck "$small"
fi
benchmarks
speed_table
line
line "$failures failures, $SECONDS s"
say "$failures failures; the report: $REPORT"
[ $failures = 0 ]
