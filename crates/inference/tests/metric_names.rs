//! Dashboards and alerts find these names; a change here breaks them.

use twinlane_inference::metric_names::{
    BATCH_SIZE, DEVICE_IN_USE, PARITY_CHECKED, PARITY_DIFFERENCE, PARITY_OUTSIDE, RELOADS, RUN_SECONDS,
};

#[test]
fn dashboards_find_the_metrics_by_these_names() {
    assert_eq!(BATCH_SIZE, "twinlane_batch_size");
    assert_eq!(RUN_SECONDS, "twinlane_model_run_seconds");
    assert_eq!(DEVICE_IN_USE, "twinlane_device_in_use");
    assert_eq!(RELOADS, "twinlane_model_reloads_total");
    assert_eq!(PARITY_CHECKED, "twinlane_parity_checked_total");
    assert_eq!(PARITY_OUTSIDE, "twinlane_parity_outside_total");
    assert_eq!(PARITY_DIFFERENCE, "twinlane_parity_difference");
}
