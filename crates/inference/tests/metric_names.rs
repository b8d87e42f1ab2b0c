//! Dashboards and alerts find these names; a change here breaks them.

use twinlane_inference::metric_names::{BATCH_SIZE, DEVICE_IN_USE, RELOADS, RUN_SECONDS};

#[test]
fn dashboards_find_the_metrics_by_these_names() {
    assert_eq!(BATCH_SIZE, "twinlane_batch_size");
    assert_eq!(RUN_SECONDS, "twinlane_model_run_seconds");
    assert_eq!(DEVICE_IN_USE, "twinlane_device_in_use");
    assert_eq!(RELOADS, "twinlane_model_reloads_total");
}
