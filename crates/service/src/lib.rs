//! What every Twinlane process has in common: settings, logs, metrics, health, signals, exit codes, and how
//! a stage is put together from a pipeline file. The services' `main` functions call [`main`].

mod admin;
mod allocator;
mod assemble;
mod exit;
mod health;
mod metric_names;
mod metrics_page;
mod pages;
mod pipeline_page;
mod process;
mod properties;
mod registry;
mod registry_settings;
mod reload;
mod schema_tables;
mod settings;
mod settings_page;
mod telemetry;
mod traces;

pub use assemble::LoadedPipeline;
pub use exit::Failure;
pub use metrics_page::metrics;
pub use pages::PAGES;
pub use process::main;
pub use registry_settings::{Password, Registry as RegistrySettings};
pub use settings::{Flags, Invalid, Kafka, LogFormat, Settings};
pub use traces::Traces;

/// Which service a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Routes events to lanes.
    Router,
    /// Scores one lane.
    Worker(twinlane_pipeline::LaneName),
}

impl Role {
    /// Name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Router => "router",
            Role::Worker(twinlane_pipeline::LaneName::Precision) => "precision-worker",
            Role::Worker(twinlane_pipeline::LaneName::Throughput) => "throughput-worker",
        }
    }
}
