#!/usr/bin/env bash
# Lints the chart and renders it with every file in twinlane/ci; holds what comes out against the schemas of the oldest and
# the newest Kubernetes that it is for, KEDA's and the Prometheus operator's; and sees that wrong values are refused.
#
# Helm and kubeconform are built, and the schemas taken, from Go modules, once; after that no network is needed.
# Exit codes: 0 all is well, 1 something is not, 3 nothing was checked, because something is yet to be built and cannot be.
set -euo pipefail
cd "$(dirname "$0")"

helm_version=4.3.1
kubeconform_version=0.8.0
oldest=1.32.13 # as kubeVersion in Chart.yaml
newest=1.37.2
keda_version=2.21.0
operator_version=0.85.0 # of the Prometheus operator

cache="${XTASK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/twinlane}/tools"
helm="$cache/helm-$helm_version/helm"
kubeconform="$cache/kubeconform-$kubeconform_version/kubeconform"
schemas="$cache/kubernetes-schemas-$oldest-$newest-$keda_version-$operator_version-$(cat schemas/* | sha256sum | head -c 8)"

problems=0
problem() { printf '✗ %s\n' "$*" >&2; problems=$((problems + 1)); }

needs_go() {
  if ! command -v go > /dev/null; then
    printf 'NOTHING WAS CHECKED: %s is not built yet, and building it needs the Go tool (1.26 or newer): https://go.dev/dl\n' "$1" >&2
    exit 3
  fi
}

cannot() {
  printf 'NOTHING WAS CHECKED: %s; what Go says stands above\n' "$1" >&2
  exit 3
}

tool() { # name, module, version, where
  if [ ! -x "$4" ]; then
    needs_go "$1"
    echo "building $1 $3 (minutes, once)"
    mkdir -p "$(dirname "$4")"
    GOBIN="$(dirname "$4")" GOFLAGS= go install -trimpath -ldflags='-s -w' "$2@v$3" || cannot "$1 cannot be built"
  fi
}

module() { # module@version: the folder that holds it
  (cd / && go mod download -json "$1") | sed -n 's/^\t"Dir": "\(.*\)",\?$/\1/p'
}

tool helm helm.sh/helm/v4/cmd/helm "$helm_version" "$helm"
tool kubeconform github.com/yannh/kubeconform/cmd/kubeconform "$kubeconform_version" "$kubeconform"
if [ ! -d "$schemas" ]; then
  needs_go "the folder of schemas"
  echo "taking schemas from Go modules (a minute, once)"
  keda="$(module "github.com/kedacore/keda/v2@v$keda_version")/config/crd/bases"
  operator="$(module "github.com/prometheus-operator/prometheus-operator@v$operator_version")/example/prometheus-operator-crd"
  rm -rf "$schemas.new"
  for version in "$oldest" "$newest"; do
    mkdir -p "$schemas.new/$version"
    kubernetes="$(module "k8s.io/kubernetes@v$version")"
    go run -C schemas . "$schemas.new/$version" \
      "$kubernetes/api/openapi-spec/swagger.json" \
      "$keda/keda.sh_scaledobjects.yaml" "$keda/keda.sh_triggerauthentications.yaml" \
      "$operator/monitoring.coreos.com_servicemonitors.yaml"
  done
  mv "$schemas.new" "$schemas"
fi

out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
# Nothing of the user's own Helm.
export HELM_CACHE_HOME="$out/cache" HELM_CONFIG_HOME="$out/config" HELM_DATA_HOME="$out/data"

valid() { # Kubernetes' version, file; what kubeconform says is left in $out/said
  "$kubeconform" -strict -summary -schema-location "$schemas/$1/{{ .Group }}_{{ .ResourceKind }}_{{ .ResourceAPIVersion }}.json" \
    "$2" > "$out/said" 2>&1 && ! grep -q 'Summary: 0 resources\? found' "$out/said"
}

render() { "$helm" template commerce ./twinlane --namespace streams --kube-version "$oldest" "$@"; }

tried=0
for values in twinlane/ci/*.yaml; do
  name="$(basename "$values" .yaml)"
  "$helm" lint --strict --quiet ./twinlane --values "$values" --kube-version "$oldest" || problem "$name: lint"
  render --values "$values" > "$out/$name.yaml" || { problem "$name: does not render"; continue; }
  for version in "$oldest" "$newest"; do
    valid "$version" "$out/$name.yaml" || { problem "$name, Kubernetes $version:"; cat "$out/said" >&2; }
  done
  printf '%-12s %s\n' "$name" "$(tail -1 "$out/said")"
  tried=$((tried + 1))
done
[ "$tried" -gt 0 ] || problem "no values in twinlane/ci"

# A schema that takes everything would find nothing.
for field in podManagementPolicy unhealthyPodEvictionPolicy clusterIP minReplicaCount podTargetLabels; do
  sed "s/$field:/${field}s:/" "$out/autoscaled.yaml" > "$out/spoiled.yaml"
  if valid "$newest" "$out/spoiled.yaml"; then problem "a wrong field was not found: ${field}s"; fi
done

refused() { # part of the message, values
  local message="$1"
  shift
  if render "$@" > /dev/null 2> "$out/said"; then
    problem "taken, and should be refused: $*"
  elif ! grep -qF -- "$message" "$out/said"; then
    problem "refused for another reason than '$message': $*"
    cat "$out/said" >&2
  fi
}
auto=(--values twinlane/ci/autoscaled.yaml)
refused "'replcias' not allowed" --set router.replcias=2
refused "minimum: got 10, want 16" --set pod.terminationGracePeriodSeconds=10
refused "got number, want string" --set kafka.consumer.fetch\\.wait\\.max\\.ms=100
refused "its topics have 3 partitions" "${auto[@]}" --set precision.autoscaling.maxReplicas=4
refused "must be at least 3" "${auto[@]}" --set precision.autoscaling.lagThreshold=2
refused "minItems" --set precision.autoscaling.enabled=true
refused "existingSecret holds all properties" --set kafka.existingSecret=a --set kafka.common.debug=all
refused "name a Secret" --set registry.url=http://r --set registry.user=u
refused "does not match pattern" --set registry.url=http://u:p@r
refused "has no lane \`throughput\`" --values twinlane/ci/one-lane.yaml --set throughput.enabled=true
refused "pipeline.inline is not YAML" --set pipeline.inline='a: [b'
refused "there is none" --set pipeline.files.a=b
refused "nothing is enabled" --set router.enabled=false --set precision.enabled=false --set throughput.enabled=false
# The router has no group of a lane whose workers read mixed sources themselves; scaled on one, it would never be small.
inline='pipeline: commerce\nlanes: { precision: { direct: true }, throughput: {} }'
printf 'pipeline: { inline: "%s" }\n' "$inline" > "$out/direct.yaml"
groups="$(render "${auto[@]}" --values "$out/direct.yaml" | grep -o 'commerce\.router\.[a-z]*' | sort -u)"
[ "$groups" = commerce.router.throughput ] || problem "the router of a lane that is direct is scaled on: $groups"
if "$helm" template a-name-that-is-much-too-long-for-its-ordinals ./twinlane > /dev/null 2>&1; then
  problem "a release whose replicas would lose their ordinals was taken"
fi

[ "$problems" -eq 0 ] || { printf '%s problems\n' "$problems" >&2; exit 1; }
echo "the chart: $tried value files rendered and valid, wrong values refused"
