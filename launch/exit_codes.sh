# shellcheck shell=bash
# Sourced by the launchers: what an exit code of mpirun or srun means in the codes of docs/operations.md,
# and requests to stop.

# Requests that come at any instant reach the job, each once: `trap ask ...` before it is started, and
# hand_on when its number is in JOB.
ASKED=0 HANDED=0 JOB=''
hand_on() {
  while [ -n "$JOB" ] && [ $HANDED -lt $ASKED ]; do
    HANDED=$((HANDED + 1))
    kill -USR1 "$JOB" 2>/dev/null || break
  done
}
ask() {
  ASKED=$((ASKED + 1))
  hand_on
}

# What launchers say when it was a daemon, a link or a host that failed and not the program.
LOST_PATTERN='ORTE has lost|ORTE was unable|ORTE daemon|\<orted\>|PRTE|lost communication|unable to reach|'
LOST_PATTERN+='No route to host|Connection (refused|reset|timed out)|HYDU_sock|proxy:.*assert|'
LOST_PATTERN+='NODE FAILURE|Node failure|task launch failed|Unable to confirm allocation|on signal 9'
REFUSED_PATTERN='not enough slots|listed multiple times|could not find an executable|Unrecognized option|'
REFUSED_PATTERN+='more processes than|unrecognized argument'
# Of a program or folder that is not there; but daemons that go down say it of their own files.
MISSING_PATTERN='No such file or directory'
# A line of the program, which says the same of other things.
OURS_PATTERN='^[^ ]+Z (info|warn|error)'

# Of a job whose run folder another job has taken over: to start it again would only take it back.
FENCED_PATTERN='a newer attempt of this job has taken over'

# srun may give 0 for a step that never began on some node.
UNBEGUN_PATTERN='srun: .*(aborted before step completely launched|Timed out waiting for job step)'

# launcher_says PATTERN NOTES: in a line that is not the program's own.
launcher_says() { [ -n "$2" ] && grep -vsE "$OURS_PATTERN" "$2" | grep -qE "$1"; }

# our_exit_code RAW [NOTES] [ASKED]: prints our code for RAW. NOTES: a file with the last words of the
# launcher. ASKED=1: somebody asked the job to stop.
our_exit_code() {
  local raw=$1 notes=${2:-} asked=${3:-0}
  case $raw in
    0) [ -n "$notes" ] && grep -qsE "$UNBEGUN_PATTERN" "$notes" && echo 5 || echo 0 ;;
    2 | 3 | 4 | 5 | 6 | 75) echo "$raw" ;;
    # SIGUSR1 came before the program waited for it: it can be started again.
    138 | 10) [ "$asked" = 1 ] && echo 75 || echo 5 ;;
    # Killed (also by the kernel, for memory), a broken pipe, a daemon that is gone; MPICH: 9, 15.
    137 | 143 | 141 | 205 | 213 | 9 | 15 | 13) echo 5 ;;
    126 | 127) echo 2 ;;
    1 | 255)
      if launcher_says "$REFUSED_PATTERN" "$notes"; then
        echo 2
      elif launcher_says "$LOST_PATTERN" "$notes"; then
        echo 5
      elif launcher_says "$MISSING_PATTERN" "$notes"; then
        echo 2
      else
        echo 1
      fi
      ;;
    *) echo 1 ;;
  esac
}

# The first error line of NOTES, without its time: what failed, in words.
first_error() {
  grep -sm 1 -E '^[^ ]+Z error' "$1" | sed -E 's/^[^ ]+Z error( rank [0-9]+ [^ ]+)?: //' ||
    true
}

# Of a message on stdin: N for the numbers that differ from time to time (steps, seconds, ranks, ports);
# those in names and addresses of hosts, of files and of shards stay.
without_numbers() {
  sed -E ':again
    s/(^|[^A-Za-z0-9_.-])[0-9]+([.][0-9]+)?(e[-+]?[0-9]+)?(ms|s|x|%)?($|[^A-Za-z0-9_.-]|[.]$|[.] )/\1N\5/
    t again'
}
