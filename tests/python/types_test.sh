#!/bin/sh
# Type hints: strict mypy over the package, its examples and tests, and the stub file against the compiled module. Usage: types_test.sh SOURCE_DIR BUILD_DIR PYTHON
set -eu
source=$1
python=$3
export PYTHONPATH="$2/python" MYPYPATH="$2/python:$1/tests/python"
if ! "$python" -c 'import mypy' 2> /dev/null; then
  echo "skipped: no mypy for $python (Debian package mypy)"
  exit 77
fi
cd "$2"
strict() { "$python" -m mypy --strict --cache-dir "$PWD/mypy" "$@"; }
strict -p gecko
for file in "$source"/bindings/python/examples/*.py "$source"/tests/python/*.py; do strict "$file"; done
"$python" -m mypy.stubtest gecko._gecko
# A wrong program is seen: otherwise nothing above means anything.
printf 'import gecko\ngecko.Framework(5).set_policy("random")\n' > wrong.py
! strict wrong.py || { echo "mypy finds nothing wrong with wrong.py"; exit 1; }
