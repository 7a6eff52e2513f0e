#!/bin/sh
# The wall clock jumps (NTP, an operator, a machine that wakes): it may be told to people and put into certificates, and decides nothing else. Usage:
# check_clock.sh SOURCE_DIR; prints each line that reads it in a file that may not, and each file that is listed here and does not; ends 1 if any.
set -eu
cd "$1"

# What reads it, and for whom.
allowed='src/node/group.cc
src/node/admin_events.cc
src/node/metrics.cc
src/config/keys.cc
src/cli/doctor_machine.cc'
# events: when; the snapshot's date; a gauge that is a moment; from when to when a certificate is valid; whether one is about to expire

wall='system_clock|high_resolution_clock|utc_clock|file_clock|CLOCK_REALTIME|CLOCK_TAI|gettimeofday\(|timespec_get|[^r]ftime\(|(^|[^A-Za-z0-9_.>])time\((nullptr|NULL|0|&)|X509_gmtime_adj|X509_time_adj'
found=$(grep -rnE "$wall" src include bindings examples --include='*.cc' --include='*.hh' --include='*.c' --include='*.h' 2> /dev/null |
  grep -vE '^[^:]*(_test|_fuzz|_bench)\.cc:|^[^:]*/(test_[^/]*|[^/]*_test_[^/]*)\.hh:' || true)
bad=0
for file in $(echo "$found" | cut -d: -f1 | sort -u); do
  case "
$allowed
" in
    *"
$file
"*) ;;
    *)
      echo "$found" | grep "^$file:" | sed 's/$/   reads the wall clock: take monotonic_now, or say in tests\/layers\/check_clock.sh who is told/'
      bad=1
      ;;
  esac
done
for file in $allowed; do
  [ -n "${CHECK_ONLY_FOUND:-}" ] || echo "$found" | grep -q "^$file:" || {
    echo "$file does not read the wall clock any more: take it from the list in tests/layers/check_clock.sh"
    bad=1
  }
done
exit $bad
