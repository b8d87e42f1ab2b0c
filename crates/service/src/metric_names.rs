//! The metrics of the process itself, and of what it asks. Dashboards and alerts depend on the names.

use twinlane_metric::{buckets, table};

table! {
    /// Always 1; what runs stands in the labels.
    BUILD_INFO = "twinlane_build_info", Gauge, flag ["version", "service", "pipeline"];
    /// When the process started, as seconds since 1970: a restart changes it.
    START_TIME = "process_start_time_seconds", Gauge, seconds [];
    /// Memory of the process that lies in RAM.
    MEMORY = "process_resident_memory_bytes", Gauge, bytes [];
    /// 1 if the schema registry answered when it was last asked. Only with one, as all that begins so.
    REGISTRY_UP = "twinlane_schema_registry_up", Gauge, flag [];
    /// Schema ids that the registry was asked for: `found`, `refused` (a schema that cannot be used), `unknown` (it has none
    /// of that id), `failed` (it did not answer, and is asked again).
    LOOKUPS = "twinlane_schema_registry_lookups_total", Counter, lookups ["result"];
    /// How long each such question took.
    LOOKUP_SECONDS = "twinlane_schema_registry_lookup_seconds", Histogram(buckets::SECONDS), seconds [];
}
