//! What streams run through: empty topics on the broker that all share, the services of a workload, and a reader of their
//! answers.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use twinlane_testkit::checker::coordinates;
use twinlane_testkit::client;
use twinlane_testkit::client::{Follower, Record};

use crate::account::{Account, Answer};
use crate::breakdown::Moments;
use crate::changes::Changes;
use crate::report::Report;
use crate::saturate::Place;
use crate::services::{How, Running};
use crate::workload::{self, Lane, PARTITIONS, SOURCE, Workload};

const OWN_MODEL: &str = "own.onnx";

/// Topics of its own, and the services of a workload, once they are started.
pub(crate) struct System {
    name: String,
    workload: Workload,
    /// For a client's `bootstrap.servers`.
    pub(crate) brokers: String,
    pub(crate) services: Vec<Running>,
    pub(crate) logs: PathBuf,
    pipeline: PathBuf,
    timings: bool,
    pub(crate) changes: Option<Changes>,
    folder: tempfile::TempDir,
}

impl System {
    /// Makes the topics, new ones where another system had them; the services are not started yet.
    pub(crate) fn prepare(name: &str, workload: Workload, timings: bool, place: &Place<'_>) -> Result<Self> {
        let folder = tempfile::tempdir().context("creating a folder")?;
        let pipeline = workload.write(folder.path(), workload.routes())?;
        let brokers = place.broker.context("streams have a broker")?.bootstrap().to_owned();
        for topic in client::topics(&brokers)?.iter().filter(|topic| workload::is_ours(topic)) {
            client::delete_topic(&brokers, topic)?;
        }
        for topic in workload.scores().iter().chain([&SOURCE]) {
            client::create_topic(&brokers, topic, PARTITIONS, &[])?;
        }
        Ok(Self {
            name: name.to_owned(),
            workload,
            brokers,
            services: Vec::new(),
            logs: place.out.join("logs"),
            pipeline,
            timings,
            changes: None,
            folder,
        })
    }

    /// Replaces the model that [`System::own_model`] made after each `every`, for the first time after `first`.
    pub(crate) fn start_changes(&mut self, first: Duration, every: Duration) -> Result<()> {
        let worker = self.services.iter().find(|service| service.name != "router");
        let admin = worker.context("a service with a model runs")?.admin();
        self.changes = Some(Changes::start(self.folder.path().join(OWN_MODEL), admin, first, every)?);
        Ok(())
    }

    /// Lets the pipeline name a copy of its model.
    pub(crate) fn own_model(&mut self) -> Result<()> {
        let copy = self.folder.path().join(OWN_MODEL);
        self.workload.replace_model(&self.pipeline, &copy)
    }

    /// Starts the services, and does not wait for them.
    pub(crate) fn start_services(&mut self, place: &Place<'_>) -> Result<()> {
        let how = How {
            binaries: place.binaries,
            pipeline: &self.pipeline,
            brokers: &self.brokers,
            logs: &self.logs,
            prefix: &[],
            timings: self.timings,
        };
        for service in self.workload.services() {
            let running = Running::spawn(service, &format!("{}-{service}", self.name), 0, how)?;
            self.services.push(running);
        }
        Ok(())
    }

    /// Waits until all services have joined their groups; how long each took is in the report.
    pub(crate) fn wait_until_ready(&mut self, report: &mut Report) -> Result<()> {
        for service in &mut self.services {
            let took = service.wait_until_ready()?;
            report.figure(format!("{}.{}.ready_after_s", self.name, service.name), took.as_secs_f64());
        }
        Ok(())
    }

    /// All started, and all ready.
    pub(crate) fn start(
        name: &str,
        workload: Workload,
        timings: bool,
        place: &Place<'_>,
        report: &mut Report,
    ) -> Result<Self> {
        let mut system = Self::prepare(name, workload, timings, place)?;
        system.start_services(place)?;
        system.wait_until_ready(report)?;
        Ok(system)
    }

    /// The lane of each kind of events that it answers.
    pub(crate) fn lanes(&self) -> &'static [Lane] {
        self.workload.lanes()
    }

    /// A reader of the answers that come from now on.
    pub(crate) fn answers(&self) -> Result<Answers> {
        Ok(Answers { follower: Follower::from_end(&self.brokers, self.workload.scores())? })
    }

    /// What the services say of their batches and transactions, into the report; then they stop.
    pub(crate) fn stop(self, report: &mut Report) -> Result<()> {
        for service in self.services {
            let name = format!("{}.{}", self.name, service.name);
            for (metric, says) in
                [("twinlane_batch_size", "mean_batch"), ("twinlane_window_records", "mean_window")]
            {
                if let Some(mean) = service.mean(metric)? {
                    report.figure(format!("{name}.{says}"), mean);
                }
            }
            if let Some(part) = service.part_below("twinlane_transaction_seconds", "0.012")? {
                report.figure(format!("{name}.transactions_under_12_ms"), part);
            }
            service.stop()?;
        }
        Ok(())
    }
}

/// Reads answers as a careful user would, `read_committed`.
pub(crate) struct Answers {
    follower: Follower,
}

impl Answers {
    /// Takes the next answer into the account, if one comes within `limit`; says when it was read.
    pub(crate) fn next(&self, limit: Duration, account: &mut Account) -> Result<Option<Instant>> {
        let found =
            self.follower.next(limit, |record| Some((source(record)?, lane(record), moments(record))))?;
        let Some((at, lane, moments)) = found.flatten() else { return Ok(None) };
        let read = Instant::now();
        account.answered(at, Answer { read, lane, moments });
        Ok(Some(read))
    }
}

/// Partition and offset of the event that it answers.
fn source(record: &Record<'_>) -> Option<(i32, i64)> {
    let (_, partition, offset) = record.header("twinlane-source").and_then(coordinates)?;
    Some((partition, offset))
}

fn lane(record: &Record<'_>) -> Option<Lane> {
    Lane::parse(record.header("twinlane-lane")?)
}

fn moments(record: &Record<'_>) -> Option<Moments> {
    Moments::parse(std::str::from_utf8(record.header("twinlane-timings")?).ok()?)
}
