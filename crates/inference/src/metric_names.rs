//! The metrics that this crate records, and the handles that are looked up once per model. Dashboards and alerts depend on
//! the names.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use twinlane_metric::{buckets, table};

table! {
    /// Events per batch that a model answers.
    BATCH_SIZE = "twinlane_batch_size", Histogram(buckets::RECORDS), events ["task"];
    /// How long a model takes for a batch, packing and reading included.
    RUN_SECONDS = "twinlane_model_run_seconds", Histogram(buckets::SECONDS), seconds ["task"];
    /// Runs of models: a batch of mixed lengths is divided among several. `captured` were launched as a CUDA graph.
    RUNS = "twinlane_model_runs_total", Counter, runs ["task", "how"];
    /// Numbers handed to a model, padding included.
    PACKED_VALUES = "twinlane_packed_values_total", Counter, numbers ["task"];
    /// Those of them that are padding: up to the longest of a run, or to the shape of a captured one.
    PADDING_VALUES = "twinlane_padding_values_total", Counter, numbers ["task"];
    /// 1 for the device that really runs a task's model, 0 for others of its list.
    DEVICE_IN_USE = "twinlane_device_in_use", Gauge, flag ["task", "device"];
    /// 1 where the first device of the lane's list does not run the model, and another one does.
    DEVICE_FALLBACK = "twinlane_device_fallback", Gauge, flag ["task"];
    /// Attempts to put other models in the place of those that run: `taken` or `refused`.
    RELOADS = "twinlane_model_reloads_total", Counter, reloads ["outcome"];
    /// Answers of a device that were compared with the CPU's while events flowed.
    PARITY_CHECKED = "twinlane_parity_checked_total", Counter, answers ["task"];
    /// Those of them that lie outside of the tolerance.
    PARITY_OUTSIDE = "twinlane_parity_outside_total", Counter, answers ["task"];
    /// By how much a device's answer differs from the CPU's: in scores, or in parts of a number.
    PARITY_DIFFERENCE = "twinlane_parity_difference", Histogram(buckets::DIFFERENCES), parts ["task"];
}

pub(crate) struct ModelMetrics {
    pub(crate) batch_size: Histogram,
    pub(crate) run_seconds: Histogram,
    pub(crate) plain: Counter,
    pub(crate) captured: Counter,
    pub(crate) packed: Counter,
    pub(crate) padding: Counter,
}

impl ModelMetrics {
    pub(crate) fn new(task: &str) -> Self {
        let runs = |how: &'static str| counter!(RUNS, "task" => task.to_owned(), "how" => how);
        Self {
            batch_size: histogram!(BATCH_SIZE, "task" => task.to_owned()),
            run_seconds: histogram!(RUN_SECONDS, "task" => task.to_owned()),
            plain: runs("plain"),
            captured: runs("captured"),
            packed: counter!(PACKED_VALUES, "task" => task.to_owned()),
            padding: counter!(PADDING_VALUES, "task" => task.to_owned()),
        }
    }
}

pub(crate) struct ParityMetrics {
    pub(crate) checked: Counter,
    pub(crate) outside: Counter,
    pub(crate) difference: Histogram,
}

impl ParityMetrics {
    pub(crate) fn new(task: &str) -> Self {
        Self {
            checked: counter!(PARITY_CHECKED, "task" => task.to_owned()),
            outside: counter!(PARITY_OUTSIDE, "task" => task.to_owned()),
            difference: histogram!(PARITY_DIFFERENCE, "task" => task.to_owned()),
        }
    }
}

pub(crate) fn device_in_use(task: &str, device: &'static str) -> Gauge {
    gauge!(DEVICE_IN_USE, "task" => task.to_owned(), "device" => device)
}

pub(crate) fn device_fallback(task: &str) -> Gauge {
    gauge!(DEVICE_FALLBACK, "task" => task.to_owned())
}
