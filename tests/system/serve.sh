#!/usr/bin/env bash
# A served bundle: asked by tritonclient, by hostile requests, stopped under load, and a repository
# whose current version moves under load.
. "$(dirname "$0")/lib.sh" "$@"
CHECK=$2/tests/system/serve_check.py
PYTHON=${COHORT_TEST_PYTHON:-python3}

"$PYTHON" -c 'import tritonclient.http, numpy' 2>/dev/null ||
  skip "tritonclient[http] and numpy are needed by COHORT_TEST_PYTHON"
check() { expect 0 "$PYTHON" "$CHECK" "$@"; }

LIST=$2/tests/system/export_check.py

# bundle NAME STEPS CONFIG SET: of a short training. Its rows' answers are in NAME.answers.
bundle() {
  expect 0 "$COHORT" train "$CONFIGS/$3.yaml" data.shards="$SET/$4" runs="$RUNS" \
    name="$1" train.epochs=1 train.max_steps="$2" data.lanes=0 train.global_batch=7 device.threads=1 \
    optimizer.warmup_steps=0
  expect 0 "$COHORT" export "$RUNS/$1" --to "$WORK/bundles/$1"
  "$PYTHON" "$LIST" rows "$WORK/bundles/$1" >rows.jsonl || die "rows of $1"
  "$COHORT" score "$WORK/bundles/$1" <rows.jsonl >"$1.answers" 2>"$LOG" || die "score of $1"
}

shard sentiment behavior next-event recommend
expect 0 "$PYTHON" "$LIST" pictures "$WORK/pictures"
expect 0 "$COHORT" shard "$SHARDS/cifar10-jpeg.yaml" root="$WORK/pictures" output="$SET/pictures"
bundle first 2 sentiment-cnn sentiment
bundle second 4 sentiment-cnn sentiment
bundle numbers 2 behavior-lstm behavior
bundle ids 2 behavior-next-event next-event
bundle towers 2 recommend-two-tower recommend
bundle image 2 image-cnn pictures
B=$WORK/bundles/first

# What is asked, as others ask.
serve "$B" --max-body-mib 2 --queue 4096
check triton "$URL" first "$B" first.answers
check metrics "$URL" 'cohort_requests_total{route="infer",code="200"} 8' \
  "cohort_bundle_info{model=\"first\",version=\"1\",digest=\"$(cut -c 1-64 "$B/MANIFEST.sha256")\""
check hostile "$URL"
check fuzz "$URL" first "$B"
check body "$URL/v2/models/other" 404
check body "$URL/v1/model" 200
says '"lineage"'

# A stop under load: whoever was connected is answered.
"$PYTHON" "$CHECK" load "$URL" loaded never &
LOAD=$!
sleep 1
kill -TERM "$SERVER"
stopped
wait "$LOAD" || die "the load's clients failed"
cp loaded "$LOG"
says '"lost": 0'
says '"refused": 0'
! grep -q '"answered": 0' loaded || die "nothing was answered under load"

# What is asked of other columns: sequences of numbers, of ids; numbers and ids; pictures.
"$PYTHON" "$LIST" users "$WORK/bundles/towers" >users.jsonl || die "users"
"$COHORT" score "$WORK/bundles/towers" --top 4 <users.jsonl >towers.top 2>"$LOG" || die "score --top"
for name in numbers ids towers image; do
  serve "$WORK/bundles/$name"
  top=
  [ ! -e "$name.top" ] || top=$name.top
  check triton "$URL" "$name" "$WORK/bundles/$name" "$name.answers" ${top:+"$top"}
  check fuzz "$URL" "$name" "$WORK/bundles/$name"
  kill -TERM "$SERVER"
  stopped
done

# A taken port, a damaged bundle: told, and nothing is served.
serve "$B"
expect 2 "$COHORT" serve "$B" --port "${URL##*:}"
says "cannot listen"
kill -INT "$SERVER"
stopped
cp -r "$B" damaged
printf x >>damaged/weights.safetensors
expect 4 "$COHORT" serve damaged --port 0
says "damaged/weights.safetensors"

# A signal while a bundle is opened, here one that never ends: nothing is waited for.
mkdir hangs
mkfifo hangs/MANIFEST.sha256
"$COHORT" serve hangs --port 0 >"$LOG" 2>&1 &
SERVER=$!
exec 3>hangs/MANIFEST.sha256
kill -TERM "$SERVER"
wait "$SERVER" || die "the server that was starting ended with $?"
says "ending at once"
exec 3>&-

# A repository: what is current is served, a broken version is not, and no request is lost.
expect 0 "$COHORT" publish "$B" --repo "$WORK/repo"
serve --repo "$WORK/repo" --name film
"$PYTHON" "$CHECK" load "$URL" loaded stop &
LOAD=$!
expect 0 "$COHORT" publish "$WORK/bundles/second" --repo "$WORK/repo"
for ((i = 0; i < 300 * PATIENCE; i++)); do
  ! grep -q "serving version 2" server.log || break
  sleep 0.1
done
check body "$URL/v2/models/film/versions/2" 200
cp -r "$WORK/repo/versions/000002" "$WORK/repo/versions/000009"
printf x >>"$WORK/repo/versions/000009/golden.jsonl"
ln -s versions/000009 link && mv -T link "$WORK/repo/current"
for ((i = 0; i < 300 * PATIENCE; i++)); do
  ! grep -q "the version before is kept" server.log || break
  sleep 0.1
done
check body "$URL/v2/models/film/versions/2/ready" 200
check metrics "$URL" 'cohort_reloads_total{outcome="done"} 1' 'cohort_reloads_total{outcome="refused"} 1'
sleep 1
touch stop
wait "$LOAD" || die "the load's clients failed"
cp loaded "$LOG"
says '"lost": 0'
says '"versions": ["1", "2"]'
mkdir "$WORK/repo/versions/000010"
mkfifo "$WORK/repo/versions/000010/MANIFEST.sha256"
ln -s versions/000010 link && mv -T link "$WORK/repo/current"
exec 3>"$WORK/repo/versions/000010/MANIFEST.sha256"
check body "$URL/v2/models/film/versions/2/ready" 200
kill -TERM "$SERVER"
stopped
exec 3>&-
echo "serve passed"
