#!/bin/sh
# The chaos run must be able to fail. Usage: chaos_planted_test.sh CHAOS_BENCH
# One client is served by somebody who drops a byte: the run says so, ends with 1, and names a directory with its seed, plan and logs.
set -u
out=$("$1" --seed 5 --minutes 0.2 --planted 2>&1)
code=$?
echo "$out"
[ "$code" = 77 ] && exit 77
[ "$code" = 1 ] || { echo "the run ended with $code, not 1"; exit 1; }
echo "$out" | grep -q 'FAILED.*wrong byte' || { echo "nobody said that a byte was wrong"; exit 1; }
logs=$(echo "$out" | sed -n 's/.*logs are kept in \([^ ]*\).*/\1/p' | head -n 1)
[ -n "$logs" ] && [ -s "$logs/n1/geckod.log" ] && grep -q 'seed 5' "$logs/plan.txt" || { echo "no logs, or no plan, in '$logs'"; exit 1; }
rm -rf "$logs"
