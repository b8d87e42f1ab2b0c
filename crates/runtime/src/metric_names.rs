//! The metrics that this crate records. Dashboards and alerts depend on the names.

use twinlane_metric::{buckets, table};

table! {
    /// Records that arrived at a stage, those that are read again after an abort or a rebalance included.
    EVENTS_IN = "twinlane_events_in_total", Counter, events ["stage"];
    /// Records that the router sent on to its stage's lane.
    ROUTED = "twinlane_events_routed_total", Counter, events ["stage"];
    /// Records answered by a model.
    SCORED = "twinlane_events_scored_total", Counter, events ["stage"];
    /// Records skipped as a route or source says.
    SKIPPED = "twinlane_events_skipped_total", Counter, events ["stage"];
    /// Records whose deadline had passed.
    EXPIRED = "twinlane_events_expired_total", Counter, events ["stage"];
    /// Records that became dead letters, by reason.
    DEAD_LETTERS = "twinlane_dead_letters_total", Counter, events ["stage", "reason"];
    /// From an event's own time on its source topic to the commit of what this stage made of it, each event. For a
    /// worker that is the latency from end to end; producers' clocks are part of it.
    LATENCY = "twinlane_event_latency_seconds", Histogram(buckets::LATENCY), seconds ["stage"];
    /// Where time goes inside of a stage. `read`: age of the oldest record that a poll brought. `prepare`: decoding, routing
    /// or encoding what a poll brought. `queue`: how long the first record of a batch waited for a model thread.
    /// `window`: from the first record settled to the transaction that takes it along. A model's run and the
    /// transaction have histograms of their own.
    STEP_SECONDS = "twinlane_step_seconds", Histogram(buckets::SECONDS), seconds ["stage", "step"];
    /// Rebalances seen: `assigned`, `revoked` or `lost`.
    REBALANCES = "twinlane_rebalances_total", Counter, rebalances ["stage", "kind"];
    /// Records in flight: arrived and not committed.
    IN_FLIGHT_RECORDS = "twinlane_in_flight_records", Gauge, events ["stage"];
    /// Bytes in flight, as the budget counts them.
    IN_FLIGHT_BYTES = "twinlane_in_flight_bytes", Gauge, bytes ["stage"];
    /// The budget: so many records may be in flight.
    LIMIT_RECORDS = "twinlane_in_flight_limit_records", Gauge, events ["stage"];
    /// The budget: so many bytes may be in flight.
    LIMIT_BYTES = "twinlane_in_flight_limit_bytes", Gauge, bytes ["stage"];
    /// 1 while the budget is spent and nothing is taken from Kafka.
    BUDGET_SPENT = "twinlane_budget_spent", Gauge, flag ["stage"];
    /// Records that wait for a model thread.
    QUEUE_RECORDS = "twinlane_queue_records", Gauge, events ["task"];
    /// Partitions assigned.
    PARTITIONS = "twinlane_assigned_partitions", Gauge, partitions ["stage"];
    /// Partitions that are not read because records were deleted before they were answered.
    HALTED = "twinlane_halted_partitions", Gauge, partitions ["stage"];
    /// Partitions that are not read for a while because their dead letters are past the limit.
    HELD = "twinlane_held_partitions", Gauge, partitions ["stage"];
    /// How often a partition was held.
    HOLDS = "twinlane_partition_holds_total", Counter, holds ["stage"];
    /// Records of a window when its transaction begins.
    WINDOW_RECORDS = "twinlane_window_records", Histogram(buckets::RECORDS), events ["stage"];
}
