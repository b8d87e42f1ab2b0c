//! Dashboards and alerts find these names and labels; a change here breaks them.

use twinlane_runtime::metric_names::ALL;

#[test]
fn dashboards_find_the_metrics_by_these_names() {
    let found: Vec<_> = ALL.iter().map(|metric| (metric.name, metric.labels)).collect();
    let expected: [(&str, &[&str]); 20] = [
        ("twinlane_events_in_total", &["stage"]),
        ("twinlane_events_routed_total", &["stage"]),
        ("twinlane_events_scored_total", &["stage"]),
        ("twinlane_events_skipped_total", &["stage"]),
        ("twinlane_events_expired_total", &["stage"]),
        ("twinlane_dead_letters_total", &["stage", "reason"]),
        ("twinlane_event_latency_seconds", &["stage"]),
        ("twinlane_step_seconds", &["stage", "step"]),
        ("twinlane_rebalances_total", &["stage", "kind"]),
        ("twinlane_in_flight_records", &["stage"]),
        ("twinlane_in_flight_bytes", &["stage"]),
        ("twinlane_in_flight_limit_records", &["stage"]),
        ("twinlane_in_flight_limit_bytes", &["stage"]),
        ("twinlane_budget_spent", &["stage"]),
        ("twinlane_queue_records", &["task"]),
        ("twinlane_assigned_partitions", &["stage"]),
        ("twinlane_halted_partitions", &["stage"]),
        ("twinlane_held_partitions", &["stage"]),
        ("twinlane_partition_holds_total", &["stage"]),
        ("twinlane_window_records", &["stage"]),
    ];
    assert_eq!(found, expected);
}
