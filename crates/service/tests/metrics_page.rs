//! The page about metrics, and what names must be like.

use std::collections::HashSet;

#[test]
fn the_page_in_the_repository_is_the_one_that_the_tables_give() {
    let written = include_str!("../../../docs/metrics.md");
    assert!(written == twinlane_service::metrics_page(), "docs/metrics.md is stale: run `cargo xtask docs`");
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
