#!/bin/sh
# The packages as an administrator gets them. Nothing is installed on this machine: dpkg works on a directory.
# Usage: package_test.sh SOURCE_DIR BUILD_DIR C_COMPILER PYTHON [JAVA]
set -eu
source=$1
build=$2
cc=$3
python=$4
java=${5:-}
packages="gecko libgecko0 libgecko-dev libgecko-tcp1 libgecko-tcp-dev python3-gecko${java:+ libgecko-java}"
if [ "$(id -u)" != 0 ]; then
  echo "skipped: dpkg needs root, even for a directory"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
fail() {
  echo "package_test: $*"
  exit 1
}

(cd "$build" && cpack -G DEB -B "$work/debs") > "$work/cpack" 2>&1 || { cat "$work/cpack"; fail "cpack failed"; }
version=$("$build/bin/gecko" --version | sed 's/^gecko //; s/ .*//')
arch=$(dpkg --print-architecture)
for name in $packages; do
  deb=$work/debs/${name}_${version}_$arch.deb
  [ -f "$deb" ] || fail "there is no $name package: $(ls "$work/debs")"
  # Nothing outside /usr, everything root's, nothing that others may write.
  dpkg-deb --fsys-tarfile "$deb" | tar -tv > "$work/list"
  awk '$2 != "root/root" || ($6 != "./" && $6 !~ /^\.\/usr\//) || ($1 !~ /^l/ && $1 ~ /^.....w|^........w/) { print; bad = 1 } END { exit bad }' "$work/list" ||
    fail "$name holds these (above)"
  # Whatever it depends on is ours or Debian's.
  dpkg-deb -f "$deb" Depends | tr ',' '\n' | sed 's/|.*//; s/(.*//; s/ //g' | while read -r needed; do
    [ -z "$needed" ] || [ -n "$(find "$work/debs" -name "${needed}_*")" ] || dpkg-query -W "$needed" > /dev/null || fail "$name depends on $needed, whatever that is"
  done
  if command -v lintian > /dev/null; then # advice, not law: these packages are not Debian's
    lintian --allow-root --tag-display-limit 0 "$deb" 2>&1 | sed 's/^/lintian: /' || true
  fi
done
dpkg-deb -f "$work/debs/gecko_${version}_$arch.deb" Depends | grep -q "libgecko0 (= $version)" || fail "gecko does not depend on its library"
dpkg-deb -f "$work/debs/libgecko0_${version}_$arch.deb" Depends | grep -q libc6 || fail "libgecko0 does not depend on the C library"

# Installed, and once more as an upgrade.
mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates" "$root/etc" "$root/run/gecko"
touch "$root/var/lib/dpkg/status"
grep -E '^(root|nobody):' /etc/passwd > "$root/etc/passwd"
grep -E '^(root|nogroup):' /etc/group > "$root/etc/group"
find "$root" | LC_ALL=C sort > "$work/before"
in_root() { dpkg --root="$root" --log=/dev/null --force-depends --force-script-chrootless "$@" > "$work/dpkg" 2>&1 || { cat "$work/dpkg"; fail "dpkg $1 failed"; }; }
for _ in first upgrade; do in_root --install "$work"/debs/*.deb; done
for user in gecko geckoproxy; do grep -q "^$user:.*/nonexistent:/usr/sbin/nologin$" "$root/etc/passwd" || fail "there is no user $user: $(cat "$root/etc/passwd")"; done
[ "$(stat -c %a "$root/etc/gecko/keys")" = 700 ] || fail "others can look into /etc/gecko/keys"

# Programs start from it.
libraries=$(dirname "$(find "$root/usr/lib" -name 'libgecko.so.0')")
case "$libraries" in */usr/lib/*-linux-gnu*) ;; *) fail "libgecko.so.0 is in $libraries" ;; esac
export LD_LIBRARY_PATH="$libraries"
for program in bin/gecko bin/geckoproxy bin/gecko-echo bin/gecko-stream sbin/geckod; do
  "$root/usr/$program" --version | grep -q "$version" || fail "$program does not say its version"
done
cat > "$work/web.toml" << 'END'
[group]
name = "web"
address = "2001:db8:f::80"
ports = [8080]
[[node]]
name = "n1"
address = "2001:db8:a::1"
END
"$root/usr/sbin/geckod" --node n1 --check-config "$work/web.toml" || fail "geckod --check-config"
echo 'nonsense' >> "$work/web.toml"
if "$root/usr/sbin/geckod" --node n1 --check-config "$work/web.toml" 2> "$work/said"; then fail "geckod --check-config takes nonsense"; fi

# Python, Java, and C as a stranger compiles it.
PYTHONPATH="$root/usr/lib/python3/dist-packages" "$python" -B -I -c "
import sys
sys.path.insert(0, '$root/usr/lib/python3/dist-packages')
import gecko, gecko.aio
assert gecko.__version__ == '$version' and gecko.__file__.startswith('$root'), gecko.__file__
try:
    gecko.Framework('web', daemon='$work/none')
except gecko.Unavailable as error:
    assert 'geckod is not running' in str(error)
"
[ -f "$root/usr/lib/python3/dist-packages/gecko/py.typed" ] || fail "no py.typed"
if [ -n "$java" ]; then
  code=0
  GECKO_SOCKET="$work/none" "$java" -Djava.library.path="$libraries/jni" -cp "$root/usr/share/java/gecko.jar" \
    "$root/usr/share/doc/libgecko-java/examples/Counter.java" web > "$work/said" 2>&1 || code=$?
  { [ "$code" = 1 ] && grep -q 'UnavailableException: geckod is not running' "$work/said"; } || { cat "$work/said"; fail "Counter.java from the package ends with $code"; }
fi
for module in gecko:hello gecko-tcp:tcp_pass; do
  # shellcheck disable=SC2046  # words
  "$cc" -std=c11 -Wall -Wextra -Wpedantic -Werror "$source/examples/${module#*:}.c" \
    $(PKG_CONFIG_LIBDIR="$libraries/pkgconfig" pkg-config --cflags --libs "${module%:*}") -o "$work/${module#*:}"
done
code=0
"$work/hello" 2> /dev/null || code=$?
[ "$code" = 64 ] || fail "hello from the packages ends with $code"

# Manual pages, units.
for page in man1/gecko.1 man1/gecko-lab.1 man1/geckoproxy.1 man3/libgecko.3 man5/gecko-group.toml.5 man8/geckod.8; do
  zcat "$root/usr/share/man/$page.gz" | grep -q '^\.TH' || fail "$page is no manual page"
done
if command -v systemd-analyze > /dev/null && [ -f /lib/systemd/system/sysinit.target ]; then
  cp -a "$root" "$work/machine"
  cp -a -n /lib/systemd/system/. "$work/machine/usr/lib/systemd/system"
  mkdir "$work/machine/bin"
  install -m 755 /dev/null "$work/machine/bin/sh"
  install -m 755 /dev/null "$work/machine/bin/kill"
  for unit in geckod.service geckod-witness.service geckoproxy@web.service; do
    systemd-analyze verify --man=no --root="$work/machine" "$unit" > "$work/verify" 2>&1 || { cat "$work/verify"; fail "$unit"; }
    ! grep gecko "$work/verify" || fail "$unit (above)"
  done
else
  echo "not verified: the units (no systemd here)"
fi

# Gone without a trace. The files that sysusers locked, and dpkg's own, are not ours.
touch "$root/run/gecko/geckod.sock" "$root/etc/gecko/web.toml"
# shellcheck disable=SC2086  # words
in_root --purge $packages
! grep -E '^gecko' "$root/etc/passwd" "$root/etc/group" || fail "users are left (above)"
find "$root" | LC_ALL=C sort > "$work/after"
LC_ALL=C comm -13 "$work/before" "$work/after" | grep -vE "^$root/(var/lib/dpkg/|var/log|etc/(\.pwd\.lock|passwd-|group-|shadow|gshadow|subuid|subgid))" > "$work/left" || true
[ ! -s "$work/left" ] || { cat "$work/left"; fail "purge leaves these (above)"; }
echo "$(echo "$packages" | wc -w) packages of version $version: installed, used, purged"
