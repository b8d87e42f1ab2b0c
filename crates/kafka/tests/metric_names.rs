//! Dashboards and alerts find these names and labels; a change here breaks them.

use twinlane_kafka::metric_names::ALL;

#[test]
fn dashboards_find_the_metrics_by_these_names() {
    let found: Vec<_> = ALL.iter().map(|metric| (metric.name, metric.labels)).collect();
    let expected: [(&str, &[&str]); 5] = [
        ("twinlane_transaction_seconds", &["stage"]),
        ("twinlane_transaction_aborts_total", &["stage", "cause"]),
        ("twinlane_producer_rebuilds_total", &["stage"]),
        ("twinlane_offsets_out_of_log_total", &["stage", "action"]),
        ("twinlane_lag_records", &["stage", "topic", "partition"]),
    ];
    assert_eq!(found, expected);
}
