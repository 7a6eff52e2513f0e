#!/bin/sh
# The include arrows of the layers (docs/adr/0001). Usage: check_layers.sh SOURCE_DIR; prints each forbidden include, ends 1 if any.
# A folder that is not in the table is an error too: whoever adds one says here what it may use.
set -eu
cd "$1"

# folder: what it may include besides itself. "gecko" is include/gecko, the public headers.
allowed() {
  case $1 in
    src/base) echo "gecko" ;;
    src/wire | src/bpf) echo "base" ;;
    src/core | src/net) echo "base wire" ;;
    src/tcp) echo "gecko base wire" ;;
    src/config) echo "base net" ;;  # net: the profile of certificates, which TLS checks too
    src/node) echo "base wire core net tcp bpf config" ;;
    src/api) echo "gecko base wire core config" ;;
    src/lab) echo "base wire net config" ;;
    src/cli) echo "base wire net config bpf lab" ;;
    src/demo) echo "gecko base wire net config lab" ;;
    src/proxy) echo "gecko base" ;;
    include/gecko | examples/*) echo "gecko" ;;
    *) return 1 ;;
  esac
}

bad=0
# The tests of the examples are tests of libgecko and may look inside.
for file in $(find src include examples -type f ! -path 'examples/*_test.cc' \( -name '*.cc' -o -name '*.hh' -o -name '*.c' -o -name '*.h' \) 2> /dev/null | sort); do
  case $file in
    src/* | include/*) folder=$(echo "$file" | cut -d/ -f1-2) ;;
    *) folder=$(dirname "$file")/ ;;
  esac
  if ! may=$(allowed "$folder"); then
    echo "$file: folder $folder is not in the table of tests/layers/check_layers.sh"
    bad=1
    continue
  fi
  own=$(echo "$folder" | cut -d/ -f2)
  # A plain "x.h" is the file's neighbour; <net/if.h> is the system's, unless there is such a file here.
  for path in $(sed -nE 's|^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]([a-z_]+/[^">]*).*|\1|p' "$file" | sort -u); do
    [ -f "src/$path" ] || [ -f "include/$path" ] || continue
    target=${path%%/*}
    case " $own $may " in
      *" $target "*) ;;
      *)
        echo "$file includes $path: $folder may use only: $may"
        bad=1
        ;;
    esac
  done
done
exit $bad
