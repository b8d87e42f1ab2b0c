//! The torture rig: a three-broker Kafka, the services, a steady load whose answers the rig computes itself, and a seeded
//! nemesis. `cargo xtask torture` builds what it needs, and then becomes this program.

mod content;
mod events;
mod fault;
mod feed;
mod fleet;
mod inject;
mod judge;
mod load;
mod report;
mod rig;
mod run;
mod shop;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Break everything that Twinlane stands on while load flows, and count what came out.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask torture", bin_name = "cargo xtask torture")]
pub(crate) struct Arguments {
    /// How long faults are injected.
    #[arg(long, value_name = "M", default_value_t = 2.0)]
    minutes: f64,
    /// How many events are produced in that time; 600 a second unless said otherwise.
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Faults, targets and events follow from it; a random one unless said otherwise.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Whether the next fault waits for the recovery from the last.
    #[arg(long, value_enum, default_value_t = Mode::Settle)]
    mode: Mode,
    /// Small models whose answers the rig computes, or those of the pipeline `commerce`.
    #[arg(long, value_enum, default_value_t = Models::Trivial)]
    models: Models,
    /// The precision workers read the mixed topic themselves, without the router.
    #[arg(long)]
    direct: bool,
    /// Only these faults: names, or their beginnings.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    faults: Vec<String>,
    /// Write the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the services' logs go; .out/torture unless said otherwise.
    #[arg(long, value_name = "DIR")]
    keep_logs: Option<PathBuf>,
    /// The folder with the services' binaries.
    #[arg(long, value_name = "DIR", default_value = "target/release", hide = true)]
    binaries: PathBuf,
    /// The folder with the services' binaries that have fail points.
    #[arg(long, value_name = "DIR", hide = true)]
    armed: Option<PathBuf>,
}

/// Whether faults overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// The next fault waits until the system has recovered from the last.
    Settle,
    /// It does not.
    Overlap,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Settle => "settle",
            Self::Overlap => "overlap",
        }
    }
}

/// Which models answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Models {
    /// Small ones whose answers the rig computes.
    Trivial,
    /// Those of the pipeline `commerce`, on its events.
    Reference,
}

impl Models {
    fn name(self) -> &'static str {
        match self {
            Self::Trivial => "trivial",
            Self::Reference => "reference",
        }
    }
}

impl Arguments {
    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0)
    }

    fn per_second(&self) -> f64 {
        self.events.map_or(600.0, |events| events as f64 / self.time().as_secs_f64())
    }

    /// The command that repeats this run.
    fn again(&self, seed: u64) -> String {
        let mut again = format!(
            "cargo xtask torture --seed {seed} --minutes {} --events {:.0} --mode {} --models {}",
            self.minutes,
            self.per_second() * self.time().as_secs_f64(),
            self.mode.name(),
            self.models.name()
        );
        if self.direct {
            again.push_str(" --direct");
        }
        if !self.faults.is_empty() {
            again.push_str(&format!(" --faults {}", self.faults.join(",")));
        }
        again
    }
}

fn main() -> ExitCode {
    match run::run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\ntwinlane: {error:#}");
            ExitCode::FAILURE
        }
    }
}
