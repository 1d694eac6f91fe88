#!/usr/bin/env bash
# The promise of the launch scripts, tried by hand: a command of the committed tree in a minimal
# Debian root that has nothing else. As root, with debootstrap and a network:
#   tests/system/fresh_root.sh FOLDER COMMAND [ARGUMENT ...]
#   tests/system/fresh_root.sh /var/tmp/fresh ./launch/quickstart
# FOLDER is made by the first call (COHORT_SUITE, default bookworm; COHORT_MIRROR, default the
# archive this machine uses); a later call goes on in it, with the tree of that moment and the builds
# and runs of the calls before. Remove FOLDER when done: nothing stays mounted.
set -eu

die() {
  echo "error: $*" >&2
  exit 1
}

[ $# -ge 2 ] || die "usage: $0 FOLDER COMMAND [ARGUMENT ...]"
[ "$(id -u)" = 0 ] || die "become root: debootstrap and chroot need it"
for tool in debootstrap unshare git; do
  command -v $tool >/dev/null || die "$tool is missing: install it first"
done
SOURCE=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
SUITE=${COHORT_SUITE:-bookworm}
mkdir -p "$1"
FRESH=$(cd "$1" && pwd)
shift

# The archive of this machine's own package sources, whatever their format.
host_mirror() {
  apt-get indextargets --format '$(SITE)|$(RELEASE)|$(COMPONENT)|$(CREATED_BY)' 2>/dev/null |
    awk -F'|' -v suite="$SUITE" \
      '$4 == "Packages" && $3 == "main" && $2 == suite && !found { print $1; found = 1 }'
}

make_root() {
  local mirror
  [ -z "$(ls -A "$FRESH")" ] || die "$FRESH is neither empty nor made by this script"
  mirror=${COHORT_MIRROR:-$(host_mirror)}
  # Without a mirror debootstrap takes its default for the suite.
  debootstrap --variant=minbase "$SUITE" "$FRESH" ${mirror:+"$mirror"} ||
    die "debootstrap failed: read its log in $FRESH/debootstrap, remove $FRESH and start again"
  : >"$FRESH/fresh-root"
}

# How this machine reaches the network, and nothing else of it.
copy_network() {
  local file
  for file in /etc/resolv.conf /etc/pip.conf; do
    [ ! -f $file ] || cp -L $file "$FRESH$file"
  done
  apt-config dump 2>/dev/null | grep -i '^Acquire::https\?::proxy' \
    >"$FRESH/etc/apt/apt.conf.d/90proxy" || true
  # MPI asks for the address of the host's name.
  echo fresh >"$FRESH/etc/hostname"
  printf '127.0.0.1 localhost fresh\n::1 localhost\n' >"$FRESH/etc/hosts"
}

[ -f "$FRESH/fresh-root" ] || make_root
copy_network
mkdir -p "$FRESH/cohort"
git -C "$SOURCE" archive HEAD | tar -x -C "$FRESH/cohort"

# The mounts belong to the new namespace and end with it.
exec unshare --mount --uts --pid --fork --propagation private bash -euc '
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
  exec chroot "$fresh" /usr/bin/env -i "${settings[@]}" sh -c "cd /cohort && exec \"\$@\"" sh "$@"
' fresh_root "$FRESH" "$@"
