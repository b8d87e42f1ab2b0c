//! The demo: Twinlane's main job on the reference events, with a crash half-way and a verdict that is computed from the
//! topics alone. `cargo xtask demo` sets up and builds what it needs, and then becomes this program.

mod board;
mod commerce;
mod events;
mod feed;
mod report;
mod score;
mod scored;
mod screen;
mod services;
mod show;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// See Twinlane at work: a real Kafka, three services, 100,000 events, a crash half-way, and a verdict.
///
/// Orders and purchases go into one Kafka topic. The router splits them into two lanes; the precision worker scores the
/// orders with the full model, the throughput worker the purchases with a smaller one; broken events come out as dead
/// letters. Half-way the precision worker is killed. In the end every event must have been answered exactly once.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask demo", bin_name = "cargo xtask demo")]
pub(crate) struct Arguments {
    /// How many events are replayed; 100,000 take some minutes.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(500..))]
    events: u64,
    /// Write the verdict to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The folder with the services' binaries.
    #[arg(long, value_name = "DIR", default_value = "target/release", hide = true)]
    binaries: PathBuf,
}

fn main() -> ExitCode {
    match show::run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\ntwinlane: {error:#}");
            ExitCode::FAILURE
        }
    }
}
