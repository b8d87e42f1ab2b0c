#!/usr/bin/env bash
# Writes a CycloneDX bill of materials for each program into a folder: every crate that Cargo.lock pins for it, with version,
# licence and digest. OpenSSL and librdkafka are among them by the crates that hold their sources.
#
#   cargo install --locked cargo-cyclonedx@0.5.9
#   .github/sbom.sh FOLDER
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
folder="$(cd "$1" && pwd)"
cd "$(dirname "$0")/.."
# It writes one beside every member of the workspace, whichever it is given.
written=".twinlane-sbom"
trap 'find . -name "$written.json" -not -path "./target/*" -delete' EXIT
cargo cyclonedx --quiet --format json --spec-version 1.5 --target all --override-filename "$written"
for program in services/router services/precision-worker services/throughput-worker cli; do
  name="$(basename "$program")"
  mv "$program/$written.json" "$folder/${name/#cli/twinlane}.cdx.json"
done
