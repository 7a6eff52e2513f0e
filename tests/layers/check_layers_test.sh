#!/bin/sh
# The arrows hold in this tree, and the check notices when they do not. Usage: check_layers_test.sh SOURCE_DIR
set -eu
check=$1/tests/layers/check_layers.sh
sh "$check" "$1"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
expect_refused() {  # FILE INCLUDE
  rm -rf "${work:?}"/*
  path=$(echo "$2" | tr -d '"<>')
  mkdir -p "$work/src/$(dirname "$path")" "$work/$(dirname "$1")"
  [ "$path" = vector ] || touch "$work/src/$path"
  echo "#include $2" > "$work/$1"
  if sh "$check" "$work" > /dev/null; then
    echo "check_layers.sh let $1 include $2"
    exit 1
  fi
}
expect_refused src/base/a.hh '"wire/frame.hh"'
expect_refused src/core/a.cc '"node/group.hh"'
expect_refused src/wire/a.cc '<core/handoff.hh>'
expect_refused src/core/a_test.cc '"node/group.hh"'
expect_refused examples/a.cc '"base/fd.hh"'
expect_refused src/brandnew/a.cc '<vector>'
