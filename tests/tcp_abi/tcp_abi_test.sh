#!/bin/sh
# Installs libgecko-tcp into a scratch directory and uses it from there. Usage: tcp_abi_test.sh SOURCE_DIR BUILD_DIR C_COMPILER
set -eu
source=$1
build=$2
cc=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for component in libgecko-tcp1 libgecko-tcp-dev; do cmake --install "$build" --component "$component" --prefix "$work/usr" > /dev/null; done
pc=$(find "$work/usr" -name gecko-tcp.pc)
flags=$(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --cflags --libs gecko-tcp)
library=$(find "$work/usr" -name libgecko-tcp.so)

# Exactly what the header declares, under a version, and nothing else.
nm -D --defined-only --with-symbol-versions "$library" | sed -n 's/.* T \(.*\)@@GECKO_TCP_1$/\1/p' | sort > "$work/exported"
grep -oE '\bgecko_tcp_[a-z_]+\(' "$source/include/gecko/tcp.h" | tr -d '(' | sort -u > "$work/mentioned"
sed -nE 's/^GECKO_TCP_API .*\b(gecko_tcp_[a-z_]+)\(.*/\1/p' "$source/include/gecko/tcp.h" | sort > "$work/declared"
diff "$work/declared" "$work/exported" || { echo "the header and the library differ (above: < declared, > exported)"; exit 1; }
comm -23 "$work/mentioned" "$work/declared" | grep . && { echo "the header mentions functions that it does not declare (above)"; exit 1; }
others=$(nm -D --defined-only "$library" | grep -cvE ' T gecko_tcp_| A GECKO_TCP_1' || true)
[ "$others" = 0 ] || { nm -D --defined-only "$library"; echo "the library exports more than its interface"; exit 1; }

# As C, strictly, with a compiler that knows nothing of this project.
# shellcheck disable=SC2086  # words
"$cc" -std=c11 -Wall -Wextra -Wpedantic -Werror "$source/examples/tcp_pass.c" $flags -o "$work/tcp_pass"

if ! unshare --user --map-root-user --net true 2> "$work/why"; then
  echo "skipped: no user and network namespaces here: $(cat "$work/why")"
  exit 77
fi
LD_LIBRARY_PATH=$(dirname "$library") unshare --user --map-root-user --net \
  sh -c 'ip link set lo up; exec timeout 60 "$1"' sh "$work/tcp_pass" > "$work/out" || { cat "$work/out"; exit 1; }
cat "$work/out"
grep -q 'second server answers client: line 8' "$work/out" || { echo "the second server did not get the connection"; exit 1; }
