#!/usr/bin/env bash
# mutate.sh NAME SOURCE TARGET: writes SOURCE with the fault NAME of mutations.txt.
set -eu
mkdir -p "$(dirname "$3")"
awk -v name="$1" -v source="$2" '
  FNR == NR && /^mutant / { inside = $2 == name; next }
  FNR == NR && inside && /^- / { find = find between substr($0, 3); between = "\n" }
  FNR == NR && inside && /^[+]/ { put = put also substr($0, 3); also = "\n" }
  FNR == NR { next }
  { text = text $0 "\n" }
  END {
    at = index(text, find)
    if (find == "" || !at || index(substr(text, at + 1), find)) {
      print "mutations.txt, " name ": its text is not exactly once in " source ":\n" find >"/dev/stderr"
      exit 1
    }
    printf "%s", substr(text, 1, at - 1) put substr(text, at + length(find))
  }' "$(dirname "$0")/mutations.txt" "$2" >"$3.new"
cmp -s "$3.new" "$3" || cp "$3.new" "$3"   # else what was built of it is still right
