#!/usr/bin/env bash
# A shared file system that dies under a job of two hosts: GlusterFS, its server on a third host, the run
# folder on a FUSE mount. The server is killed and comes back; its cable is pulled, for a while and for
# good; writes fail or take a part. Nothing hangs, what went wrong is told with path and error, no
# damaged checkpoint is taken, and the end has the weights of the undisturbed run.
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
# serve [OPTION VALUE ...]: begins to, on h3; with options of debug/error-gen some of its calls fail.
serve() {
  {
    volume disk storage/posix directory "$BRICK"
    volume locks features/locks -- disk
    volume errors debug/error-gen "$@" -- locks
    volume brick performance/io-threads thread-count 4 -- "$([ $# = 0 ] && echo locks || echo errors)"
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
  echo data.shards="$SET/behavior" runs="$SHARED/runs" name="$1" train.epochs=12 device.threads=1 \
    train.early_stop_patience=0 checkpoint.every_steps=20 checkpoint.keep_last=4
}
# start LAUNCHER RUN [OPTION ...]: launch/mpirun.sh or supervise, from h1, in the background.
start() {
  LOG=$WORK/$2.log
  timeout -k 10 $((300 * PATIENCE)) "$LOCAL/hosts" on h1 "$COHORT_ROOT/launch/$1" "${JOB[@]}" all \
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
equal() {
  local step
  step=step-$(last_step whole)
  [ "step-$(last_step "$1")" = "$step" ] || die "$1 did not end at $step"
  same_tensors "$RUNS/whole/checkpoints/$step" "$RUNS/$1/checkpoints/$step"
  same "$RUNS/whole/ledger.jsonl" "$RUNS/$1/ledger.jsonl"
}

shard behavior
"$LOCAL/hosts" up 3 || die "no hosts"
serve
for host in h1 h2; do
  on $host "glusterfs -s 10.77.0.3" --version >/dev/null
  volume client protocol/client transport-type tcp remote-host 10.77.0.3 remote-port 24017 \
    remote-subvolume brick ping-timeout $PING >"$VOLUME/client"
  on $host "glusterfs -f $VOLUME/client -p $VOLUME/$host.pid -l $VOLUME/$host.log $SHARED" ||
    die "$host cannot mount"
done
mounts_work
start mpirun.sh whole
ends 0 "undisturbed"

start mpirun.sh killed checkpoint.retries=6
wait_for_step killed 20
kill_server
sleep 10
serve
ends 0 "server killed for 10 s"
equal killed
echo "gluster passed"
