//! The metrics that this crate records. Dashboards and alerts depend on the names.

use metrics::counter;
use twinlane_metric::{buckets, table};

table! {
    /// From the first produce of a transaction to the end of its commit; its count is the number of commits.
    TRANSACTION_SECONDS = "twinlane_transaction_seconds", Histogram(buckets::SECONDS), seconds ["stage"];
    /// Transactions that were aborted and produced again, by what was being done when it turned out that they must be.
    ABORTS = "twinlane_transaction_aborts_total", Counter, transactions ["stage", "cause"];
    /// Producers built anew after a fatal error.
    PRODUCER_REBUILDS = "twinlane_producer_rebuilds_total", Counter, producers ["stage"];
    /// Partitions whose committed offset was found outside of their log: `stopped` (the partition is not read any more)
    /// or `skipped` (it is read from the earliest record, as its source says); and partitions whose group had
    /// forgotten what was committed: `went_back`.
    OFFSETS_OUT_OF_LOG = "twinlane_offsets_out_of_log_total", Counter, partitions ["stage", "action"];
    /// Offsets between the group's committed one and the end of the log, for each partition that this process has; 0
    /// for one that it had. Asked every 5 s.
    LAG = "twinlane_lag_records", Gauge, events ["stage", "topic", "partition"];
}

/// What a transaction may be aborted for: a step that failed, or what was found before it.
pub(crate) const CAUSES: [&str; 7] =
    ["begin", "produce", "delivery", "offsets", "commit", "partitions_lost", "no_membership"];

/// Begins a stage's counters at 0: one that appears with its first increase hides that from `increase()`.
pub(crate) fn begin(stage: &str) {
    for cause in CAUSES {
        counter!(ABORTS, "stage" => stage.to_owned(), "cause" => cause).increment(0);
    }
    for action in ["stopped", "skipped", "went_back"] {
        counter!(OFFSETS_OUT_OF_LOG, "stage" => stage.to_owned(), "action" => action).increment(0);
    }
    counter!(PRODUCER_REBUILDS, "stage" => stage.to_owned()).increment(0);
}
