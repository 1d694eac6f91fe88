#!/usr/bin/env bash
# A shared file system that dies under a job of two hosts: GlusterFS, its server on a third host,
# the run folder on a FUSE mount. The server is killed and comes back; its cable is pulled, for a
# while and for good; writes fail or take a part; a mount does not answer. What went wrong is told
# with path and error, no damaged checkpoint is taken, and the end has the weights of the
# undisturbed run.
LOCAL=$2/cluster/local
skip() {
  echo "Skipped: $*"
  exit 77
}
reason=$("$LOCAL/hosts" check) || skip "$reason"
for tool in glusterfsd glusterfs; do
  command -v $tool >/dev/null || skip "no $tool (packages glusterfs-server, glusterfs-client)"
done
[ -c /dev/fuse ] || skip "no /dev/fuse"
. "$(dirname "$0")/../system/lib.sh" "$@"
export COHORT_ROOT=$2 COHORT_LAB=$WORK/lab COHORT_BUILD=$WORK/build
mkdir "$WORK/build" && ln -s "$COHORT" "$WORK/build/cohort"
echo "MPIEXEC_EXECUTABLE:FILEPATH=$MPIEXEC" >"$WORK/build/CMakeCache.txt"
trap 'status=$?; "$LOCAL/hosts" down; (exit $status); finish' EXIT
on() { "$LOCAL/hosts" on "$@"; }

# The server's folder is looked into from outside: that works while the server is dead.
VOLUME=$WORK/volume BRICK=$WORK/brick SHARED=$WORK/shared RUNS=$BRICK/runs
PING=5  # seconds until a client gives a silent server up
mkdir -p "$VOLUME" "$BRICK" "$SHARED"

# volume NAME TYPE [OPTION VALUE ...] [-- BELOW]: a part of a volume file.
volume() {
  printf 'volume %s\n type %s\n' "$1" "$2"
  shift 2
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    printf ' option %s %s\n' "$1" "$2"
    shift 2
  done
  [ $# = 0 ] || printf ' subvolumes %s\n' "$2"
  echo end-volume
}
# serve [OPTION VALUE ...]: begins to, on h3; with options of debug/error-gen some calls fail.
serve() {
  local top=locks
  [ $# = 0 ] || top=errors
  {
    volume disk storage/posix directory "$BRICK"
    volume locks features/locks -- disk
    [ $# = 0 ] || volume errors debug/error-gen "$@" -- locks
    volume brick performance/io-threads thread-count 4 -- $top
    volume server protocol/server transport-type tcp transport.socket.listen-port 24017 \
      auth.addr.brick.allow '*' -- brick
  } >"$VOLUME/server"
  on h3 "glusterfsd -f $VOLUME/server -p $VOLUME/server.pid -l $VOLUME/server.log" ||
    die "the server does not start"
}
kill_server() { on h3 "kill -9 \$(cat $VOLUME/server.pid)"; }
mounts_work() {  # until they do, on both hosts
  local host i
  for host in h1 h2; do
    for ((i = 0; i < 60; i++)); do
      on $host "mountpoint -q $SHARED && ls $SHARED" >/dev/null 2>&1 && continue 2
      sleep 1
    done
    tail -n 5 "$VOLUME/$host.log" >&2
    die "$host does not see the shared folder"
  done
}

CONFIG=$CONFIGS/behavior-rnn.yaml
JOB=(--rsh "$COHORT_LAB/agent" --interfaces 10.77.0.0/24 --hosts h1,h2)
options() {
  echo data.shards="$SET/behavior" runs="$SHARED/runs" name="$1" train.epochs=30 device.threads=1 \
    train.early_stop_patience=0 checkpoint.every_steps=20 checkpoint.keep_last=4 \
    checkpoint.retries=1
}
# start LAUNCHER RUN [OPTION ...]: launch/mpirun.sh or supervise, from h1, in the background.
start() {
  LOG=$WORK/$2.log
  local more=()
  [ "$1" != supervise ] || more=(--backoff 4 --same 9)
  timeout -k 10 $((300 * PATIENCE)) "$LOCAL/hosts" on h1 "$COHORT_ROOT/launch/$1" "${JOB[@]}" \
    "${more[@]}" all \
    train "$CONFIG" "$(options "$2")" "${@:3}" >"$LOG" 2>&1 &
  job=$!
  began=$SECONDS
}
ends() {  # ends STATUSES WHAT
  wait $job
  local status=$?
  [[ " $1 " == *" $status "* ]] || die "exit $status instead of $1: $2"
  echo "$2: exit $status, $((SECONDS - began)) s"
}

shard behavior
"$LOCAL/hosts" up 3 || die "no hosts"
serve
for host in h1 h2; do
  volume client protocol/client transport-type tcp remote-host 10.77.0.3 remote-port 24017 \
    remote-subvolume brick ping-timeout $PING >"$VOLUME/client"
  on $host "glusterfs -f $VOLUME/client -p $VOLUME/$host.pid -l $VOLUME/$host.log $SHARED" ||
    die "$host cannot mount"
done
mounts_work
start mpirun.sh whole
ends 0 "undisturbed"

# whole_so_far RUN: seen through the mount.
whole_so_far() {
  LOG=$WORK/log
  mounts_work
  expect 0 "$LOCAL/hosts" on h1 "$COHORT checkpoint verify $SHARED/runs/$1"
  says "0 problems"
}
# go_on RUN: from what there is to the end.
go_on() {
  whole_so_far "$1"
  mv "$WORK/$1.log" "$WORK/$1.first.log"
  start mpirun.sh "$1" --resume
  ends 0 "$1: resumed"
  says "resumed from"
  ends_as_whole "$1"
}
told() {  # told PATTERN: waits until it is
  local i
  for ((i = 0; i < 240 * PATIENCE; i++)); do
    ! grep -qE -- "$1" "$LOG" || return 0
    kill -0 $job 2>/dev/null || break
    sleep 0.5
  done
  die "not told: $1"
}
LOST='Transport endpoint is not connected'

start mpirun.sh killed checkpoint.retries=6
wait_for_step killed 20
kill_server
told 'try 1 of 6 follows'
sleep 10
serve
ends 0 "killed: the server, for 10 s"
says "$LOST"
says "runs/killed/checkpoints/step-"
ends_as_whole killed
[ "$(losses killed)" = "$(losses whole)" ] || die "lines of metrics are lost"
whole_so_far killed

# Shorter than clients wait: a stall, and no error.
start mpirun.sh stalled
wait_for_step stalled 20
"$LOCAL/hosts" cut h3
sleep 2
"$LOCAL/hosts" join h3
ends 0 "stalled: the server's cable, pulled for 2 s"
ends_as_whole stalled

start mpirun.sh cut
wait_for_step cut 20
"$LOCAL/hosts" cut h3
ends "4 5" "cut: the server's cable, for good"
says "$LOST"
grep -qE "Z error.*$SHARED/runs/cut/.*$LOST" "$LOG" || die "the last error names no path"
[ -z "$(ranks)" ] || die "ranks are left"
"$LOCAL/hosts" join h3
go_on cut

start supervise supervised
wait_for_step supervised 20
"$LOCAL/hosts" cut h3
told 'Exit [45] .*: again in'
"$LOCAL/hosts" join h3
ends 0 "supervised: the server's cable, pulled until the job has failed"
says "resumed from"
ends_as_whole supervised
whole_so_far supervised

# Writes that fail, and that take a part at a time.
start mpirun.sh errors checkpoint.retries=9
wait_for_step errors 20
kill_server
serve failure 60 enable WRITE error-no EIO
told 'checkpoint not written: .*write of [0-9]+ bytes'
kill_server
serve
ends 0 "errors: of writes, at random"
ends_as_whole errors
whole_so_far errors

# A mount that does not answer at all, not even with an error.
start mpirun.sh hung train.step_timeout_s=10
wait_for_step hung 20
on h1 "kill -STOP \$(cat $VOLUME/h1.pid)"
ends 4 "hung: the mount of rank 0"
error_lines 1 'rank 0 \(host h1, '
on h1 "kill -CONT \$(cat $VOLUME/h1.pid)"
[ -z "$(ranks)" ] || die "ranks are left"
go_on hung
echo "gluster passed"
