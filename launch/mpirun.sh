#!/usr/bin/env bash
# launch/mpirun.sh [OPTION ...] N VERB [ARGUMENT ...]: `cohort VERB ...` on N ranks.
#   --hosts LIST        a,b:4,...: hosts and how many ranks each takes (1); N may be `all`
#   --hostfile FILE     the same from a file, lines `HOST` or `HOST slots=4`
#   --bind WHAT         none (default: a rank uses its share of the host's cores), core, socket, numa
#   --interfaces LIST   networks for MPI, such as 10.0.0.0/16 or eth0,eth1; default: Open MPI chooses
#   --rsh COMMAND       instead of ssh, called with a host and a command
#   --kill-timeout S    between the signals with which mpirun ends ranks, default 10: a checkpoint fits
#   --mca KEY VALUE     more for Open MPI; this and what follows may be given again
#   --notes FILE        the last lines of stderr go there, too
#   --dry-run           print the command
# On one machine more ranks than cores are fine. SIGTERM, SIGINT and SIGUSR1 reach every rank as a
# request: the job writes a checkpoint and ends with 75; a second one ends it at once. The exit code
# is one of docs/operations.md.
HERE=$PWD
. "$(dirname "$0")/lib.sh"
. "$ROOT/launch/exit_codes.sh"
HOSTS='' HOSTFILE='' BIND=none INTERFACES='' RSH='' KILL_TIMEOUT=10 MCA=() NOTES='' DRY_RUN=0

usage() { die "$1" "for example: launch/mpirun.sh 2 train configs/sentiment-cnn.yaml"; }

while [[ ${1:-} == --* ]]; do
  case $1 in
    --hosts) HOSTS=${2:-} ;;
    --hostfile) HOSTFILE=${2:-} ;;
    --bind) BIND=${2:-} ;;
    --interfaces) INTERFACES=${2:-} ;;
    --rsh) RSH=${2:-} ;;
    --kill-timeout) KILL_TIMEOUT=${2:-} ;;
    --notes) NOTES=${2:-} ;;
    --mca)
      MCA+=(--mca "${2:-}" "${3:-}")
      shift
      ;;
    --dry-run)
      DRY_RUN=1
      shift
      continue
      ;;
    --help)
      sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *) usage "there is no option $1" ;;
  esac
  [ $# -ge 2 ] || usage "$1 has no value"
  shift 2
done

cd "$HERE" || exit 1
[ -z "$HOSTFILE" ] || {
  [ -r "$HOSTFILE" ] || die "$HOSTFILE cannot be read" "name a file with lines 'HOST slots=4'"
  HOSTS=$(hosts_of_file "$HOSTFILE")
  [ -n "$HOSTS" ] || die "$HOSTFILE names no host" "write lines 'HOST slots=4'"
}
SLOTS=$(slots_of "$HOSTS")
[ "${1:-}" != all ] || [ -z "$HOSTS" ] || set -- "$SLOTS" "${@:2}"
[[ ${1:-} =~ ^[1-9][0-9]*$ ]] || usage "the number of ranks is missing"
[[ $KILL_TIMEOUT =~ ^[0-9]+$ ]] || usage "--kill-timeout: '$KILL_TIMEOUT' is no number of seconds"
RANKS=$1
shift
[ -z "$HOSTS" ] || [ "$RANKS" -le "$SLOTS" ] ||
  usage "$RANKS ranks, but the hosts take $SLOTS: write more behind a host's name, as in a:4"
PROGRAM=$(cd "$ROOT" && realpath "$COHORT" 2>/dev/null)
[ -x "$PROGRAM" ] || die "$COHORT is not built" "run ./launch/quickstart, or cmake by hand"
LAUNCHER=$(cd "$ROOT" && mpi_launcher) || exit 1

open_mpi_options() {
  OPTIONS=(-n "$RANKS" --mca odls_base_sigkill_timeout "$KILL_TIMEOUT")
  # A host or link that is gone is noticed in about 6 s instead of 8 min.
  OPTIONS+=(--mca oob_tcp_keepalive_time 3 --mca oob_tcp_keepalive_intvl 1
    --mca oob_tcp_keepalive_probes 3)
  case $BIND in
    none | socket | numa) OPTIONS+=(--bind-to "$BIND") ;;
    core) OPTIONS+=(--map-by "slot:PE=$(threads_per_rank)" --bind-to core) ;;
    *) usage "--bind $BIND: expected none, core, socket or numa" ;;
  esac
  [ -z "$HOSTS" ] || OPTIONS+=(--host "$HOSTS")
  [ -z "$RSH" ] || OPTIONS+=(--mca plm rsh --mca plm_rsh_agent "$RSH")
  [ -z "$INTERFACES" ] || OPTIONS+=(--mca btl_tcp_if_include "$INTERFACES"
    --mca oob_tcp_if_include "$INTERFACES")
  local name
  for name in MALLOC_MMAP_THRESHOLD_ MALLOC_TRIM_THRESHOLD_ $(compgen -e COHORT_); do
    OPTIONS+=(-x "$name")
  done
  OPTIONS+=("${MCA[@]}")
}

# As many cores as a rank's share of this host is, for --bind core.
threads_per_rank() {
  local here=$RANKS share
  [ -z "$HOSTS" ] || here=$(tr ',' '\n' <<<"$HOSTS" | awk -F: '{ n = NF > 1 ? $2 : 1
    if (n > top) top = n } END { print top }')
  share=$(($(cores) / here))
  echo $((share > 0 ? share : 1))
}

mpich_options() {
  OPTIONS=(-n "$RANKS")
  [ "$BIND" = none ] || OPTIONS+=(-bind-to "$BIND")
  [ -z "$HOSTS" ] || OPTIONS+=(-hosts "$HOSTS")
  [ -z "$RSH" ] || OPTIONS+=(-launcher rsh -launcher-exec "$RSH")
  [ -z "$INTERFACES" ] || OPTIONS+=(-iface "$INTERFACES")
}

mpi_environment
# Hosts are given with the ranks that they take: there Open MPI itself sees whether ranks must yield.
[ -z "$HOSTS" ] || unset OMPI_MCA_mpi_yield_when_idle OMPI_MCA_rmaps_base_oversubscribe
unset OMPI_MCA_hwloc_base_binding_policy
if "$LAUNCHER" --version 2>&1 | grep -qiE 'open.?mpi|open.?rte|prrte'; then
  open_mpi_options
else
  mpich_options
fi
if [ $DRY_RUN = 1 ]; then
  printf '%q ' "$LAUNCHER" "${OPTIONS[@]}" "$PROGRAM" "$@" && echo
  exit 0
fi

SCRATCH=$(mktemp -d) || die "no temporary folder" "set TMPDIR to one that can be written"
trap 'rm -rf "$SCRATCH"' EXIT
LAST_WORDS=$SCRATCH/notes
# A killed mpirun leaves its files there.
[ -n "$HOSTS${SLURM_JOB_ID:-}" ] || export OMPI_MCA_orte_tmpdir_base=$SCRATCH
# The first two requests are handed on by mpirun to every rank; a third is for mpirun itself.
request() {
  ask
  [ $ASKED -le 2 ] || [ -z "$JOB" ] || kill -TERM "$JOB" 2>/dev/null
}
trap request INT TERM USR1
# mpirun is in a session of its own, so that Ctrl-C and a signal to the group reach it through here.
setsid "$LAUNCHER" "${OPTIONS[@]}" "$PROGRAM" "$@" </dev/null 2> >(
  trap '' INT TERM USR1
  exec tee >(tail -n 200 >"$LAST_WORDS.part" && mv "$LAST_WORDS.part" "$LAST_WORDS") >&2
) &
JOB=$!
hand_on

# mpirun kills what is left of a job only after two kill timeouts, and sleeps through them although
# every rank may have ended. The codes of the ranks that ended on this host are printed once only
# ended ones have been there for 2 s.
ended_ranks() {
  local pid state name found='' word
  while read -r pid state name; do
    [[ $name == "$(basename "$PROGRAM")"* ]] || continue
    [[ $state == Z* ]] || return 1
    word=$(cut -d' ' -f52 "/proc/$pid/stat" 2>/dev/null) || return 1
    found="$found $((word & 127 ? 128 + (word & 127) : word >> 8))"
  done < <(ps -o pid=,stat=,comm= --ppid $JOB 2>/dev/null)
  [ -n "$found" ] && echo "$found"
}

watch() {
  local before='' now
  while kill -0 $JOB 2>/dev/null; do
    sleep 1
    now=$(ended_ranks) || now=
    if [ -n "$now" ] && [ "$now" = "$before" ]; then
      sleep 1
      echo "$now" >"$SCRATCH/codes"
      kill -KILL $JOB 2>/dev/null
      return
    fi
    before=$now
  done
}
watch >/dev/null 2>&1 &
WATCH=$!

while :; do
  { wait $JOB; } 2>/dev/null  # bash would tell that mpirun was killed
  STATUS=$?
  kill -0 $JOB 2>/dev/null || break  # otherwise a signal ended the wait
done
kill $WATCH 2>/dev/null
# A killed mpirun leaves connections to its hosts, which keep stderr open.
REST=$(ps -o pid= -s $JOB)
[ -z "$REST" ] || kill -KILL $REST 2>/dev/null
for ((i = 0; i < 100; i++)); do
  [ ! -e "$LAST_WORDS" ] || break
  sleep 0.05
done
[ -z "$NOTES" ] || cp "$LAST_WORDS" "$NOTES" 2>/dev/null
# What ranks ended with themselves says more than that others were lost.
if [ -s "$SCRATCH/codes" ]; then
  STATUS=5
  for code in $(cat "$SCRATCH/codes"); do
    case $code in
      0 | 5 | 137 | 143) ;;  # lost, or ended because others were
      *) STATUS=$code && break ;;
    esac
  done
fi
exit "$(our_exit_code "$STATUS" "$LAST_WORDS" "$((ASKED > 0))")"
