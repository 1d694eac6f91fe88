#!/usr/bin/env bash
# A serving repository: published, promoted, refused, rolled back, pruned; publishers that are killed at
# any time while a reader verifies `current` all along; hand-offs of a training, also of a killed one.
. "$(dirname "$0")/lib.sh" "$@"
HERE=$2/tests/system
PYTHON=${COHORT_TEST_PYTHON:-python3}
REPO=$WORK/repo
BUNDLES=$WORK/bundles
KILLS=10
[ -z "${COHORT_LONG:-}" ] || KILLS=100

look() { "$PYTHON" "$HERE/publish_check.py" "$@"; }
train_command() {
  local name=$1
  shift
  echo "$COHORT" train "$CONFIGS/recommend-mlp.yaml" name="$name" runs="$RUNS" device.threads=1 \
    data.shards="$SET/recommend-mlp" train.early_stop_patience=0 "$@"
}
# bundle NAME [KEY=VALUE...]: a run and its bundle.
bundle() {
  expect 0 $(train_command "$@")
  expect 0 "$COHORT" export "$RUNS/$1" --to "$BUNDLES/$1"
}
is_current() {
  [ "$(readlink "$REPO/current")" = "versions/$1" ] || die "current is $(readlink "$REPO/current"), not $1"
}
whole() { look whole "$1" >"$LOG" 2>&1 || die "$1 is not whole"; }
# field KEY: of the JSON that the last command wrote.
field() { sed -nE "s/^ *\"$1\": \"?([^\",]*)\"?,?$/\1/p" "$LOG" | head -n 1; }

shard recommend-mlp sentiment
bundle good train.epochs=3
bundle many train.epochs=6 checkpoint.keep_last=6
bundle bad train.epochs=1 train.max_steps=2 optimizer.learning_rate=0.00001
bundle other train.epochs=1 eval.split=test

# The first one is promoted; a worse one is kept and not promoted; so is one of another split.
expect 0 "$COHORT" publish "$BUNDLES/good" --repo "$REPO" --metric log_loss
says "version 1 is current"
says "$(cut -c 1-64 "$BUNDLES/good/MANIFEST.sha256")  $REPO/versions/000001/manifest.json"
expect 7 "$COHORT" publish "$BUNDLES/bad" --repo "$REPO" --metric log_loss --max-worse 0.001 --json
[ "$(field promoted)" = false ] && [ "$(field version)" = 2 ] || die "the worse one is not refused"
says "is worse than current's"
is_current 000001
expect 7 "$COHORT" publish "$BUNDLES/other" --repo "$REPO" --metric log_loss
says "log_loss of split \"test\", current's of \"validation\""
expect 2 "$COHORT" publish "$BUNDLES/bad" --repo "$REPO" --metric auc
says "expected one of"
expect 0 "$COHORT" publish "$BUNDLES/many" --repo "$REPO" --metric log_loss --max-worse 5
is_current 000004
whole "$REPO"

# Back, and as often as there is something before; a listing for people and for programs.
expect 0 "$COHORT" publish --rollback --repo "$REPO"
is_current 000001
expect 2 "$COHORT" publish --rollback --repo "$REPO"
says "no version was current before 1"
expect 0 "$COHORT" publish "$BUNDLES/many" --repo "$REPO"
says "which was there already"
is_current 000004
expect 0 "$COHORT" publish --list --repo "$REPO"
grep -E '^ *4 +current' "$LOG" | grep -q log_loss= || die "the list does not show the current version"
grep -qE '^ *1 +previous' "$LOG" || die "the list does not show the previous version"
expect 0 "$COHORT" publish --list --repo "$REPO" --json
look list "$LOG" 1 2 3 4 || die "the list is not the expected JSON"
[ "$(look history "$REPO" | tr '\n' ,)" = "published 1,promoted 1,published 2,refused 2,published \
3,refused 3,published 4,promoted 4,rolled back 1,promoted 4," ] || die "$(look history "$REPO")"
expect 0 "$COHORT" publish --repo "$REPO" --keep 1
[ "$(ls "$REPO/versions" | tr '\n' ' ')" = "000001 000004 " ] || die "pruned: $(ls "$REPO/versions")"

# Only into a repository, or a folder without anything: all others are left as they were.
places() {
  local folder
  mkdir -p "$WORK/notes/versions"
  echo mine >"$WORK/notes/versions/readme"
  echo mine >"$WORK/plain"
  ln -s "$BUNDLES/good" "$WORK/link"
  all_files() {
    find "$BUNDLES" "$REPO" "$SET" "$RUNS" "$WORK/notes" "$WORK/plain" -printf '%p %T@ %s\n' | sort
  }
  all_files >before
  for folder in "$BUNDLES/good" "$BUNDLES/good/serving" "$WORK/link/serving" "$REPO/current" \
    "$REPO/versions" "$REPO/versions/new" "$SET/recommend-mlp" "$RUNS/good" "$WORK/notes" \
    "$WORK/plain"; do
    expect 2 "$COHORT" publish "$BUNDLES/bad" --repo "$folder"
    error_lines 1 'expected a new or empty folder or a serving repository'
    says "give another folder"
    expect 2 "$COHORT" publish "$BUNDLES/bad" --triton "$folder"
    error_lines 1 'expected a new or empty folder or a model repository of Triton'
    expect 2 "$COHORT" publish --list --repo "$folder"
    expect 2 "$COHORT" publish --rollback --repo "$folder"
    expect 2 $(train_command placed train.epochs=1 handoff.repo="$folder")
    error_lines 1 'handoff.repo: .*: expected a new or empty folder'
  done
  expect 2 "$COHORT" publish "$BUNDLES/bad" --triton "$REPO"
  expect 2 "$COHORT" publish "$BUNDLES/bad" --repo "$REPO" --triton "$SET/recommend-mlp"
  expect 2 "$COHORT" publish "$BUNDLES/bad" --repo "$WORK/both" --triton "$WORK/./both"
  expect 2 "$COHORT" publish --list --repo "$WORK/nowhere"
  says "got nothing"
  for folder in "$RUNS/placed" "$WORK/both" "$WORK/nowhere"; do
    [ ! -e "$folder" ] || die "$folder was made"
  done
  all_files >after
  same before after
  mkdir "$WORK/empty"
  expect 0 "$COHORT" publish "$BUNDLES/good" --repo "$WORK/empty"
}
places

# Names of models in URLs: of what was given, not what the shell made of it.
served_as() {
  local name=$1 folder=$2
  shift 2
  cd "$folder" || die "no $folder"
  serve "$@" --drain-ms 0
  cd "$WORK" || die "no $WORK"
  kill -TERM "$SERVER"
  stopped
  says "serving $name version"
}
names() {
  local name
  served_as good "$BUNDLES/good" .
  served_as empty "$WORK/empty" --repo .
  served_as good "$WORK" empty/current
  served_as link "$WORK" link
  for name in . .. a/b ''; do expect 2 "$COHORT" serve "$BUNDLES/good" --name "$name" --port 0; done
  expect 2 "$COHORT" serve "$REPO" --port 0
  says "serve it with --repo"
  expect 2 "$COHORT" publish "$BUNDLES/good" --repo "$REPO" --max-worse -1
  says "expected 0 or more, got -1"
  expect 2 "$COHORT" export "$RUNS/good" --to ''
}
names

# A damaged bundle does not get in.
cp -r "$BUNDLES/bad" damaged
printf x >>damaged/golden.jsonl
expect 4 "$COHORT" publish damaged --repo "$REPO"
says "damaged/golden.jsonl"

# Killed at any time, every other one beside a second publisher, while a reader looks.
kills() {
  local steps step i victim beside through=0 reader
  steps=$(ls "$RUNS/many/checkpoints" | sed -nE 's/^step-0*([0-9]+)$/\1/p')
  for step in $steps; do
    expect 0 "$COHORT" export "$RUNS/many" --checkpoint "$step" --to "$BUNDLES/step-$step"
  done
  local all=("$BUNDLES"/step-*)
  look read "$REPO" "$WORK/enough" >"$WORK/reader" 2>&1 &
  reader=$!
  for ((i = 0; i < KILLS; i++)); do
    "$COHORT" publish "${all[i % ${#all[@]}]}" --repo "$REPO" --keep 3 >victim.log 2>&1 &
    victim=$!
    beside=
    if [ $((i % 2)) = 0 ]; then
      "$COHORT" publish "${all[(i + 1) % ${#all[@]}]}" --repo "$REPO" --keep 3 >beside.log 2>&1 &
      beside=$!
    fi
    sleep "0.$((RANDOM % 4))$((RANDOM % 10))"
    kill -9 "$victim" 2>/dev/null
    wait "$victim" 2>/dev/null && through=$((through + 1))
    [ -z "$beside" ] || wait "$beside" || die "a publisher beside a killed one: $(cat beside.log)"
    whole "$REPO"
  done
  expect 0 "$COHORT" publish "$BUNDLES/good" --repo "$REPO" --keep 1
  expect 0 "$COHORT" verify "$REPO/current"
  touch "$WORK/enough"
  wait "$reader" || die "a reader failed: $(cat "$WORK/reader")"
  whole "$REPO"
  [ -z "$(find "$REPO" -name '*.tmp*')" ] || die "left over: $(find "$REPO" -name '*.tmp*')"
  echo "publish: $through of $KILLS killed publications had got through; $(cat "$WORK/reader")"
}
kills

# The layout of Triton.
triton() {
  local model
  expect 0 "$COHORT" publish "$BUNDLES/good" --triton "$WORK/triton" --name mlp
  expect 0 "$COHORT" publish "$BUNDLES/many" --triton "$WORK/triton" --name mlp --repo "$REPO"
  expect 0 "$COHORT" publish "$BUNDLES/many" --triton "$WORK/triton" --name mlp
  expect 0 "$COHORT" train "$CONFIGS/sentiment-cnn.yaml" name=ragged runs="$RUNS" device.threads=1 \
    data.shards="$SET/sentiment" train.max_steps=4 data.lanes=0 train.global_batch=8
  expect 0 "$COHORT" export "$RUNS/ragged" --to "$BUNDLES/ragged"
  expect 0 "$COHORT" publish "$BUNDLES/ragged" --triton "$WORK/triton"
  expect 2 "$COHORT" publish "$BUNDLES/ragged" --triton "$WORK/triton" --name mlp
  says "under another --name"
  expect 7 "$COHORT" publish "$BUNDLES/ragged" --repo "$REPO"
  says "takes other columns"
  expect 0 "$COHORT" publish "$BUNDLES/ragged" --repo "$WORK/empty" --force
  says "forced"
  [ "$(cd "$WORK/triton" && echo */*)" = "mlp/1 mlp/2 mlp/config.pbtxt mlp/labels.txt ragged/1 \
ragged/config.pbtxt ragged/labels.txt" ] || die "$(cd "$WORK/triton" && echo */*)"
  expect 0 "$COHORT" publish --rollback --repo "$REPO" --triton "$WORK/triton" --name mlp
  says "is current again"
  same "$WORK/triton/mlp/3/manifest.json" "$REPO/current/manifest.json"
  same "$WORK/triton/mlp/3/manifest.json" "$BUNDLES/good/manifest.json"
  expect 2 "$COHORT" publish --repo "$REPO" --keep 2 --triton "$WORK/triton"
  says "--triton goes with a bundle or --rollback"
  if ! "$PYTHON" -c 'import onnxruntime, tritonclient.grpc' 2>/dev/null; then
    echo "Skipped: Triton's schema: no onnxruntime or tritonclient[grpc] in COHORT_TEST_PYTHON"
    return
  fi
  for model in mlp/1 mlp/2 mlp/3 ragged/1; do
    expect 0 "$PYTHON" "$HERE/../export/triton_check.py" "$WORK/triton/${model%/*}" "${model#*/}"
  done
}
triton

# On ranks, and stopped while one is under way: the stop does not wait for it, the attempt that resumes
# hands it over, once.
stopped_handoff() {
  local repo=$WORK/resumed job command rank
  command="$MPIEXEC -n 2 $(train_command stopping train.epochs=1000 handoff.repo="$repo" \
    handoff.every_epochs=1 handoff.on_best=false)"
  $command >"$LOG" 2>&1 &
  job=$!
  wait_for_step stopping 1
  wait_for_handoff stopping "$job"
  for rank in $(ranks); do   # not the hand-off
    ! tr '\0' ' ' <"/proc/$rank/cmdline" | grep -q ' train ' || break
  done
  kill -TERM "$rank"
  wait "$job"
  [ $? = 75 ] || die "a stop during a hand-off does not end with exit 75"
  says "is left to the attempt that resumes"
  local left
  left=$(sed -n 's/.*hand-off of step \([0-9]*\) is left.*/\1/p' "$LOG" | tail -n 1)
  expect 0 $command --resume train.max_steps="$((left + 1))"
  grep -q "\"step\":$left," "$RUNS/stopping/handoffs.jsonl" || die "step $left was not handed over"
  says "hand-off of step $left: $repo: version"
  whole "$repo"
  expect 0 $command --resume train.max_steps="$((left + 2))"
  says "hand-offs to $repo: 0 promoted, 0 kept but not promoted, 0 failed"
}

# Training publishes what is the best so far, and is not held up by what fails.
handoffs() {
  local repo=$WORK/handed victim
  expect 0 $(train_command handing train.epochs=4 handoff.repo="$repo" handoff.metric=log_loss)
  says "hand-off of step"
  says " 0 failed"
  whole "$repo"
  expect 0 "$COHORT" publish --list --repo "$repo" --json
  [ "$(field run)" = handing ] || die "handing has not published"
  cp -r "$repo" "$WORK/broken"
  ln -sfn elsewhere "$WORK/broken/current"
  expect 0 $(train_command failing train.epochs=2 handoff.repo="$WORK/broken")
  says "training goes on"
  says " 0 promoted"
  $(train_command killed train.epochs=1000 handoff.repo="$repo" handoff.every_epochs=1) >"$LOG" 2>&1 &
  victim=$!
  wait_for_step killed 1
  wait_for_handoff killed "$victim"
  sleep "0.$((RANDOM % 5))"
  kill -9 "$victim"
  wait "$victim" 2>/dev/null
  whole "$repo"
  for ((i = 0; i < 100; i++)); do
    [ -n "$(ranks)" ] || break
    sleep 0.1
  done
  [ -z "$(ranks)" ] || die "the hand-off of a killed training lives on: $(ranks)"
  stopped_handoff
  expect 2 "$COHORT" train "$CONFIGS/recommend-mlp.yaml" name=wrong runs="$RUNS" \
    data.shards="$SET/recommend-mlp" handoff.repo="$repo" handoff.metric=auc
}
handoffs
