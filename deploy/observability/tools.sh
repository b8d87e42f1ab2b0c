#!/usr/bin/env bash
# Prints the folder that has `prometheus` and `promtool`: where they are installed, or else in the user's cache, where
# Debian's or Ubuntu's package is unpacked, once and without installing it. Ends with 3 where neither can be had.
set -euo pipefail

if installed="$(command -v prometheus)" && command -v promtool > /dev/null; then
  dirname "$installed"
  exit
fi
cache="${XTASK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/twinlane}/tools"
folder="$cache/prometheus"
if [ -x "$folder/prometheus" ] && [ -x "$folder/promtool" ]; then
  echo "$folder"
  exit
fi

mkdir -p "$cache"
work="$(mktemp -d "$cache/fetching.XXXXXX")"
trap 'rm -rf "$work"' EXIT
download() { (cd "$work" && apt-get download prometheus); }
fetch() {
  # A fresh machine has no package lists, and only root may fetch them.
  download || { [ "$(id -u)" = 0 ] && apt-get update && download; } || return
  dpkg -x "$work"/prometheus_*.deb "$work/package"
}
if ! fetch >&2; then
  echo "PROMETHEUS AND PROMTOOL CANNOT BE HAD: neither is on the PATH, and apt-get cannot fetch them." >&2
  echo "Nothing was checked. Install both (apt-get install prometheus; brew install prometheus) and start again." >&2
  exit 3
fi
# Somebody else may have been faster; theirs are as good.
mv -T "$work/package/usr/bin" "$folder" 2> /dev/null || [ -x "$folder/promtool" ]
echo "$folder"
