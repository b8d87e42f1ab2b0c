//! An open-loop stream: events leave on schedule whether or not answers come back, and every answer is read as a careful
//! user would, `read_committed`. Latency counts from the scheduled time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use twinlane_replay::ReferenceEvent;
use twinlane_testkit::checker::coordinates;
use twinlane_testkit::client::{Follower, Outgoing, Producer};
use twinlane_testkit::random::Random;
use twinlane_testkit::{Broker, BrokerOptions, client, wait};

use crate::account::Account;
use crate::arrivals::Arrivals;
use crate::plot::Plot;
use crate::progress::{Pulse, say};
use crate::report::Report;
use crate::saturate::Place;
use crate::services::{How, Running};
use crate::workload::{PARTITIONS, SOURCE, Workload};
use crate::zipf::Zipf;

/// One stream of a scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stream {
    /// What its figures are called.
    pub(crate) name: String,
    pub(crate) workload: Workload,
    pub(crate) arrivals: Arrivals,
    /// How long events leave.
    pub(crate) seconds: f64,
    /// How much of it, at the beginning, is not counted.
    #[serde(default = "warm_up")]
    pub(crate) warm_up_seconds: f64,
    /// The part of the orders, where orders and purchases are mixed; as the data has them, unless said otherwise.
    pub(crate) orders: Option<f64>,
    /// Keys that replace the events' own.
    pub(crate) keys: Option<Keys>,
    #[serde(default)]
    pub(crate) seed: u64,
}

fn warm_up() -> f64 {
    5.0
}

/// So many different keys, of which some are frequent.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    pub(crate) distinct: usize,
    /// Of Zipf's law; 1 is usual, 0 is even.
    pub(crate) exponent: f64,
}

/// Different events that are sent again and again.
const DIFFERENT: usize = 20_000;
/// After the last event: nobody answers any more.
const QUIET: Duration = Duration::from_secs(30);
const SAMPLE: Duration = Duration::from_secs(1);

/// What the generator tells of an event: when it was due.
type Due = Instant;

/// Sends the events on schedule, on a thread of its own.
struct Generator {
    producer: Arc<Producer<Due>>,
    thread: JoinHandle<Result<Duration>>,
}

impl Generator {
    fn start(
        bootstrap: &str,
        events: Vec<ReferenceEvent>,
        schedule: Vec<Duration>,
        began: Instant,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self> {
        let producer = Arc::new(Producer::new(bootstrap)?);
        let sender = Arc::clone(&producer);
        let send = move || {
            let mut latest = Duration::ZERO;
            for (number, at) in schedule.iter().enumerate() {
                let due = began + *at;
                wait::pause_for(due.saturating_duration_since(Instant::now()));
                if interrupted.load(Ordering::Relaxed) {
                    break;
                }
                latest = latest.max(due.elapsed());
                let event = &events[number % events.len()];
                let (key, value) = (Some(event.key.as_bytes()), Some(event.payload.as_slice()));
                sender.send(&Outgoing { topic: SOURCE, key, value, ..Default::default() }, due)?;
            }
            Ok(latest)
        };
        let thread = std::thread::Builder::new().name("generator".into()).spawn(send);
        Ok(Self { producer, thread: thread.context("starting a thread")? })
    }
}

/// Runs one stream, into the report.
pub(crate) fn run(stream: &Stream, place: &Place<'_>, report: &mut Report) -> Result<()> {
    let name = &stream.name;
    let outputs = stream.workload.scores();
    let folder = tempfile::tempdir().context("creating a folder")?;
    let pipeline = stream.workload.write(folder.path())?;
    let events = events(stream, place.data)?;
    let schedule = stream.arrivals.schedule(stream.seconds, 1.0, stream.seed);
    let count = schedule.len() as u64;
    ensure!(count > 0, "no event leaves in {} s", stream.seconds);

    let broker = Broker::start_own(&BrokerOptions::default())?;
    for topic in outputs.iter().chain([&SOURCE]) {
        client::create_topic(broker.bootstrap(), topic, PARTITIONS, &[])?;
    }
    let logs = place.out.join("logs");
    let how = How {
        binaries: place.binaries,
        pipeline: &pipeline,
        brokers: broker.bootstrap(),
        logs: &logs,
        prefix: &[],
    };
    let mut services = Vec::new();
    for service in stream.workload.services() {
        services.push(Running::spawn(service, &format!("{name}-{service}"), how)?);
    }
    for service in &mut services {
        let took = service.wait_until_ready()?;
        report.figure(format!("{name}.{}.ready_after_s", service.name), took.as_secs_f64());
    }
    say(&format!("{name}: {count} events within {:.0} s", stream.seconds));

    let follower = Follower::from_end(broker.bootstrap(), outputs)?;
    let began = Instant::now() + Duration::from_millis(200);
    let counted = began + Duration::from_secs_f64(stream.warm_up_seconds);
    let generator =
        Generator::start(broker.bootstrap(), events, schedule, began, Arc::clone(place.interrupted))?;
    let mut course = Course::new(outputs, &services);
    let mut account = Account::new(outputs.len(), counted);
    let (mut pulse, mut sampled, mut last) = (Pulse::new(), began, Instant::now());
    let (mut sent, mut ended) = (0, false);
    while account.through() < count {
        if place.interrupted.load(Ordering::SeqCst) {
            bail!("interrupted; everything is stopped");
        }
        let answer = follower.next(Duration::from_millis(20), |record| {
            let lane = outputs.iter().position(|topic| *topic == record.topic())?;
            let (_, partition, offset) = record.header("twinlane-source").and_then(coordinates)?;
            Some(((partition, offset), lane))
        })?;
        if let Some((at, lane)) = answer.flatten() {
            last = Instant::now();
            account.answered(at, lane, last);
        }
        for delivered in generator.producer.take_delivered() {
            sent += 1;
            account.due((delivered.partition, delivered.offset), delivered.tag);
        }
        ended |= generator.thread.is_finished();
        if ended && last.elapsed() > QUIET {
            bail!("{} of {count} events are not answered; see {}", count - account.through(), logs.display());
        }
        if sampled.elapsed() >= SAMPLE {
            let now = began.elapsed().as_secs_f64();
            course.sample(now, sent - account.through(), &mut account, &mut services)?;
            sampled = Instant::now();
        }
        pulse.show(|| format!("{sent} of {count} events sent, {} answered", account.through()));
    }
    let late = generator.thread.join().map_err(|_| anyhow!("the generator panicked"))??;
    generator.producer.flush()?;

    let took = began.elapsed().as_secs_f64();
    report.figure(format!("{name}.events_per_s"), count as f64 / took);
    // Open-loop only if it kept its own time.
    report.figure(format!("{name}.generator_latest_ms"), late.as_secs_f64() * 1000.0);
    for (lane, topic) in outputs.iter().enumerate() {
        let latencies = account.latencies(lane);
        for (part, says) in [(0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (0.999, "p99_9")] {
            let ms = latencies.value_at_quantile(part) as f64 / 1000.0;
            report.figure(format!("{name}.{topic}.{says}_ms"), ms);
        }
        report.figure(format!("{name}.{topic}.events"), latencies.len() as f64);
    }
    course.finish(name, &account, outputs, report);
    for service in services {
        for (metric, says) in
            [("twinlane_batch_size", "mean_batch"), ("twinlane_window_records", "mean_window")]
        {
            if let Some(mean) = service.mean(metric)? {
                report.figure(format!("{name}.{}.{says}", service.name), mean);
            }
        }
        service.stop()?;
    }
    Ok(())
}

fn events(stream: &Stream, data: &Path) -> Result<Vec<ReferenceEvent>> {
    let mut events = stream.workload.events(data, DIFFERENT, stream.orders)?;
    if let Some(keys) = stream.keys {
        let (zipf, mut random) = (Zipf::new(keys.distinct, keys.exponent), Random::new(stream.seed));
        for event in &mut events {
            event.key = format!("key-{}", zipf.next(&mut random));
        }
    }
    Ok(events)
}

/// What a stream looked like, second by second.
struct Course {
    /// By lane: p50 and p99 of the last second, in milliseconds.
    latencies: Vec<[Vec<(f64, f64)>; 2]>,
    /// Events that were sent and not answered.
    lag: Vec<(f64, f64)>,
    answered: Vec<(f64, f64)>,
    /// By service: part of a core, MiB resident, threads and files.
    usage: Vec<[Vec<(f64, f64)>; 4]>,
    names: Vec<&'static str>,
    before: Vec<(Instant, Duration)>,
    through: (f64, u64),
}

impl Course {
    fn new(outputs: &[&str], services: &[Running]) -> Self {
        Self {
            latencies: vec![Default::default(); outputs.len()],
            lag: Vec::new(),
            answered: Vec::new(),
            usage: vec![Default::default(); services.len()],
            names: services.iter().map(|service| service.name).collect(),
            before: Vec::new(),
            through: (0.0, 0),
        }
    }

    fn sample(&mut self, now: f64, lag: u64, account: &mut Account, services: &mut [Running]) -> Result<()> {
        for (lane, lines) in self.latencies.iter_mut().enumerate() {
            // Both from the same second: the first question forgets nothing, the second does.
            let halves = [account.recent(lane, 0.5, false), account.recent(lane, 0.99, true)];
            for (line, latency) in lines.iter_mut().zip(halves) {
                line.extend(latency.map(|latency| (now, latency.as_secs_f64() * 1000.0)));
            }
        }
        self.lag.push((now, lag as f64));
        let (then, through) = std::mem::replace(&mut self.through, (now, account.through()));
        if now > then {
            self.answered.push((now, (account.through() - through) as f64 / (now - then)));
        }
        let mut before = Vec::new();
        for (at, service) in services.iter_mut().enumerate() {
            service.check()?;
            let usage = service.usage()?;
            let moment = Instant::now();
            if let Some((then, cpu)) = self.before.get(at) {
                let part = usage.cpu.saturating_sub(*cpu).as_secs_f64() / then.elapsed().as_secs_f64();
                self.usage[at][0].push((now, part));
            }
            self.usage[at][1].push((now, usage.resident as f64 / f64::from(1 << 20)));
            self.usage[at][2].push((now, usage.threads as f64));
            self.usage[at][3].push((now, usage.files as f64));
            before.push((moment, usage.cpu));
        }
        self.before = before;
        Ok(())
    }

    fn finish(self, name: &str, account: &Account, outputs: &[&str], report: &mut Report) {
        let mut plot = |what: &str, y: &str, lines| {
            let title = format!("{name}: {what}");
            report.plots.push(Plot { title, x: "seconds".into(), y: y.into(), lines });
        };
        let over_time = self.latencies.into_iter().zip(outputs).flat_map(|(lines, topic)| {
            let named = ["p50", "p99"].map(|says| format!("{topic} {says}"));
            named.into_iter().zip(lines)
        });
        plot("latency over time", "ms", over_time.collect());
        plot("events answered", "events/s", vec![("answered".into(), self.answered)]);
        plot("lag: sent and not answered", "events", vec![("lag".into(), self.lag)]);
        let what =
            [("CPU", "cores"), ("memory", "MiB resident"), ("threads", "threads"), ("files", "open files")];
        for (index, (what, y)) in what.into_iter().enumerate() {
            let lines = self.names.iter().zip(&self.usage);
            plot(what, y, lines.map(|(name, of)| ((*name).to_owned(), of[index].clone())).collect());
        }
        let curve = |lane: usize| -> Vec<(f64, f64)> {
            // Nines on the x axis: 1 is 90 %, 2 is 99 %, 3 is 99.9 %.
            let points = (0..=35).map(|tenth| f64::from(tenth) / 10.0);
            let latencies = account.latencies(lane);
            let at = |nines: f64| latencies.value_at_quantile(1.0 - 10f64.powf(-nines)) as f64 / 1000.0;
            points.map(|nines| (nines, at(nines))).collect()
        };
        let lines = outputs.iter().enumerate().map(|(lane, topic)| ((*topic).to_owned(), curve(lane)));
        report.plots.push(Plot {
            title: format!("{name}: latency by percentile"),
            x: "nines (1: 90 %, 2: 99 %, 3: 99.9 %)".into(),
            y: "ms".into(),
            lines: lines.collect(),
        });
        for (name_of, of) in self.names.iter().zip(&self.usage) {
            if let Some(most) = of[1].iter().map(|point| point.1).reduce(f64::max) {
                report.figure(format!("{name}.{name_of}.resident_mib_most"), most);
            }
            let busy: Vec<f64> = of[0].iter().map(|point| point.1).collect();
            if !busy.is_empty() {
                report
                    .figure(format!("{name}.{name_of}.cores"), busy.iter().sum::<f64>() / busy.len() as f64);
            }
        }
    }
}
