//! `docs/metrics.md`, written from the tables that metrics are registered from.

use std::fmt::Write as _;

use twinlane_metric::{Kind, Metric};

use crate::metric_names;

/// Every metric of every service, with what it is about.
static TABLES: [(&str, &[Metric]); 4] = [
    ("Stages", twinlane_runtime::metric_names::ALL),
    ("Models", twinlane_inference::metric_names::ALL),
    ("Kafka", twinlane_kafka::metric_names::ALL),
    ("Process", metric_names::ALL),
];

const HEAD: &str = "# Metrics

Written by `cargo xtask docs` from the `metric_names.rs` of the crates that record them; a test fails when this page differs.

Each service serves them at `/metrics` of its admin port (9464). `stage` is `precision` or `throughput` for a worker, and
`router.precision` or `router.throughput` for the router, which has a stage for each lane. `task` is a task of the pipeline
file. What a scrape adds (`job`, `instance`) is not listed.

- **Latency** counts from the timestamp of an event on its source topic, which its producer's clock sets unless the topic
  says `LogAppendTime`. Skipped events have none. An event that is sent again from the dead letters brings its own time along.
- **Lag** is the log's end under `read_committed` less the group's committed offset. It is told for partitions that somebody
  has: with no worker there is no lag either, but the alert `TwinlaneDown`. A topic that transactions write, such as a lane's,
  ends in the marker of the last one, so the lag of a partition with nothing to do is 1 there. While a
  transaction is open the log ends where it begins. While a leader does not answer, the last known lag stands. A
  partition that goes to another replica may be counted by both for 5 s.
- **Counters** of a known set of labels begin at 0, so that `increase()` sees the first event.
- **Restarts** show as another `process_start_time_seconds`.
- What the GPU itself does (load, memory, temperature) is not told here; NVIDIA's DCGM exporter does.
";

/// All of them.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    TABLES.iter().flat_map(|(_, metrics)| *metrics)
}

/// The page.
pub(crate) fn metrics_page() -> String {
    let mut page = HEAD.to_owned();
    for (about, metrics) in TABLES {
        let _ =
            write!(page, "\n## {about}\n\n| Name | Type | Labels | Unit | Tells |\n|---|---|---|---|---|\n");
        for metric in metrics {
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind, unit) = (metric.name, metric.kind.as_str(), metric.unit);
            let _ = writeln!(
                page,
                "| `{name}` | {kind} | {} | {unit} | {} |",
                labels.join(", "),
                metric.help.trim()
            );
        }
    }
    page + "\n## Buckets\n\nUpper bounds; what is larger falls into `+Inf`.\n\n" + &buckets()
}

fn buckets() -> String {
    let mut text = String::new();
    for metric in metrics() {
        if let Kind::Histogram(bounds) = metric.kind {
            let bounds: Vec<_> = bounds.iter().map(f64::to_string).collect();
            let _ = writeln!(text, "- `{}`: {}", metric.name, bounds.join(", "));
        }
    }
    text
}
