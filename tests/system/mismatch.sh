#!/usr/bin/env bash
# One rank with other shards, another build or another config: refused before training, with the rank,
# what differs and both values.
. "$(dirname "$0")/lib.sh" "$@"

CONFIG=$CONFIGS/behavior-rnn.yaml
options() {
  echo data.shards=set runs="$RUNS" name="$1" train.epochs=1 device.threads=1
}
# Each rank in a folder of its own, with the program that lies there.
cat >rank.sh <<'END'
cd "${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}}" && exec ./program "$@"
END
refused() {  # refused STATUS PATTERN ARGUMENT...
  local status=$1 pattern=$2
  shift 2
  expect "$status" "$MPIEXEC" -n 3 bash "$WORK/rank.sh" train "$@"
  error_lines 1 "$pattern"
  no_loss
}

shard behavior
expect 0 "$COHORT" shard "$SHARDS/demo-behavior.yaml" root="$WORK/raw" output="$SET/other" seed=2
for rank in 0 1 2; do
  mkdir $rank && ln -s "$COHORT" $rank/program && ln -s "$SET/behavior" $rank/set
  cp "$CONFIG" $rank/mine.yaml
done
expect 0 "$MPIEXEC" -n 3 bash "$WORK/rank.sh" train mine.yaml $(options alike)

ln -sfn "$SET/other" 2/set
refused 2 "rank 2 \(host [^)]+\) differs in shard set: it has '[0-9a-f]{16}', rank 0" mine.yaml $(options shards)
ln -sfn "$SET/behavior" 2/set

sed -i 's/units: 50/units: 51/' 1/mine.yaml
refused 2 "rank 1 \(host [^)]+\) differs in config: it has .*51.*, rank 0 .*50" mine.yaml $(options config)
cp "$CONFIG" 1/mine.yaml

# The same program under another name of the build.
python3 - "$COHORT" 1/other <<'PY' || die "the build's name is not in the program"
import subprocess, sys
data = open(sys.argv[1], "rb").read()
name = subprocess.run([sys.argv[1], "--version"], capture_output=True, check=True).stdout.strip()
name = name.splitlines()[0]
changed = data.replace(name, b"X" + name[1:])
open(sys.argv[2], "wb").write(changed)
sys.exit(changed == data)
PY
chmod +x 1/other && ln -sfn other 1/program
refused 2 "rank 1 \(host [^)]+\) differs in build: it has 'X" mine.yaml $(options build)
echo "mismatch passed"
