//! Dashboards and alerts find these names and labels; a change here breaks them.

#[test]
fn dashboards_find_the_metrics_by_these_names() {
    let of_process = twinlane_service::metrics()
        .filter(|metric| !metric.labels.iter().any(|label| ["stage", "task", "outcome"].contains(label)));
    let found: Vec<_> = of_process.map(|metric| (metric.name, metric.labels)).collect();
    let expected: [(&str, &[&str]); 3] = [
        ("twinlane_build_info", &["version", "service", "pipeline"]),
        ("process_start_time_seconds", &[]),
        ("process_resident_memory_bytes", &[]),
    ];
    assert_eq!(found, expected);
}
