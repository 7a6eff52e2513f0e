#!/bin/sh
# Who reads the wall clock in this tree may, and the check notices who may not. Usage: check_clock_test.sh SOURCE_DIR
set -eu
check=$1/tests/layers/check_clock.sh
sh "$check" "$1"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
expect() {  # refused|let FILE LINE
  rm -rf "${work:?}"/*
  mkdir -p "$work/$(dirname "$2")"
  echo "$3" > "$work/$2"
  verdict=let
  CHECK_ONLY_FOUND=1 sh "$check" "$work" > /dev/null || verdict=refused
  [ $verdict = "$1" ] || {
    echo "check_clock.sh: $2 with '$3' was $verdict, expected: $1"
    exit 1
  }
}
expect refused src/core/a.cc 'const auto now = std::chrono::system_clock::now();'
expect refused src/node/a.hh '  clock_gettime(CLOCK_REALTIME, &ts);'
expect refused src/base/a.cc 'return time(nullptr) + 5;'
expect refused examples/a.c '  gettimeofday(&tv, 0);'
expect let src/node/group.cc 'std::chrono::system_clock::now()'
expect let src/core/a.cc 'const Time now = monotonic_now(); next_time(0);'
expect let src/core/a_test.cc 'std::chrono::system_clock::now()'
