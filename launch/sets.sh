# shellcheck shell=bash disable=SC2034
# Shared by tune and prove, sourced after lib.sh: the sets of real data and what is asked of each.
DATA=${COHORT_TEST_DATA:-../shared/data}

# set (configs/real/SET.yaml), recipe, data folder, a file that must be there, the recipe's key of the
# validation part, metric, factor, bar
SETS=(
  "mr-polarity mr-polarity $DATA/mr-polarity rt-polarity.pos hold_out.1 accuracy 1 >=0.74"
  "ml-100k ml-100k $DATA/ml-100k u1.base hold_out.0 rmse 4 <=0.95"
  "stackoverflow-badges stackoverflow-badges $DATA/stackoverflow-badges event-train.txt hold_out.0 accuracy 1 >=0.450"
  "collegemsg collegemsg $DATA/collegemsg CollegeMsg.txt aggregate mse 1 <baseline"
  "fashion-mnist demo-images /usr/share/datasets/fashion-mnist train-images-idx3-ubyte.gz hold_out.0 accuracy 1 >=0.905"
)

known_sets() { printf '%s\n' "${SETS[@]}" | cut -d' ' -f1 | xargs; }

# line_of SET: its line of the table.
line_of() {
  printf '%s\n' "${SETS[@]}" | grep "^$1 " || die "there is no set '$1'" "name one of: $(known_sets)"
}

# make_shards OUTPUT RECIPE FOLDER LOG [key=value...], unless they are there.
make_shards() {
  local output=$1 recipe=$2 folder=$3 log=$4
  shift 4
  [ ! -f "$output/manifest.json" ] || return 0
  "$COHORT" shard "shards/$recipe.yaml" "root=$folder" "output=$output" "$@" >"$log" 2>&1 || {
    tail -n 3 "$log" >&2
    return 1
  }
}
