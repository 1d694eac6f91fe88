#!/usr/bin/env bash
# A sweep: every trial is a run, a failed one is a row; killed in the middle it goes on without doing
# again what is done; side by side; a changed file is refused; stopped with checkpoints.
. "$(dirname "$0")/lib.sh" "$@"

shard behavior
BASE=$CONFIGS/behavior-rnn.yaml
# sweep_file NAME LINES...: a sweep over the base config.
sweep_file() {
  local name=$1
  shift
  cat >"$name.yaml" <<END
name: $name
config: $BASE
runs: $RUNS
set: [data.shards=$SET/behavior, train.epochs=2, device.threads=1]
objective: {metric: rmse}
END
  printf '%s\n' "$@" >>"$name.yaml"
}
# rows NAME STATE: how many rows of sweep.csv have this state.
rows() { grep -c ",$2," "$RUNS/$1/sweep.csv"; }
expect_rows() { [ "$(rows "$1" "$2")" = "$3" ] || die "$1: $(rows "$1" "$2") trials $2 instead of $3"; }
attempts() { ls -d "$RUNS/$1/$2"/attempt-* | wc -l; }

# Wrong input: the place, the nearest key, and no folder.
sweep_file bad 'keys: {train.seed: {chioce: [1, 2]}}'
expect 2 "$COHORT" sweep bad.yaml
says "bad.yaml:6:"
says "did you mean 'choice'"
sweep_file bad 'keys: {train.sead: {choice: [1, 2]}}'
expect 2 "$COHORT" sweep bad.yaml
says "train.sead"
says "did you mean 'seed'"
sweep_file bad 'keys: {train.seed: {choice: [1]}}' 'keyz: 1'
expect 2 "$COHORT" sweep bad.yaml
says "unknown key 'keyz'; did you mean 'keys'?"
sweep_file bad 'keys: {train.seed: {choice: [1]}}'
expect 2 "$COHORT" sweep bad.yaml objective.metric=auc
says "expected one of: mse, rmse, mae"
[ ! -e "$RUNS/bad" ] || die "a refused sweep left a folder"

# A grid of four, two at a time; one value is no valid experiment.
sweep_file grid 'keys:' '  optimizer.learning_rate: {choice: [0.003, -1]}' \
  '  model.layers.0.rnn.units: {choice: [8, 16]}'
expect 0 "$COHORT" sweep grid.yaml --parallel 2
says "Best: trial-000"
says "too few trials: 2 of at least 8 are done"
says "exit 2: "
expect_rows grid done 2
expect_rows grid failed 2
[ "$(wc -l <"$RUNS/grid/sweep.csv")" = 5 ] || die "sweep.csv has not a head and four trials"
expect 0 "$COHORT" sweep grid.yaml --json
says '"best": "trial-000'
[ "$(attempts grid trial-0000)" = 1 ] || die "a trial that was done ran again"
expect 0 "$COHORT" verify "$RUNS/grid/trial-0000"

# Another sweep under this name: what differs, and a folder beside it.
expect 2 "$COHORT" sweep grid.yaml objective.of=last
says "objective.of: best -> last"
sed 's/0\.003, -1/0.003, 0.01/' grid.yaml >changed.yaml
expect 2 "$COHORT" sweep changed.yaml
says "--new"
says 'learning_rate.choice: ["0.003", "-1"] -> ["0.003", "0.01"]'
expect 0 "$COHORT" sweep changed.yaml --new set="[data.shards=$SET/behavior, train.max_steps=3]"
[ -d "$RUNS/grid-2" ] || die "--new made no folder beside the first"

# Two ranks for each trial, random points: the same again from the same seed.
sweep_file random 'method: random' 'trials: 2' 'ranks: 2' "launcher: [$MPIEXEC, -n, \"{ranks}\"]" \
  'keys: {optimizer.learning_rate: {log_uniform: [1e-4, 1e-2]}}'
expect 0 "$COHORT" sweep random.yaml
grep -q '"ranks": 2' "$RUNS/random/trial-0001/run.json" || die "a trial did not have two ranks"
expect 0 "$COHORT" sweep random.yaml --new
[ "$(cut -d, -f1-2 "$RUNS/random/sweep.csv")" = "$(cut -d, -f1-2 "$RUNS/random-2/sweep.csv")" ] ||
  die "a random search is not repeatable"
expect 0 "$COHORT" sweep random.yaml trials=3   # more of the same search
expect_rows random done 3
[ "$(attempts random trial-0000)" = 1 ] || die "more trials ran the old ones again"

# The sweep is killed while its third trial runs: its trials end, and the same command goes on.
sweep_file killed 'keys: {train.seed: {choice: [1, 2, 3, 4]}}'
"$COHORT" sweep killed.yaml set="[data.shards=$SET/behavior, train.epochs=30, device.threads=1]" \
  >"$LOG" 2>&1 &
job=$!
wait_for_step killed/trial-0002 1
kill -9 $job
wait $job 2>/dev/null
for ((i = 0; i < 300 * PATIENCE; i++)); do
  [ -n "$(ranks)" ] || break
  sleep 0.1
done
[ -z "$(ranks)" ] || die "trials outlive their sweep"
! grep -q '"outcome": "done"' "$RUNS/killed/trial-0002/run.json" || die "killed too late"
expect 0 "$COHORT" sweep killed.yaml \
  set="[data.shards=$SET/behavior, train.epochs=30, device.threads=1]"
expect_rows killed done 4
[ "$(attempts killed trial-0000)" = 1 ] || die "a trial that was done ran again"
[ "$(attempts killed trial-0002)" = 2 ] || die "the trial that was cut off did not go on"
grep -q "resumed from" "$RUNS/killed/logs/trial-0002.log" || die "it began again"

# A request to stop: checkpoints, 75, and the same command goes on.
sweep_file stopped 'keys: {train.seed: {choice: [1, 2]}}'
"$COHORT" sweep stopped.yaml --parallel 2 \
  set="[data.shards=$SET/behavior, train.epochs=30, device.threads=1]" >"$LOG" 2>&1 &
job=$!
wait_for_step stopped/trial-0001 1
kill -TERM $job
wait $job
status=$?
[ $status = 75 ] || die "exit $status after SIGTERM instead of 75"
expect_rows stopped open 2
expect 0 "$COHORT" sweep stopped.yaml set="[data.shards=$SET/behavior, train.epochs=30, device.threads=1]"
expect_rows stopped done 2

# As a job array, by a stand-in for sbatch that runs the tasks one after another.
mkdir bin && cat >bin/sbatch <<'END'
#!/bin/bash
script=${!#}
range=$(sed -n 's/^#SBATCH --array=\(.*\)%.*/\1/p' "$script")
[ "$range" = 0-1 ] || exit 9
for task in 0 1; do
  SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task bash "$script" >&2 || exit 8
done
echo 7
END
chmod +x bin/sbatch
sweep_file array 'keys: {train.seed: {choice: [1, 2]}}' 'slurm: {options: [--time=0:10:00]}'
PATH=$WORK/bin:$PATH expect 0 "$COHORT" sweep array.yaml --slurm
grep -qx '#SBATCH --time=0:10:00' "$RUNS/array/array.sbatch" || die "the array script lacks an option"
expect 0 "$COHORT" sweep array.yaml --report
expect_rows array done 2

# How a task ends decides whether it is queued again: stopped (75) always, lost (5) not for ever.
printf '#!/bin/bash\necho "$*" >>"%s"\n' "$WORK/noted" >bin/scontrol && chmod +x bin/scontrol
# queued CODE RESTARTS WANTED
queued() {
  : >noted
  sed "s/^.* sweep .*--task.*&\$/(exit $1) \&/" "$RUNS/array/array.sbatch" >task.sbatch
  PATH=$WORK/bin:$PATH SLURM_RESTART_COUNT=$2 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=1 \
    expect "$1" bash task.sbatch
  [ "$(cat noted)" = "$3" ] || die "exit $1 after $2 restarts: '$(cat noted)' instead of '$3'"
}
queued 75 30 'requeue 7_1'
queued 5 3 'requeue 7_1'
queued 5 20 ''
queued 3 0 ''

# Side by side in a job of four tasks, as far as variables go: two ranks each, on cores of their own;
# on hosts of their own where there are two. note.sh is where a trial is, before its launcher.
cat >note.sh <<'END'
echo "$1 $(sed -n 's/^Cpus_allowed_list:\t//p' /proc/self/status)" >>"$WHERE"
shift
exec "$@"
END
printf '#!/bin/bash\n[ "$*" = "show hostnames n[1-2]" ] && printf "n1\\nn2\\n"\n' >bin/scontrol
sweep_file places 'keys: {train.seed: {choice: [1, 2]}}' 'ranks: 2' 'parallel: 2' \
  "launcher: [bash, $WORK/note.sh, \"{hosts}\", $MPIEXEC, -n, \"{ranks}\"]"
export SLURM_JOB_ID=7 SLURM_NTASKS=4
WHERE=$WORK/one expect 0 "$COHORT" sweep places.yaml
expect_rows places done 2
[ "$(cut -d: -f2 one | cut -d' ' -f1 | tr '\n' ' ')" = '2 2 ' ] || die "not two ranks each: $(cat one)"
[ "$(nproc)" -lt 2 ] || [ "$(cut -d' ' -f2 one | sort -u | wc -l)" = 2 ] ||
  die "trials share cores: $(cat one)"
PATH=$WORK/bin:$PATH SLURM_JOB_NODELIST='n[1-2]' WHERE=$WORK/two expect 0 "$COHORT" sweep places.yaml --new
[ "$(cut -d' ' -f1 two | sort | tr '\n' ' ')" = 'n1:2 n2:2 ' ] || die "not a host each: $(cat two)"
echo "sweep passed"
