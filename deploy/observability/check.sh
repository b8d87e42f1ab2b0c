#!/usr/bin/env bash
# Checks what needs no service: Prometheus' settings and rules, each alert by its unit test and its runbook, and that the
# dashboards are what dashboards.py makes. Ends with 3 where promtool cannot be had.
set -euo pipefail
cd "$(dirname "$0")"

promtool="$(./tools.sh)/promtool"
"$promtool" check config prometheus/prometheus.yml
"$promtool" test rules prometheus/tests/*.yml

for alert in $(sed -n 's/^ *- alert: //p' prometheus/rules/*.yml); do
  grep -q "^## $alert\$" ../../docs/runbooks.md || { echo "docs/runbooks.md has no section $alert" >&2; exit 1; }
  grep -q "runbook_url: docs/runbooks.md#${alert,,}\$" prometheus/rules/*.yml \
    || { echo "$alert does not lead to its runbook" >&2; exit 1; }
  for as_tested in "alertname: $alert, exp_alerts: \[\]" "alertname: $alert\$"; do
    grep -q "$as_tested" prometheus/tests/*.yml || { echo "no unit test says '$as_tested'" >&2; exit 1; }
  done
done

python3 grafana/dashboards.py --check
