//! Names of the metrics that this crate records. Dashboards depend on them.

/// Histogram: seconds from the first produce of a transaction to the end of its commit. Label `stage`.
pub const TRANSACTION_SECONDS: &str = "twinlane_transaction_seconds";
/// Counter: transactions that were aborted and produced again, by `stage` and `cause`.
pub const ABORTS: &str = "twinlane_transaction_aborts_total";
/// Counter: producers built anew after a fatal error, by `stage`.
pub const PRODUCER_REBUILDS: &str = "twinlane_producer_rebuilds_total";
/// Counter: partitions whose committed offset was found outside of their log. Labels `stage` and `action`:
/// `stopped` (the partition is not read any more) or `skipped` (it is read from the earliest record, as its
/// source says); and partitions whose group had forgotten what was committed: `went_back`.
pub const OFFSETS_OUT_OF_LOG: &str = "twinlane_offsets_out_of_log_total";
