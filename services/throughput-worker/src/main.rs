//! The throughput worker: scores the throughput lane.

use std::process::ExitCode;

use twinlane_pipeline::LaneName;
use twinlane_service::Role;

fn main() -> ExitCode {
    twinlane_service::main(Role::Worker(LaneName::Throughput))
}
