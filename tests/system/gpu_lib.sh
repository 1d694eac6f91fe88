# shellcheck shell=bash disable=SC2034
# Sourced after lib.sh: small jobs of every config on the stand-in for GPUs, whose module lies beside
# the program.
export COHORT_CUDA_MODULE=libcohort_cuda_on_host.so
SMALL="train.epochs=1 train.log_every_steps=1 train.global_batch=8
       train.eval_every_epochs=0 optimizer.warmup_steps=0 data.lanes=8 device.threads=1"

# few_rows NAME...: demo shard sets, of the first rows alone.
few_rows() {
  local name file
  expect 0 "$COHORT" shard --demo "$WORK/raw"
  for file in "$WORK"/raw/*/*.csv; do
    head -n 41 "$file" >few.csv && mv few.csv "$file"
  done
  for name in "$@"; do
    expect 0 "$COHORT" shard "$SHARDS/demo-$name.yaml" root="$WORK/raw" output="$SET/$name"
  done
}

# on_gpus N: what starts a command on N ranks with a GPU each.
on_gpus() {
  if [ "$1" = 1 ]; then echo env HG_DEVICES=1; else echo env HG_DEVICES="$1" "$MPIEXEC" -n "$1"; fi
}

# big_endian N...: four bytes each.
big_endian() {
  local n
  for n in "$@"; do
    printf "\\$(printf %o $((n >> 24 & 255)))\\$(printf %o $((n >> 16 & 255)))"
    printf "\\$(printf %o $((n >> 8 & 255)))\\$(printf %o $((n & 255)))"
  done
}

# pictures COUNT SIDE: grey ones of two classes in the folder `pictures`, and a shard set of them.
pictures() {
  mkdir -p pictures
  {
    big_endian $((0x0803)) "$1" "$2" "$2"
    LC_ALL=C awk -v n=$(($1 * $2 * $2)) 'BEGIN {
      for (i = x = 1; i <= n; i++) { x = (x * 75 + 74) % 65537; printf "%c", 1 + x % 255 } }'
  } >pictures/pixels
  {
    big_endian $((0x0801)) "$1"
    LC_ALL=C awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) printf i % 3 ? "\001" : "\002" }'
  } >pictures/labels
  cat >pictures.yaml <<'YAML'
root: pictures
output: sets/pictures
sources: [{path: pixels, labels: labels, format: idx, split: train}]
hold_out: [{from: train, to: validation, fraction: 0.2}]
fields: [{name: image, kind: image}, {name: label, kind: label, classes: 3}]
YAML
  expect 0 "$COHORT" shard pictures.yaml
}

# Every config at toy size: its file in the folder `toys`. ResNets have a sixteenth of the channels.
toys() {
  local file
  mkdir -p toys
  for file in "$CONFIGS"/*.yaml; do cp "$file" toys/; done
  for file in toys/image-resnet*.yaml; do
    sed -i 's/filters: 64/filters: 4/; s/filters: 128/filters: 8/; s/filters: 256/filters: 16/
            s/filters: 512/filters: 32/' "$file"
  done
}

set_of() {
  case $1 in
    behavior-next-event) echo next-event ;;
    behavior-*) echo behavior ;;
    recommend-two-tower) echo recommend ;;
    recommend-mlp) echo recommend-mlp ;;
    sentiment-*) echo sentiment ;;
    image-*) echo pictures ;;
    *) die "$1: a config that this test has no shard set for" ;;
  esac
}

# train CONFIG NAME RANKS [KEY=VALUE...]: a small job on GPUs; the CPU's: device.kind=cpu.
train() {
  local config=$1 name=$2 ranks=$3
  shift 3
  expect 0 $(on_gpus "$ranks") "$COHORT" train "toys/$config.yaml" data.shards="$SET/$(set_of "$config")" \
    runs="$RUNS" name="$name" device.kind=cuda $SMALL "$@"
}

# steps RUN: "step loss grad_norm" of each logged step.
steps() {
  sed -n 's/^{"kind":"train".*"step":\([0-9]*\),.*"loss":\([^,]*\),.*"grad_norm":\([^,]*\),.*/\1 \2 \3/p' \
    "$RUNS/$1/metrics.jsonl"
}

# near RUN OTHER SHARE: losses of the steps of RUN equal up to a share of themselves; same ledgers.
near() {
  steps "$1" >one.steps
  steps "$2" >two.steps
  awk -v share="$3" '
    FNR == NR { loss[$1] = $2; next }
    !($1 in loss) { bad = 1; next }
    { d = $2 - loss[$1]; if (d < 0) d = -d; m = loss[$1] < 0 ? -loss[$1] : loss[$1]; n++ }
    !(d <= share * m) { bad = 1 }
    END { exit bad || n < 3 }' two.steps one.steps ||
    { cat one.steps two.steps >"$LOG"; die "losses of $1 and $2 differ"; }
  same "$RUNS/$1/ledger.jsonl" "$RUNS/$2/ledger.jsonl"
}

# same_end RUN OTHER: last checkpoint and ledger, bit for bit.
same_end() {
  same_tensors "$RUNS/$1/checkpoints/step-$(last_step "$1")" \
    "$RUNS/$2/checkpoints/step-$(last_step "$2")"
  same "$RUNS/$1/ledger.jsonl" "$RUNS/$2/ledger.jsonl"
}

# equal RUN OTHER: every step too.
equal() {
  steps "$1" >one.steps
  steps "$2" >two.steps
  [ -s one.steps ] || die "$1 logged no step"
  same one.steps two.steps
  same_end "$1" "$2"
}
