//! Dashboards and alerts find these names and labels; a change here breaks them.

use twinlane_inference::metric_names::ALL;

#[test]
fn dashboards_find_the_metrics_by_these_names() {
    let found: Vec<_> = ALL.iter().map(|metric| (metric.name, metric.labels)).collect();
    let expected: [(&str, &[&str]); 11] = [
        ("twinlane_batch_size", &["task"]),
        ("twinlane_model_run_seconds", &["task"]),
        ("twinlane_model_runs_total", &["task", "how"]),
        ("twinlane_packed_values_total", &["task"]),
        ("twinlane_padding_values_total", &["task"]),
        ("twinlane_device_in_use", &["task", "device"]),
        ("twinlane_device_fallback", &["task"]),
        ("twinlane_model_reloads_total", &["outcome"]),
        ("twinlane_parity_checked_total", &["task"]),
        ("twinlane_parity_outside_total", &["task"]),
        ("twinlane_parity_difference", &["task"]),
    ];
    assert_eq!(found, expected);
}
