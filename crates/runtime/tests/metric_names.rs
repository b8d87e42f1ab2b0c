//! Dashboards and alerts find these names; a change here breaks them.

use twinlane_runtime::metric_names as names;

#[test]
fn dashboards_find_the_metrics_by_these_names() {
    assert_eq!(names::EVENTS_IN, "twinlane_events_in_total");
    assert_eq!(names::ROUTED, "twinlane_events_routed_total");
    assert_eq!(names::SCORED, "twinlane_events_scored_total");
    assert_eq!(names::SKIPPED, "twinlane_events_skipped_total");
    assert_eq!(names::EXPIRED, "twinlane_events_expired_total");
    assert_eq!(names::DEAD_LETTERS, "twinlane_dead_letters_total");
    assert_eq!(names::REBALANCES, "twinlane_rebalances_total");
    assert_eq!(names::IN_FLIGHT_RECORDS, "twinlane_in_flight_records");
    assert_eq!(names::IN_FLIGHT_BYTES, "twinlane_in_flight_bytes");
    assert_eq!(names::PARTITIONS, "twinlane_assigned_partitions");
    assert_eq!(names::HALTED, "twinlane_halted_partitions");
    assert_eq!(names::HELD, "twinlane_held_partitions");
    assert_eq!(names::HOLDS, "twinlane_partition_holds_total");
    assert_eq!(names::WINDOW_RECORDS, "twinlane_window_records");
}
