#!/usr/bin/env bash
# The page of `cohort serve` as a person uses it, in a real browser: a text is typed, a picture dropped, a
# user, a number entered; the answers are the server's.
. "$(dirname "$0")/lib.sh" "$@"
HERE=$2/tests/system
PYTHON=${COHORT_TEST_PYTHON:-python3}

command -v chromium >/dev/null && command -v chromedriver >/dev/null ||
  skip "chromium and chromedriver are not installed"
"$PYTHON" -c 'import selenium' 2>/dev/null || skip "selenium is needed by COHORT_TEST_PYTHON"

# page KIND CONFIG SET: of a short training, used in a browser.
page() {
  local kind=$1 config=$2 set=$3
  expect 0 "$COHORT" train "$CONFIGS/$config.yaml" name="$config" data.shards="$SET/$set" runs="$RUNS" train.epochs=1 \
    train.max_steps=4 data.lanes=0 train.global_batch=7 device.threads=1 optimizer.warmup_steps=0
  expect 0 "$COHORT" export "$RUNS/$config" --to "$WORK/bundles/$config"
  serve "$WORK/bundles/$config"
  expect 0 "$PYTHON" "$HERE/page_check.py" "$kind" "$URL" "$WORK/bundles/$config" "$WORK"
  kill -TERM "$SERVER"
  stopped
}

shard sentiment recommend
page text sentiment-cnn sentiment
page user recommend-two-tower recommend
mkdir numbers
for split in train validation; do
  { echo size,stars && seq 1 40 | awk '{print $1 / 8 "," $1 % 5 + 1}'; } >"numbers/$split.csv"
done
printf '%s\n' "root: $WORK/numbers" "output: $SET/numbers" 'sources:' '  - {path: train.csv}' \
  '  - {path: validation.csv, split: validation}' 'fields:' '  - {name: size, kind: number}' \
  '  - {name: stars, kind: number, offset: -1, scale: 0.25}' >numbers.yaml
expect 0 "$COHORT" shard numbers.yaml
printf '%s\n' 'name: numbers' "data: {shards: $SET/numbers}" 'model:' '  inputs: {size: {}}' '  layers:' \
  '    - dense: {units: 1}' '  loss: {mse: {target: stars}}' 'train: {global_batch: 10, epochs: 1}' \
  'optimizer: {name: sgd, learning_rate: 0.01}' >numbers-config.yaml
CONFIGS=$WORK page number numbers-config numbers
expect 0 "$PYTHON" "$HERE/export_check.py" pictures "$WORK/pictures"
expect 0 "$COHORT" shard "$SHARDS/cifar10-jpeg.yaml" root="$WORK/pictures" output="$SET/pictures"
page picture image-cnn pictures
echo "page passed"
