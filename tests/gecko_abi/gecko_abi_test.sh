#!/bin/sh
# Installs libgecko into a scratch directory and uses it from there. Usage: gecko_abi_test.sh SOURCE_DIR BUILD_DIR C_COMPILER CXX_COMPILER
set -eu
source=$1
build=$2
cc=$3
cxx=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for component in libgecko0 libgecko-dev; do cmake --install "$build" --component "$component" --prefix "$work/usr" > /dev/null; done
pc=$(find "$work/usr" -name gecko.pc)
flags=$(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --cflags --libs gecko)
library=$(find "$work/usr" -name libgecko.so)

# Exactly what the header declares, under a version, and nothing else.
header=$work/usr/include/gecko/gecko.h
nm -D --defined-only --with-symbol-versions "$library" | sed -n 's/.* T \(.*\)@@GECKO_0.[12345]$/\1/p' | sort > "$work/exported"
sed -nE 's/^GECKO_API .*\b(gecko_[a-z_]+)\(.*/\1/p' "$header" | sort > "$work/declared"
diff "$work/declared" "$work/exported" || { echo "the header and the library differ (above: < declared, > exported)"; exit 1; }
others=$(nm -D --defined-only "$library" | grep -cvE ' T gecko_| A GECKO_0.[12345]' || true)
[ "$others" = 0 ] || { nm -D --defined-only "$library"; echo "the library exports more than its interface"; exit 1; }

# Strictly, with compilers that know nothing of this project.
# shellcheck disable=SC2086  # words
"$cc" -std=c11 -Wall -Wextra -Wpedantic -Werror "$source/examples/hello.c" $flags -o "$work/hello"
{ echo '#include <cstdio>'; sed -n '/^```cpp$/,/^```$/p' "$source/docs/api.md" | sed '1d' | sed '/^```$/,$d'; } > "$work/guide.cc"
grep -q 'int main' "$work/guide.cc"
# shellcheck disable=SC2086
"$cxx" -std=c++20 -Wall -Wextra -Wpedantic -Werror "$work/guide.cc" $flags -o "$work/guide"

# No geckod here: both say so and what to do.
GECKO_SOCKET=$work/none.sock
LD_LIBRARY_PATH=$(dirname "$library")
export GECKO_SOCKET LD_LIBRARY_PATH
for program in hello guide; do
  if "$work/$program" web 2> "$work/said"; then echo "$program works without geckod?"; exit 1; fi
  cat "$work/said"
  grep -q "geckod is not running at $work/none.sock" "$work/said"
done
