//! Developer tasks of Twinlane: `cargo xtask setup | kafka | test | demo`.
//!
//! Each task does its own set-up, so that two commands are all that a fresh machine needs.

mod build;
mod downloads;
mod interrupt;
mod preflight;
mod progress;
mod setup;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use twinlane_testkit::broker::{self, Broker, BrokerOptions};

use crate::interrupt::Interrupt;
use crate::preflight::Needs;

/// Developer tasks of Twinlane. Everything that is downloaded lies in ~/.cache/twinlane (or XTASK_CACHE); where
/// KAFKA_BROKERS names a cluster, that one is used instead of starting one.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// See Twinlane at work: a real Kafka, three services, 100,000 events, a crash half-way, and a verdict.
    Demo(Demo),
    /// Run all tests, against a real Kafka and real models.
    Test(Test),
    /// Start a Kafka for development; Ctrl-C ends it and removes its data.
    Kafka,
    /// Fetch what the other tasks need, and say what is missing on this machine.
    Setup,
}

#[derive(Debug, Args)]
struct Demo {
    /// Arguments of the demo itself; `cargo xtask demo --help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(Debug, Args)]
struct Test {
    /// Arguments for `cargo test`, such as `-p twinlane-record` or the name of a test; without a package, all are tested.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    match Cli::parse().task.run() {
        Ok(code) => code,
        Err(error) => {
            progress::problem(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

impl Task {
    fn run(self) -> Result<ExitCode> {
        match self {
            Self::Setup => {
                preflight::check(Needs::everything())?;
                let runtime = setup::all()?;
                progress::say(&format!("ready; ONNX Runtime is {}", runtime.display()));
                Ok(ExitCode::SUCCESS)
            }
            Self::Kafka => {
                let interrupt = Interrupt::install()?;
                preflight::check(Needs { compiler: false, ..Needs::everything() })?;
                setup::kafka()?;
                let kafka = start_kafka()?;
                progress::say(&format!("Kafka listens at {}; Ctrl-C stops it", kafka.bootstrap()));
                interrupt.wait();
                Ok(ExitCode::SUCCESS)
            }
            Self::Test(Test { arguments }) => {
                let interrupt = Interrupt::install()?;
                preflight::check(Needs::everything())?;
                let runtime = setup::all()?;
                build::test(&arguments, &runtime, &interrupt)
            }
            Self::Demo(Demo { arguments }) => {
                if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
                    return build::demo_help();
                }
                preflight::check(Needs::everything())?;
                build::demo(&arguments)
            }
        }
    }
}

fn start_kafka() -> Result<Broker> {
    let what = match twinlane_testkit::cache::setting(broker::EXISTING_CLUSTER) {
        Some(_) => "using the Kafka that KAFKA_BROKERS names".to_owned(),
        None => format!("starting Apache Kafka {} (about 4 s)", twinlane_testkit::jars::KAFKA_VERSION),
    };
    progress::during(&what, || Ok(Broker::start(&BrokerOptions::default())?))
}
