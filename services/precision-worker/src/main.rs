//! The precision worker: scores the precision lane.

use std::process::ExitCode;

use twinlane_pipeline::LaneName;
use twinlane_service::Role;

fn main() -> ExitCode {
    twinlane_service::main(Role::Worker(LaneName::Precision))
}
