#!/usr/bin/env bash
# The promise of the launch scripts, tried by hand: the committed tree in a minimal root that has
# nothing else. As root, with debootstrap and a network:
#   tests/system/fresh_root.sh [--user] FOLDER [COMMAND [ARGUMENT ...]]
#   tests/system/fresh_root.sh /var/tmp/fresh
# Without COMMAND: ./launch/quickstart, again ./launch/quickstart, ./launch/test, and how long each
# took. With --user they run as a plain user who has sudo, not as root.
# FOLDER is made by the first call (COHORT_SUITE, default bookworm; COHORT_MIRROR, default the
# archive this machine uses; COHORT_COMPONENTS, default main); a later call goes on in it, with the
# tree of that moment and the builds and runs of the calls before. Remove FOLDER when done: nothing
# stays mounted.
set -eu

die() {
  echo "error: $*" >&2
  exit 1
}

PLAIN_USER=
if [ "${1:-}" = --user ]; then
  PLAIN_USER=newcomer
  shift
fi
[ $# -ge 1 ] || die "usage: $0 [--user] FOLDER [COMMAND [ARGUMENT ...]]"
[ "$(id -u)" = 0 ] || die "become root: debootstrap and chroot need it"
for tool in debootstrap unshare git; do
  command -v $tool >/dev/null || die "$tool is missing: install it first"
done
SOURCE=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
SUITE=${COHORT_SUITE:-bookworm}
mkdir -p "$1"
FRESH=$(cd "$1" && pwd)
shift

# The archive of this machine's own package sources, whatever their format: the one that has the
# suite, else the first that is no archive of updates.
host_mirror() {
  apt-get indextargets --format '$(SITE)|$(RELEASE)|$(COMPONENT)|$(CREATED_BY)' 2>/dev/null |
    awk -F'|' -v suite="$SUITE" '
      $4 != "Packages" || $3 != "main" || $2 ~ /-(updates|security|backports|proposed)/ { next }
      $2 == suite && exact == "" { exact = $1 }
      other == "" { other = $1 }
      END { print exact != "" ? exact : other }'
}

make_root() {
  local mirror
  [ -z "$(ls -A "$FRESH")" ] || die "$FRESH is neither empty nor made by this script"
  mirror=${COHORT_MIRROR:-$(host_mirror)}
  # Without a mirror debootstrap takes its default for the suite.
  # One that it does not know by name is an Ubuntu: they are all made as gutsy was.
  debootstrap --variant=minbase --components="${COHORT_COMPONENTS:-main}" "$SUITE" "$FRESH" \
    ${mirror:+"$mirror"} $([ -e "/usr/share/debootstrap/scripts/$SUITE" ] || echo gutsy) ||
    die "debootstrap failed: read its log in $FRESH/debootstrap, remove $FRESH and start again"
  : >"$FRESH/fresh-root"
}

# How this machine reaches the network, and nothing else of it.
copy_network() {
  local file
  for file in /etc/resolv.conf /etc/pip.conf; do
    [ ! -f $file ] || cp -L $file "$FRESH$file"
  done
  # Certificates that this network needs; the package ca-certificates takes them up.
  [ ! -d /usr/local/share/ca-certificates ] ||
    cp -rL /usr/local/share/ca-certificates "$FRESH/usr/local/share/"
  apt-config dump 2>/dev/null | grep -i '^Acquire::https\?::proxy' \
    >"$FRESH/etc/apt/apt.conf.d/90proxy" || true
  # MPI asks for the address of the host's name.
  echo fresh >"$FRESH/etc/hostname"
  printf '127.0.0.1 localhost fresh\n::1 localhost\n' >"$FRESH/etc/hosts"
}

# enter COMMAND...: in the root, as root, with mounts that belong to a namespace and end with it.
enter() {
  unshare --mount --uts --pid --fork --propagation private bash -euc '
    fresh=$1
    shift
    mount -t proc proc "$fresh/proc"
    mount --rbind /sys "$fresh/sys"
    mount --rbind /dev "$fresh/dev"
    hostname fresh
    settings=(HOME=/cohort PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8)
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY TERM; do
      [ -z "${!name:-}" ] || settings+=("$name=${!name}")
    done
    cd /
    exec chroot "$fresh" /usr/bin/env -i "${settings[@]}" "$@"
  ' fresh_root "$FRESH" "$@"
}

# try COMMAND...: in the copy of the tree; says how long it took and how busy the machine was.
try() {
  local start=$SECONDS status=0 as=()
  [ -z "$PLAIN_USER" ] ||
    as=(setpriv --reuid "$PLAIN_USER" --regid "$PLAIN_USER" --init-groups)
  enter "${as[@]}" sh -c 'cd /cohort && exec "$@"' sh "$@" || status=$?
  echo "fresh root: $* took $((SECONDS - start)) s, exit $status;" \
    "load at its end $(cut -d' ' -f1-3 /proc/loadavg) on $(nproc) cores"
  return $status
}

[ -f "$FRESH/fresh-root" ] || make_root
copy_network
mkdir -p "$FRESH/cohort"
git -C "$SOURCE" archive HEAD | tar -x -C "$FRESH/cohort"
if [ -n "$PLAIN_USER" ]; then
  enter sh -euc '
    command -v sudo >/dev/null || {
      apt-get -qq update
      DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends sudo >/dev/null
    }
    id "$1" >/dev/null 2>&1 || useradd --home-dir /cohort "$1"
    echo "$1 ALL=(ALL) NOPASSWD: ALL" >"/etc/sudoers.d/$1"
    chown -R "$1": /cohort' sh "$PLAIN_USER"
fi

if [ $# -gt 0 ]; then
  try "$@"
else
  try ./launch/quickstart
  try ./launch/quickstart
  try ./launch/test
fi
