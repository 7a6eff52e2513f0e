#!/usr/bin/env bash
# ./dev lint [--all]: what a machine can say about style. Files: those that differ from main, or with --all every one.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 1
bad=0
step() { printf '%s\n' "lint: $*" >&2; }

if [ "${1:-}" = --all ]; then
  mapfile -t files < <(git ls-files)
else
  base=$(git merge-base main HEAD 2>/dev/null || git rev-parse HEAD)
  mapfile -t files < <({ git diff --name-only --diff-filter=d "$base"; git ls-files -o --exclude-standard; } | sort -u)
fi
of() { printf '%s\n' "${files[@]}" | grep -E "$1" | while read -r f; do [ -f "$f" ] && printf '%s\n' "$f"; done; }
mapfile -t sources < <(of '\.(cc|hh)$')
mapfile -t units < <(of '^(src|bindings|examples|bench|tests)/.*\.cc$' | grep -v '_fuzz\.cc$')
mapfile -t scripts < <({ of '(^dev$|^\.ci/run$|\.sh$)'; })

step "layers"
sh tests/layers/check_layers.sh "$PWD" || bad=1

step "manual pages: every page of ours that one refers to exists"
dangling=$(grep -noE '\*?(lib)?gecko[a-z.-]*\*?\([1-9]\)' docs/man/*.scd | while IFS=: read -r page line name; do
  name=${name//\*/}
  file=docs/man/${name%(*}.${name//[!0-9]/}.scd
  [ -f "$file" ] || printf '%s\n' "$page:$line: refers to $name, but there is no $file"
done)
[ -z "$dangling" ] || { printf '%s\n' "$dangling"; bad=1; }

if [ ${#scripts[@]} -gt 0 ]; then
  step "shellcheck: ${#scripts[@]} scripts"
  shellcheck -S warning "${scripts[@]}" || bad=1
fi

if [ ${#sources[@]} -gt 0 ]; then
  step "text: ${#sources[@]} sources (tabs, trailing blanks, lines over 160 columns)"
  grep -nP '\t|[ \r]+$|^.{161,}' "${sources[@]}" && bad=1
fi

if [ ${#units[@]} -gt 0 ] && [ ! -f build/dev/compile_commands.json ]; then
  step "clang-tidy: skipped, build/dev is not configured (./dev build)"
elif [ ${#units[@]} -gt 0 ]; then
  step "clang-tidy: ${#units[@]} files"
  # Without the precompiled headers, which are the other compiler's.
  mkdir -p build/lint
  sed -E 's| -include [^ ]*cmake_pch\.hxx||g; s| -Winvalid-pch||g' build/dev/compile_commands.json > build/lint/compile_commands.json
  # libbpf's LIBBPF_OPTS is C that g++ takes in its stride.
  printf '%s\0' "${units[@]}" | nice xargs -0 -n 1 -P 2 clang-tidy-14 -p build/lint --quiet --warnings-as-errors='*' \
    --extra-arg=-Wno-c99-extensions --extra-arg=-Wno-gnu-statement-expression 2>/dev/null || bad=1
fi

[ $bad = 0 ] && step "clean"
exit $bad
