//! Dashboards and alerts find these names; a change here breaks them.

use twinlane_kafka::metric_names::{ABORTS, OFFSETS_OUT_OF_LOG, PRODUCER_REBUILDS, TRANSACTION_SECONDS};

#[test]
fn dashboards_find_the_metrics_by_these_names() {
    assert_eq!(TRANSACTION_SECONDS, "twinlane_transaction_seconds");
    assert_eq!(ABORTS, "twinlane_transaction_aborts_total");
    assert_eq!(PRODUCER_REBUILDS, "twinlane_producer_rebuilds_total");
    assert_eq!(OFFSETS_OUT_OF_LOG, "twinlane_offsets_out_of_log_total");
}
