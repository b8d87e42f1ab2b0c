//! The router: splits mixed topics into lanes.

use std::process::ExitCode;

use twinlane_service::Role;

fn main() -> ExitCode {
    twinlane_service::main(Role::Router)
}
