//! Dashboards and alerts find these names and labels; a change here breaks them.

use std::collections::HashSet;

#[test]
fn dashboards_find_the_metrics_by_these_names() {
    let of_process = twinlane_service::metrics()
        .filter(|metric| !metric.labels.iter().any(|label| ["stage", "task", "outcome"].contains(label)));
    let found: Vec<_> = of_process.map(|metric| (metric.name, metric.labels)).collect();
    let expected: [(&str, &[&str]); 6] = [
        ("twinlane_build_info", &["version", "service", "pipeline"]),
        ("process_start_time_seconds", &[]),
        ("process_resident_memory_bytes", &[]),
        ("twinlane_schema_registry_up", &[]),
        ("twinlane_schema_registry_lookups_total", &["result"]),
        ("twinlane_schema_registry_lookup_seconds", &[]),
    ];
    assert_eq!(found, expected);
}

#[test]
fn names_follow_prometheus_conventions_and_none_stands_twice() {
    let mut seen = HashSet::new();
    for metric in twinlane_service::metrics() {
        let name = metric.name;
        assert!(seen.insert(name), "{name} stands twice");
        assert!(name.starts_with("twinlane_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind.as_str() == "counter", "{name}");
        for unit in ["seconds", "bytes"] {
            assert_eq!(
                metric.unit == unit,
                name.ends_with(&format!("_{unit}")),
                "{name} is in {}",
                metric.unit
            );
        }
        assert!(metric.help.ends_with('.') && !metric.help.contains('|'), "{name}: {}", metric.help);
    }
}
