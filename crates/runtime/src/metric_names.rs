//! Names of the metrics that this crate records. Dashboards depend on them.

/// Counter: records that arrived at a stage. Label `stage`.
pub const EVENTS_IN: &str = "twinlane_events_in_total";
/// Counter: records routed to the stage's lane. Label `stage`.
pub const ROUTED: &str = "twinlane_events_routed_total";
/// Counter: records answered by a model. Label `stage`.
pub const SCORED: &str = "twinlane_events_scored_total";
/// Counter: records skipped as a route or source says. Label `stage`.
pub const SKIPPED: &str = "twinlane_events_skipped_total";
/// Counter: records whose deadline had passed. Label `stage`.
pub const EXPIRED: &str = "twinlane_events_expired_total";
/// Counter: dead letters. Labels `stage`, `reason`.
pub const DEAD_LETTERS: &str = "twinlane_dead_letters_total";
/// Counter: rebalances seen. Labels `stage`, `kind` (assigned, revoked, lost).
pub const REBALANCES: &str = "twinlane_rebalances_total";
/// Gauge: records in flight against the budget. Label `stage`.
pub const IN_FLIGHT_RECORDS: &str = "twinlane_in_flight_records";
/// Gauge: bytes in flight against the budget. Label `stage`.
pub const IN_FLIGHT_BYTES: &str = "twinlane_in_flight_bytes";
/// Gauge: partitions assigned. Label `stage`.
pub const PARTITIONS: &str = "twinlane_assigned_partitions";
/// Gauge: partitions that are not read because records were deleted before they were answered. Label `stage`.
pub const HALTED: &str = "twinlane_halted_partitions";
/// Gauge: partitions that are not read for a while because their dead letters are past the limit. Label `stage`.
pub const HELD: &str = "twinlane_held_partitions";
/// Counter: how often a partition was held. Label `stage`.
pub const HOLDS: &str = "twinlane_partition_holds_total";
/// Histogram: records per committed window. Label `stage`.
pub const WINDOW_RECORDS: &str = "twinlane_window_records";
