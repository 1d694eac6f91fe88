#!/usr/bin/env bash
# launch/mpirun.sh N VERB [ARGUMENT ...]: `cohort VERB ...` on N ranks of this machine.
HERE=$PWD
. "$(dirname "$0")/lib.sh"
[[ ${1:-} =~ ^[1-9][0-9]*$ ]] || die "the number of ranks is missing" \
  "for example: launch/mpirun.sh 2 train configs/sentiment-cnn.yaml"
[ -x "$COHORT" ] || die "$COHORT is not built" "run ./launch/quickstart, or cmake by hand"
mpi_environment
ranks=$1
shift
launcher=$(mpi_launcher)
cd "$HERE" && exec "$launcher" -n "$ranks" "$ROOT/$COHORT" "$@"
