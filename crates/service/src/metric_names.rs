//! The metrics of the process itself. Dashboards and alerts depend on the names.

use twinlane_metric::table;

table! {
    /// Always 1; what runs stands in the labels.
    BUILD_INFO = "twinlane_build_info", Gauge, flag ["version", "service", "pipeline"];
    /// When the process started, as seconds since 1970: a restart changes it.
    START_TIME = "process_start_time_seconds", Gauge, seconds [];
    /// Memory of the process that lies in RAM.
    MEMORY = "process_resident_memory_bytes", Gauge, bytes [];
}
