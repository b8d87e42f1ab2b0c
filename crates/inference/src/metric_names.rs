//! Names of the metrics that this crate records, and the handles that are looked up once per model.
//! Dashboards depend on the names.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// Histogram: events per model run. Label `task`.
pub const BATCH_SIZE: &str = "twinlane_batch_size";
/// Histogram: seconds of a model run, packing and reading included. Label `task`.
pub const RUN_SECONDS: &str = "twinlane_model_run_seconds";
/// Gauge: 1 for the device that really runs a task's model. Labels `task`, `device`.
pub const DEVICE_IN_USE: &str = "twinlane_device_in_use";
/// Counter: attempts to put other models in the place of those that run. Label `outcome`: `taken` or `refused`.
pub const RELOADS: &str = "twinlane_model_reloads_total";

/// Counter: answers of a device that were compared with the CPU's while events flowed. Label `task`.
pub const PARITY_CHECKED: &str = "twinlane_parity_checked_total";
/// Counter: those of them that lie outside of the tolerance. Label `task`.
pub const PARITY_OUTSIDE: &str = "twinlane_parity_outside_total";
/// Histogram: by how much a device's answer differs from the CPU's, in scores, or in parts of a number. Label `task`.
pub const PARITY_DIFFERENCE: &str = "twinlane_parity_difference";

pub(crate) struct ModelMetrics {
    pub(crate) batch_size: Histogram,
    pub(crate) run_seconds: Histogram,
}

impl ModelMetrics {
    pub(crate) fn new(task: &str) -> Self {
        Self {
            batch_size: histogram!(BATCH_SIZE, "task" => task.to_owned()),
            run_seconds: histogram!(RUN_SECONDS, "task" => task.to_owned()),
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
