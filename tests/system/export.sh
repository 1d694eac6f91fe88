#!/usr/bin/env bash
# Every config at toy size: trained, exported, verified, asked; damaged bundles; exports that are killed.
# Those of configs/real/ where their data is: in COHORT_TEST_DATA, else ../shared/data.
. "$(dirname "$0")/lib.sh" "$@"
HERE=$2/tests/system
PYTHON=${COHORT_TEST_PYTHON:-python3}
DATA=${COHORT_TEST_DATA:-$2/../shared/data}

"$PYTHON" -c 'import onnxruntime, numpy, safetensors, PIL, icu' 2>/dev/null ||
  skip "onnxruntime, numpy, safetensors, Pillow and PyICU are needed by COHORT_TEST_PYTHON"
check() { expect 0 "$PYTHON" "$HERE/export_check.py" "$@"; }
list() { "$PYTHON" "$HERE/export_check.py" "$@"; }

# toy NAME: the config with a sixteenth of the channels.
toy() {
  mkdir -p real
  "$PYTHON" - "$CONFIGS/$1.yaml" >"$1.yaml" <<'CUT'
import re, sys
print(re.sub(r"filters: (\d+)", lambda m: f"filters: {max(1, int(m[1]) // 16)}", open(sys.argv[1]).read()))
CUT
}

# prove CONFIG SET [NAME]: from shard set to answers by three programs.
prove() {
  local config=$1 set=$2 name=${3:-$1} bundle
  bundle=$WORK/bundles/$name
  toy "$config"
  expect 0 "$COHORT" train "$config.yaml" name="$name" data.shards="$SET/$set" runs="$RUNS" \
    train.epochs=1 train.max_steps=8 data.lanes=0 train.global_batch=7 device.threads=1 \
    optimizer.warmup_steps=0
  expect 0 "$COHORT" export "$RUNS/$name" --to "$bundle"
  [ "$(tail -n 1 "$LOG" | cut -c 1-64)" = "$(cut -c 1-64 "$bundle/MANIFEST.sha256")" ] ||
    die "export of $name does not print the root digest"
  (cd "$bundle" && sha256sum --status -c MANIFEST.sha256) || die "$name: MANIFEST.sha256"
  expect 0 "$COHORT" verify "$bundle"
  says "0 problems"
  list rows "$bundle" >rows.jsonl || die "rows of $name"
  "$COHORT" score "$bundle" <rows.jsonl >answers.jsonl 2>"$LOG" || die "score of $name"
  "$COHORT" score "$bundle" --rows 1 --threads 1 < <(head -n 3 rows.jsonl) >some.jsonl 2>"$LOG" ||
    die "score of single rows of $name"
  [ "$(wc -l <some.jsonl)" = 3 ] || die "$name: not one answer for each of three rows"
  check bundle "$bundle" "$RUNS/$name/checkpoints/step-$(last_step "$name")" answers.jsonl
  expect 0 "$PYTHON" "$HERE/../export/reference.py" "$bundle" answers.jsonl
}

# damage BUNDLE: a byte of every file, a file too many, a file too few.
damage() {
  local bundle=$1 file
  for file in "$bundle"/*; do
    cp "$file" saved
    list flip "$file" 0.$((RANDOM % 1000 + 1000 * (RANDOM % 9 + 1)))
    expect 4 "$COHORT" score "$bundle" </dev/null
    grep -E '^[^ ]+Z error' "$LOG" | grep -qF "$file:" || die "$file is not named"
    rm "$file"
    expect 4 "$COHORT" verify "$bundle"
    says "$file"
    mv saved "$file"
  done
  touch "$bundle/more"
  expect 4 "$COHORT" verify "$bundle"
  says "$bundle/more"
  rm "$bundle/more"
  expect 0 "$COHORT" verify "$bundle"
}

shard behavior next-event recommend recommend-mlp sentiment
check pictures "$WORK/pictures"
expect 0 "$COHORT" shard "$SHARDS/cifar10-jpeg.yaml" root="$WORK/pictures" output="$SET/small"
expect 0 "$COHORT" shard "$SHARDS/imagenet.yaml" root="$WORK/pictures" output="$SET/large" \
  hold_out.0.fraction=0.2 'sources.0.size=[40, 33]' 'sources.1.size=[40, 33]'

prove sentiment-cnn sentiment
prove behavior-lstm behavior
prove behavior-rnn behavior
prove behavior-next-event next-event
prove recommend-mlp recommend-mlp
prove recommend-two-tower recommend
prove image-cnn small
prove image-resnet18 small
prove image-resnet50 large

# real CONFIG RECIPE FOLDER FILE...: the first lines of the files.
real() {
  local config=$1 recipe=$2 folder=$3 file
  shift 3
  for file in "$@"; do
    if [ ! -e "$folder/$file" ]; then
      echo "Skipped: configs/real/$config.yaml: no $folder/$file"
      return
    fi
    mkdir -p "raw/$config"
    case $file in
      *.gz | u.*) cp "$folder/$file" "raw/$config" ;;
      *) head -n 600 "$folder/$file" >"raw/$config/$file" ;;
    esac
  done
  expect 0 "$COHORT" shard "$SHARDS/$recipe.yaml" root="$WORK/raw/$config" output="$SET/$config"
  prove "real/$config" "$config" "real-$config"
}
real ml-100k ml-100k "$DATA/ml-100k" u1.base u1.test u.user u.item
real collegemsg collegemsg "$DATA/collegemsg" CollegeMsg.txt
real mr-polarity mr-polarity "$DATA/mr-polarity" rt-polarity.pos rt-polarity.neg
real stackoverflow-badges stackoverflow-badges "$DATA/stackoverflow-badges" event-train.txt event-test.txt
real fashion-mnist demo-images /usr/share/datasets/fashion-mnist \
  {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz
for config in "$CONFIGS"/*.yaml; do
  config=${config##*/}
  [ -d "$WORK/bundles/${config%.yaml}" ] || die "configs/$config was not proved"
done
[ "$(ls "$CONFIGS"/real/*.yaml | wc -l)" = 5 ] || die "a config in configs/real is not proved"

# Words of many writings, cut in both ways.
check texts "$WORK/texts"
for words in unicode space; do
  printf '%s\n' "root: $WORK/texts" "output: $SET/$words" 'sources:' '  - {path: train.csv}' \
    '  - {path: test.csv, split: test}' 'hold_out: [{fraction: 0.2}]' 'fields:' \
    "  - {name: tokens, kind: tokens, column: text, words: $words}" \
    '  - {name: label, kind: label}' >texts.yaml
  expect 0 "$COHORT" shard texts.yaml
  prove sentiment-cnn "$words" "words-$words"
  check words "$WORK/bundles/words-$words" "$words"
done
[ ! -d "$DATA/pngsuite" ] || expect 0 "$PYTHON" "$HERE/../export/pixels.py" "$DATA/pngsuite"

# A checkpoint alone, another opset; never over what is there.
B=$WORK/bundles/recommend-two-tower
expect 0 "$COHORT" export "$RUNS/sentiment-cnn/checkpoints/step-$(last_step sentiment-cnn)" \
  --to "$WORK/bundles/other" --opset 17
expect 2 "$COHORT" export "$RUNS/sentiment-cnn" --to "$WORK/bundles/other"
says "exists already"

# The best items of users known by their ids alone; behind a sigmoid too.
for B in "$WORK/bundles/real-ml-100k" "$WORK/bundles/recommend-two-tower"; do
  [ -d "$B" ] || continue
  list users "$B" >users.jsonl || die "users"
  "$COHORT" score "$B" --top 4 <users.jsonl >top.jsonl 2>"$LOG" || die "score --top"
  check top "$B" users.jsonl top.jsonl
done
expect 2 "$COHORT" score "$WORK/bundles/sentiment-cnn" --top 4 </dev/null
says "not two-tower"

# A dot that gives no towers is told.
sed 's/^  loss:/    - dense: {name: last, units: 1}\n  loss:/' "$CONFIGS/recommend-two-tower.yaml" >dense.yaml
expect 0 "$COHORT" train dense.yaml name=dense data.shards="$SET/recommend" runs="$RUNS" train.epochs=1 \
  train.max_steps=2 data.lanes=0 train.global_batch=7 device.threads=1 optimizer.warmup_steps=0
expect 0 "$COHORT" export "$RUNS/dense" --to "$WORK/dense"
says "no towers, no items, no index: layer 'last' (dense) stands behind the dot"

# For Triton: numbers of a sequence and its length with mse, pictures, pairs.
if "$PYTHON" -c 'import tritonclient.grpc' 2>/dev/null; then
  for config in behavior-lstm image-cnn recommend-two-tower; do
    expect 0 "$COHORT" publish "$WORK/bundles/$config" --triton "$WORK/layout"
    expect 0 "$PYTHON" "$HERE/../export/triton_check.py" "$WORK/layout/$config" 1
  done
else
  echo "Skipped: Triton's schema: no tritonclient[grpc] in COHORT_TEST_PYTHON"
fi

# Bad rows are told in their places.
printf '%s\n' '{"text":"fine"}' 'no json' '{"text":7}' '[]' '{"text":"bad"}' >mixed.jsonl
"$COHORT" score "$WORK/bundles/sentiment-cnn" <mixed.jsonl >mixed.out 2>"$LOG"
[ $? = 3 ] || die "bad rows do not lead to exit code 3"
[ "$(cut -c 3-7 mixed.out | tr '\n' ' ')" = "best\" error error error best\" " ] || die "answers: $(cat mixed.out)"

# Weights beside the models: answered by another program wherever the bundle is copied to.
for config in recommend-two-tower sentiment-cnn; do
  D=$WORK/beside/$config
  expect 0 "$COHORT" export "$RUNS/$config" --to "$D" --external-data
  [ -s "$D/model.onnx.data" ] || die "$config: no data file"
  grep -q '"name": "model.onnx.data"' "$D/manifest.json" || die "$config: the data file is not listed"
  cmp -s "$D/golden.jsonl" "$WORK/bundles/$config/golden.jsonl" || die "$config: other golden rows"
  expect 0 "$COHORT" verify "$D"
  expect 0 "$COHORT" publish "$D" --repo "$WORK/repo-$config" --triton "$WORK/triton"
  for copy in "$D" "$WORK/repo-$config/versions/000001" "$WORK/triton/$config/1"; do
    cmp "$D/model.onnx.data" "$copy/model.onnx.data" || die "$copy: another data file"
    expect 0 "$PYTHON" "$HERE/../export/reference.py" "$copy"
  done
  damage "$D"
done

# Beyond what one protobuf message holds: a table of 2.3 GB, which needs 16 GiB of memory to be trained.
large() {
  local PATIENCE=$((PATIENCE * 6))
  [ -n "${COHORT_LONG:-}" ] || return 0
  if [ "$(awk '/MemAvailable/ {print $2}' /proc/meminfo)" -lt 17000000 ]; then
    echo "not done, less than 17 GB of memory: a model of more than 2 GiB"
    return 0
  fi
  mkdir large
  for split in train test; do
    { echo user,label && awk 'BEGIN {for (i = 0; i < 200; i++) print (i * 45226 + 226) % 9000000 "," i % 2}'; } \
      >"large/$split.csv"
  done
  printf '%s\n' "root: $PWD/large" "output: $PWD/large/set" 'sources:' \
    '  - {path: train.csv, split: train}' '  - {path: test.csv, split: test}' 'fields:' \
    '  - {name: user, kind: id, classes: 9000000}' '  - {name: label, kind: number}' >large/recipe.yaml
  printf '%s\n' 'name: large' "data: {shards: $PWD/large/set, lanes: 0, window: 2}" 'model:' \
    '  inputs: {user: {}}' '  layers:' '    - embedding: {dim: 64, init_scale: 1}' '    - dense: {units: 1}' \
    '  loss: {bce: {target: label}}' 'train: {global_batch: 50, epochs: 1}' \
    'optimizer: {name: sgd, learning_rate: 0.1}' 'eval: {split: test}' >large/config.yaml
  expect 0 "$COHORT" shard large/recipe.yaml
  expect 0 "$COHORT" train large/config.yaml runs="$RUNS"
  expect 0 "$COHORT" export "$RUNS/large" --to "$WORK/large/bundle"
  [ "$(stat -c %s "$WORK/large/bundle/model.onnx.data")" -gt 2147483648 ] || die "no large data file"
  expect 0 "$COHORT" verify "$WORK/large/bundle"
  expect 0 "$PYTHON" "$HERE/../export/reference.py" "$WORK/large/bundle"
  list flip "$WORK/large/bundle/model.onnx.data" 0.97
  expect 4 "$COHORT" verify "$WORK/large/bundle"
  says "large/bundle/model.onnx.data"
  rm -rf large "$RUNS/large"
}
large

damage "$B"
damage "$WORK/bundles/behavior-next-event"

# Killed at any time that an export takes: there is no bundle, or a whole one.
begin=$(date +%s%N)
expect 0 "$COHORT" export "$RUNS/recommend-two-tower" --to "$WORK/killed/first"
took=$((($(date +%s%N) - begin) / 1000000))
whole=0
kills=10
[ -z "${COHORT_LONG:-}" ] || kills=100
for ((i = 0; i < kills; i++)); do
  "$COHORT" export "$RUNS/recommend-two-tower" --to "$WORK/killed/$i" >"$LOG" 2>&1 &
  ms=$((RANDOM % took))
  sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
  kill -9 $! 2>/dev/null
  wait $! 2>/dev/null
  [ -e "$WORK/killed/$i" ] || continue
  whole=$((whole + 1))
  expect 0 "$COHORT" verify "$WORK/killed/$i"
done
expect 0 "$COHORT" export "$RUNS/recommend-two-tower" --to "$WORK/killed/last"
echo "export passed: $whole of $kills killed exports had got through"
