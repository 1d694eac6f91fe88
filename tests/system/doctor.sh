#!/usr/bin/env bash
# cohort doctor, alone and on two ranks: a fit folder, one that is none, a limit that is too low, cores.
. "$(dirname "$0")/lib.sh" "$@"

# field EXPRESSION: of the report `r` in out.json; `f` are the findings by check.
field() {
  python3 - "$1" <<'PY' || die "the report has no: $1"
import json, sys
r = json.load(open("out.json"))
f = {x["check"]: x for x in r["findings"]}
sys.exit(not eval(sys.argv[1]))
PY
}
report() {
  local wanted=$1 status
  shift
  timeout -k 10 $((200 * PATIENCE)) "$@" >out.json 2>"$LOG"
  status=$?
  [ "$status" = "$wanted" ] || { cat out.json >>"$LOG"; die "exit $status instead of $wanted: $*"; }
}

report 0 "$COHORT" doctor --folder "$WORK/alone/runs" --mib 1 --json
field 'r["fit"] and r["ranks"] == 1 and r["exit_code"] == 0'
field 'f["exclusive"]["fitness"] == "ok" and f["commit"]["fitness"] in ("ok", "warn")'
[ ! -e "$WORK/alone/runs" ] || die "the folder of the examination is left behind"

mkdir shared && : >shared/mine
report 0 "$MPIEXEC" -n 2 "$COHORT" doctor --folder shared --mib 1 --json
field 'r["ranks"] == 2 and len(r["hosts"]) == 1 and r["hosts"][0]["ranks"] == [0, 1]'
field '[p["ranks"] for p in r["details"]["within_hosts"]] == [[0, 1]]'
field 'r["details"]["within_hosts"][0]["bandwidth_mb_s"] > 0'
field '"2 ranks that make the same folder, 1 succeed" in f["exclusive"]["value"]'
field 'f["visibility"]["where"] == "job"'
[ "$(ls -A shared)" = mine ] || die "the shared folder is not as it was: $(ls -A shared)"

# Words for people, and no folder there to use: the cause is storage.
: >plain
expect 4 "$MPIEXEC" -n 2 "$COHORT" doctor --folder plain/runs --mib 1
says 'unfit: folder: rank 0'
says 'ot a directory'
[ "$(grep -c 'unfit: 2 ranks on 1 hosts' "$LOG")" = 1 ] || die "the verdict is not told once"

# Too few open files for the ranks: the launch is at fault.
cat >limited.sh <<'END2'
ulimit -n 60
exec "$@"
END2
report 2 bash limited.sh "$COHORT" doctor --folder shared --mib 1 --json
field 'f["nofile"]["fitness"] == "unfit" and "ulimit -n" in f["nofile"]["remedy"]'

# All ranks on one core of several.
if [ "$(nproc)" -gt 1 ] && command -v taskset >/dev/null; then
  first=$(taskset -cp $$ | sed 's/.*: //; s/[,-].*//')
  report 0 taskset -c "$first" "$MPIEXEC" --bind-to none -n 2 "$COHORT" doctor --folder shared --mib 1 --json
  field 'f["affinity"]["fitness"] == "warn" and "--bind-to none" in f["affinity"]["remedy"]'
else
  echo "one core, or no taskset: binding not tested"
fi

# No module for GPUs where there should be one is no error without a driver.
report 0 env COHORT_CUDA_MODULE=none.so "$COHORT" doctor --folder shared --mib 1 --json
field 'f["GPU"]["fitness"] in ("ok", "warn")'
echo "doctor passed"
