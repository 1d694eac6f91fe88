# shellcheck shell=bash disable=SC2046,SC2034
# Shared by the launch scripts: source it from bash. Sets ROOT and moves there.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
cd "$ROOT" || exit 1
BUILD=${COHORT_BUILD:-build}
COHORT=$BUILD/cohort

say() { printf '==> %s\n' "$*"; }

# die WHAT [NEXT ACTION]
die() {
  printf 'error: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '  what to do: %s\n' "$2" >&2
  exit 1
}

cores() { nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2; }

is_debian() { command -v apt-get >/dev/null 2>&1 && command -v dpkg-query >/dev/null 2>&1; }

# The names in the files given that are not installed, one a line.
missing_packages() {
  local name
  grep -hv '^ *\(#\|$\)' "$@" | while read -r name; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || echo "$name"
  done
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo "$@"
  else
    return 126
  fi
}

apt() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 \
    -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@"
}

# Whether CMake finds every library already: then neither root nor network is needed.
libraries_found() {
  command -v cmake >/dev/null 2>&1 || return 1
  rm -rf "$BUILD/probe"
  cmake -S . -B "$BUILD/probe" $(generator "$BUILD/probe") "${CONFIGURE_OPTIONS[@]}" >/dev/null 2>&1
  local found=$?
  rm -rf "$BUILD/probe"
  return $found
}

# install_packages LIST...: what is missing of the lists, and of the optional list what exists here.
install_packages() {
  [ "${COHORT_SKIP_PACKAGES:-0}" != 1 ] || return 0
  if ! is_debian; then
    say "No apt here: using the libraries that CMake finds (docs/dependencies.md lists them)"
    return 0
  fi
  local missing
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  if libraries_found && ! missing_packages "$@" | grep -q '^python3'; then
    say "CMake finds every library; installing nothing"
    return 0
  fi
  say "Installing packages: $(echo $missing)"
  apt update || die "the package lists could not be refreshed" \
    "check the network and the sources under /etc/apt, or become root; where the libraries are \
installed by other means, set COHORT_SKIP_PACKAGES=1"
  # Word splitting is wanted: one package name a word.
  apt install -y --no-install-recommends $missing || die "the packages could not be installed" \
    "run 'apt-get install $(echo $missing)' by hand to see why, then start this script again"
  install_optional
}

# install_optional [LIST]: of its packages, those that there are here.
install_optional() {
  [ "${COHORT_SKIP_PACKAGES:-0}" != 1 ] && is_debian || return 0
  local name wanted=
  for name in $(missing_packages "${1:-launch/packages/debian-optional.txt}"); do
    if apt-cache show "$name" 2>/dev/null | grep -q .; then wanted="$wanted $name"; fi
  done
  [ -n "$wanted" ] || return 0
  say "Installing optional packages:$wanted"
  apt install -y --no-install-recommends $wanted || say "Going on without:$wanted"
}

# Settings for both Open MPI and MPICH on a small machine. Nothing here changes a result.
mpi_environment() {
  if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
  export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe:-1}
  export OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle:-1}
  export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
  export MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_:-268435456}
  export MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-1073741824}
}

# replace_between FILE MARKER: stdin between the lines <!-- MARKER --> and <!-- /MARKER --> of FILE.
replace_between() {
  local fresh=$1.new
  grep -q "^<!-- $2 -->" "$1" && grep -q "^<!-- /$2 -->" "$1" ||
    die "$1 has no markers <!-- $2 --> and <!-- /$2 -->" "restore the file from the repository"
  awk -v from="<!-- $2 -->" -v to="<!-- /$2 -->" '
    FILENAME == "-" { body = body $0 "\n"; next }
    $0 == to { inside = 0 }
    !inside { print }
    $0 == from { printf "%s", body; inside = 1 }' - "$1" >"$fresh" && mv "$fresh" "$1"
}

# hosts_of_file FILE: "a:4,b:1" of lines "a slots=4" and "b".
hosts_of_file() {
  awk '!/^ *(#|$)/ { n = 1
    for (i = 2; i <= NF; i++) if (sub(/^slots=/, "", $i)) n = $i
    printf "%s%s:%s", (seen++ ? "," : ""), $1, n }' "$1"
}

# slots_of LIST: how many ranks the hosts of "a:4,b" take together.
slots_of() { tr ',' '\n' <<<"$1" | awk -F: 'NF { n += NF > 1 ? $2 : 1 } END { print n + 0 }'; }

# How to start N ranks of a command: the launcher that belongs to the MPI the build found.
mpi_launcher() {
  local found
  found=$(sed -n 's/^MPIEXEC_EXECUTABLE:[A-Z]*=//p' "$BUILD/CMakeCache.txt" 2>/dev/null)
  command -v "$found" || command -v mpirun || command -v mpiexec ||
    die "no mpirun was found" "install an MPI (Debian: openmpi-bin) or put its bin folder in PATH"
}

generator() {
  # An existing folder keeps the generator that it has.
  [ ! -f "$1/CMakeCache.txt" ] || return 0
  if command -v ninja >/dev/null 2>&1; then echo "-G Ninja"; fi
}

# Warnings stop the build with the compilers that cmake/Options.cmake knows; launch/test says always.
CONFIGURE_OPTIONS=(-DCMAKE_BUILD_TYPE=Release)

# configure_and_build [TARGET...]
configure_and_build() {
  say "Configuring $BUILD/"
  mkdir -p "$BUILD"
  cmake -S . -B "$BUILD" $(generator "$BUILD") "${CONFIGURE_OPTIONS[@]}" >"$BUILD/configure.log" 2>&1 || {
    tail -n 30 "$BUILD/configure.log" >&2
    die "CMake could not configure the build" \
      "read $BUILD/configure.log; a library that is missing is named there and in docs/dependencies.md; \
an old $BUILD/ folder may be removed"
  }
  local jobs
  jobs=${COHORT_JOBS:-$(cores)}
  say "Building with $jobs jobs (log: $BUILD/build.log)"
  local targets=()
  [ $# = 0 ] || targets=(--target "$@")
  cmake --build "$BUILD" -j "$jobs" "${targets[@]}" >"$BUILD/build.log" 2>&1 || {
    grep -n -m 20 -E 'error|FAILED|fatal' "$BUILD/build.log" >&2
    tail -n 20 "$BUILD/build.log" >&2
    die "the build failed" "read $BUILD/build.log; with little memory set COHORT_JOBS=1"
  }
}
