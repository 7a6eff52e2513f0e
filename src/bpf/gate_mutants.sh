#!/bin/sh
# The gate with one of its rules broken (PLANTED in gate/judge.h and gate.bpf.c): the function tests must notice every one of them, and
# nothing in the sound program. Usage: gate_mutants.sh BPF_TEST SOUND_OBJECT PLANTED_OBJECT...
set -u
test=$1 sound=$2
shift 2
run() { GECKO_GATE_TEST_OBJECT=$1 GECKO_PACKETS=1200 "$test" --gtest_filter='*GateRules*:*GateRandom*' --gtest_brief=1; }

run "$sound"
case $? in
  0) ;;
  77) exit 77 ;;
  *)
    echo "the sound program fails: nothing is proved"
    exit 1
    ;;
esac
missed=0
for object; do
  found=$(run "$object" 2>&1)
  if [ $? -ne 1 ]; then
    echo "NOT NOTICED: $object"
    missed=$((missed + 1))
  else
    echo "noticed: $(basename "$object") by $(echo "$found" | grep -c '^\[  FAILED  \].*/IPv[46], where') tests"
  fi
done
echo "$# planted bugs, $missed not noticed"
[ $missed = 0 ]
