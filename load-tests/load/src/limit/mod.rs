//! The limits: what the parts do alone, each in a process of its own, so that its CPU time is its own and it can be
//! pinned to the core that the service had. A limit prints one line of JSON.

mod model;
mod plain;
mod transactions;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use twinlane_testkit::usage::Usage;

/// After so long without a record no more will come.
const QUIET: Duration = Duration::from_secs(10);
/// The part of the records that comes before anything is measured.
pub(crate) const WARM_UP: f64 = 0.1;

/// One part alone.
#[derive(Debug, Subcommand)]
pub(crate) enum Limit {
    /// ONNX Runtime: one session, one thread, batches that are packed beforehand.
    Model(model::Arguments),
    /// librdkafka: consume, produce and commit in transactions, and nothing between.
    Transactions(transactions::Arguments),
    /// librdkafka: consume, and nothing else.
    Consume(plain::Consume),
    /// librdkafka: produce, and nothing else.
    Produce(plain::Produce),
}

impl Limit {
    pub(crate) fn run(&self) -> Result<()> {
        let pace = match self {
            Self::Model(arguments) => model::run(arguments)?,
            Self::Transactions(arguments) => transactions::run(arguments)?,
            Self::Consume(arguments) => plain::consume(arguments)?,
            Self::Produce(arguments) => plain::produce(arguments)?,
        };
        println!("{}", serde_json::to_string(&pace).context("writing JSON")?);
        Ok(())
    }
}

/// How fast something went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pace {
    /// Events between the two moments.
    pub(crate) events: u64,
    /// Seconds on the clock.
    pub(crate) wall_s: f64,
    /// Seconds on a CPU, in user and kernel mode, of all threads of the process.
    pub(crate) cpu_s: f64,
}

impl Pace {
    /// Events per second on the clock.
    pub(crate) fn per_second(&self) -> f64 {
        self.events as f64 / self.wall_s
    }

    /// Events per second on a CPU.
    pub(crate) fn per_cpu_second(&self) -> f64 {
        self.events as f64 / self.cpu_s
    }
}

/// Measures from the first call of [`Stretch::at`] to the last.
#[derive(Debug)]
pub(crate) struct Stretch {
    processes: Vec<u32>,
    began: Option<(u64, Instant, Duration)>,
    ended: Option<(u64, Instant, Duration)>,
}

impl Stretch {
    /// Of the process with this id.
    pub(crate) fn of(process: u32) -> Self {
        Self::of_all(vec![process])
    }

    /// Of several processes that share the work.
    pub(crate) fn of_all(processes: Vec<u32>) -> Self {
        Self { processes, began: None, ended: None }
    }

    /// So many events are done now.
    pub(crate) fn at(&mut self, events: u64) -> Result<()> {
        let cpu =
            self.processes.iter().map(|&process| Ok(Usage::of(process)?.cpu)).sum::<Result<Duration>>()?;
        let now = (events, Instant::now(), cpu);
        if self.began.is_none() {
            self.began = Some(now);
        } else {
            self.ended = Some(now);
        }
        Ok(())
    }

    /// Whether it has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    /// What lay between.
    pub(crate) fn pace(&self) -> Result<Pace> {
        let (began, ended) = self.began.zip(self.ended).context("too few events to measure anything")?;
        let (wall, cpu) = (ended.1.duration_since(began.1), ended.2.saturating_sub(began.2));
        // CPU time comes in hundredths of a second.
        ensure!(
            cpu >= Duration::from_millis(300),
            "{} events took {cpu:?} of CPU time, too little to be measured; take more events",
            ended.0 - began.0
        );
        Ok(Pace { events: ended.0 - began.0, wall_s: wall.as_secs_f64(), cpu_s: cpu.as_secs_f64() })
    }
}
