//! Load tests: how fast Twinlane is, as a part of what its parts allow, measured in the same run on the same machine.
//! `cargo xtask load` builds what it needs, and then becomes this program.

mod account;
mod arrivals;
mod breakdown;
mod broker;
mod capacity;
mod changes;
mod compare;
mod cores;
mod course;
mod drain;
mod idle;
mod limit;
mod plot;
mod progress;
mod recorded;
mod report;
mod rounds;
mod saturate;
mod scenario;
mod services;
mod stream;
mod system;
mod tool;
mod workload;
mod zipf;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde_json::json;
use twinlane_testkit::{cache, jars};

use crate::cores::Cores;
use crate::report::{Met, Report};
use crate::saturate::Place;
use crate::scenario::Scenario;
use crate::workload::Workload;

/// Measure how fast Twinlane is, against what its parts allow in the same run.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask load", bin_name = "cargo xtask load")]
struct Arguments {
    /// The folder with the services' binaries.
    #[arg(long, value_name = "DIR", default_value = "target/release", hide = true)]
    binaries: PathBuf,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run a scenario of load-tests/scenarios.
    Run {
        /// Its name, or a file.
        scenario: String,
        /// Where report.html and report.json go; .out/load/SCENARIO unless said otherwise.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Say what changed between two reports, and whether it is beyond noise.
    Compare {
        /// A report.json.
        before: PathBuf,
        /// Another one.
        after: PathBuf,
    },
    /// One part alone, on this core.
    #[command(hide = true)]
    Limit {
        #[command(subcommand)]
        limit: limit::Limit,
    },
}

fn main() -> ExitCode {
    let Arguments { binaries, task } = Arguments::parse();
    let result = match task {
        Task::Run { scenario, out } => run(&scenario, out, &binaries),
        Task::Compare { before, after } => compare::compare(&before, &after),
        Task::Limit { limit } => limit.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ntwinlane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, out: Option<PathBuf>, binaries: &std::path::Path) -> Result<()> {
    let (name, scenario) = Scenario::find(name)?;
    scenario.workloads().try_for_each(Workload::ensure_there)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&interrupted);
    ctrlc::set_handler(move || {
        if handler.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })?;
    let cores = Cores::of_this_machine()?;
    let out = out.unwrap_or_else(|| [".out", "load", &name].iter().collect());
    let data = cache::folder().join("data");
    let mut report = Report { scenario: name, about: scenario.about.clone(), ..Default::default() };
    report.machine.extend([
        ("cores".to_owned(), json!(cores.others.len() + 1)),
        ("drains on".to_owned(), json!(format!("core {}, everything else on the others", cores.measured))),
        ("streams on".to_owned(), json!("all cores, which broker, services and generator share")),
        ("processor".to_owned(), json!(processor())),
        ("broker".to_owned(), json!(format!("Apache Kafka {}, one node", jars::KAFKA_VERSION))),
        (
            "broker settings".to_owned(),
            json!(
                "group.initial.rebalance.delay.ms 0, replication 1, -XX:+UseSerialGC; for drains \
                 -XX:TieredStopAtLevel=1, for all else one broker that was run in"
            ),
        ),
        ("partitions".to_owned(), json!(workload::PARTITIONS)),
    ]);
    let mut place =
        Place { binaries, data: &data, out: &out, cores: &cores, broker: None, interrupted: &interrupted };
    // Producers and readers of ours must not disturb what is measured.
    cores.put_aside(std::process::id())?;
    report.add_rounds(
        (1..=scenario.rounds).map(|round| drains(&scenario, round, &place)).collect::<Result<_>>()?,
    );
    cores.share(std::process::id())?;
    let shared = scenario.needs_a_broker().then(broker::start).transpose()?;
    place.broker = shared.as_ref();
    if shared.is_some() {
        broker::run_in(&place)?;
    }
    for capacity in &scenario.capacities {
        capacity::measure(capacity, &place, &mut report).with_context(|| capacity.name.clone())?;
    }
    for idle in &scenario.idles {
        idle::measure(idle, &place, &mut report).with_context(|| idle.name.clone())?;
    }
    for stream in &scenario.streams {
        stream::run(stream, &place, &mut report).with_context(|| stream.name.clone())?;
    }
    scenario.judge(&mut report)?;
    report.write(&out)?;
    report.print();
    println!("\n{} and report.json beside it", out.join("report.html").display());
    let missed = report.ratios.values().filter(|ratio| ratio.met == Met::No).count();
    if missed > 0 {
        println!("{missed} of {} targets are not met", report.ratios.len());
    }
    Ok(())
}

/// One round of all drains, and what it says of the targets.
fn drains(scenario: &Scenario, round: usize, place: &Place<'_>) -> Result<Report> {
    if scenario.rounds > 1 {
        progress::say(&format!("drains, round {round} of {}", scenario.rounds));
    }
    let mut found = Report::default();
    for drain in &scenario.drains {
        saturate::measure(drain, place, &mut found).with_context(|| drain.name.clone())?;
    }
    scenario.judge_round(&mut found)?;
    Ok(found)
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or_else(|| "unknown".into(), |line| line.trim_start_matches([' ', '\t', ':']).to_owned())
}
