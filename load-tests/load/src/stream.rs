//! An open-loop stream: events leave on schedule whether or not answers come back, and every answer is read as a careful
//! user would, `read_committed`. Latency counts from the scheduled time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use twinlane_testkit::client::{Outgoing, Producer};
use twinlane_testkit::random::Random;
use twinlane_testkit::wait;

use crate::account::{Account, Due};
use crate::arrivals::Arrivals;
use crate::course::Course;
use crate::progress::{Pulse, say};
use crate::report::Report;
use crate::saturate::Place;
use crate::scenario::Part;
use crate::system::System;
use crate::workload::{Event, SOURCE, Workload};
use crate::zipf::Zipf;

/// One stream of a scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stream {
    /// What its figures are called.
    pub(crate) name: String,
    pub(crate) workload: Workload,
    pub(crate) arrivals: Arrivals,
    /// The rates of `arrivals` are parts of this figure, a capacity that was measured before, in place of events per
    /// second.
    pub(crate) times: Option<Part>,
    /// How long events leave.
    pub(crate) seconds: f64,
    /// How much of it, at the beginning, is not counted.
    #[serde(default = "warm_up")]
    pub(crate) warm_up_seconds: f64,
    /// The part of the orders, of the large ones or of the reviews, where they are mixed with others; as the data has them,
    /// unless said otherwise.
    pub(crate) orders: Option<f64>,
    /// Keys that replace the events' own.
    pub(crate) keys: Option<Keys>,
    /// Bytes that events are larger by, in a header of their own; each event draws one of these.
    #[serde(default)]
    pub(crate) padding: Vec<usize>,
    /// Services note when they had an event, so that the report can say where its time went.
    #[serde(default)]
    pub(crate) breakdown: bool,
    /// So often, in seconds, the model is replaced by the same one under another digest, the first time so long after the
    /// warm-up. Answers meanwhile are also counted apart.
    pub(crate) changes_every_s: Option<f64>,
    /// The services are started together with the stream, not before.
    #[serde(default)]
    pub(crate) from_nothing: bool,
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
const SAMPLE: Duration = Duration::from_millis(500);

/// An event, and when it leaves.
pub(crate) struct Planned {
    pub(crate) at: Duration,
    event: Arc<Event>,
    padding: usize,
}

/// Sends the events on schedule, on a thread of its own.
struct Generator {
    /// Tells of each event when it was due.
    producer: Arc<Producer<Due>>,
    thread: JoinHandle<Result<Duration>>,
}

impl Generator {
    fn start(
        bootstrap: &str,
        plan: Vec<Planned>,
        began: Instant,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self> {
        let producer = Arc::new(Producer::new(bootstrap)?);
        let sender = Arc::clone(&producer);
        let padding = vec![b'.'; plan.iter().map(|planned| planned.padding).max().unwrap_or(0)];
        let send = move || {
            let mut latest = Duration::ZERO;
            for Planned { at, event, padding: more } in plan {
                let due = began + at;
                wait::pause_for(due.saturating_duration_since(Instant::now()));
                if interrupted.load(Ordering::Relaxed) {
                    break;
                }
                latest = latest.max(due.elapsed());
                let headers = [("padding", &padding[..more])];
                let headers = if more > 0 { &headers[..] } else { &[] };
                let (key, value) = (Some(event.key.as_bytes()), Some(event.value.as_slice()));
                sender.send(
                    &Outgoing { topic: SOURCE, key, value, headers, ..Default::default() },
                    Due { at: due, kind: event.kind },
                )?;
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
    let scale = stream.times.as_ref().map_or(Ok(1.0), |part| part.of(&report.figures))?;
    let plan = plan(stream, scale, place.data)?;
    let count = plan.len();
    let mut system = System::prepare(name, stream.workload, stream.breakdown, place)?;
    let every = stream.changes_every_s.map(Duration::from_secs_f64);
    ensure!(every.is_none() || !stream.from_nothing, "{name}: models are changed where services run already");
    if every.is_some() {
        system.own_model()?;
    }
    if !stream.from_nothing {
        system.start_services(place)?;
        system.wait_until_ready(report)?;
    }
    if let Some(every) = every {
        system.start_changes(Duration::from_secs_f64(stream.warm_up_seconds) + every, every)?;
    }
    say(&format!("{name}: {count} events within {:.0} s", stream.seconds));
    let flow = flow(name, plan, stream.warm_up_seconds, &mut system, place)?;

    report.figure(format!("{name}.events_per_s"), count as f64 / flow.took);
    // Open-loop only if it kept its own time.
    report.figure(format!("{name}.generator_latest_ms"), flow.late.as_secs_f64() * 1000.0);
    let kinds = stream.workload.kinds();
    for (number, kind) in kinds.iter().enumerate() {
        let latencies = flow.account.latencies(number);
        for (part, says) in [(0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (0.999, "p99_9")] {
            let ms = latencies.value_at_quantile(part) as f64 / 1000.0;
            report.figure(format!("{name}.{kind}.{says}_ms"), ms);
        }
        report.figure(format!("{name}.{kind}.events"), latencies.len() as f64);
        for (latencies, when) in
            flow.account.by_change(number).into_iter().flatten().zip(["quiet", "changing"])
        {
            let ms = latencies.value_at_quantile(0.99) as f64 / 1000.0;
            report.figure(format!("{name}.{kind}.{when}.p99_ms"), ms);
        }
        flow.account.breakdown(number).note(&format!("{name}.{kind}"), report);
    }
    flow.course.note(name, count as f64 / stream.seconds, stream.warm_up_seconds, report);
    flow.course.plot(name, &flow.account, kinds, report);
    if let Some(changes) = system.changes.take() {
        changes.end(name, report)?;
    }
    system.stop(report)
}

/// What came of a stream.
pub(crate) struct Flow {
    pub(crate) account: Account,
    pub(crate) course: Course,
    /// By how much the generator was late at worst.
    pub(crate) late: Duration,
    /// Seconds until everything was answered.
    pub(crate) took: f64,
}

/// Sends what is planned through a system, and reads every answer. Services that do not run yet are started with it.
pub(crate) fn flow(
    name: &str,
    plan: Vec<Planned>,
    warm_up_seconds: f64,
    system: &mut System,
    place: &Place<'_>,
) -> Result<Flow> {
    let count = plan.len() as u64;
    ensure!(count > 0, "{name}: no event leaves");
    let answers = system.answers()?;
    let began = Instant::now() + Duration::from_millis(200);
    if system.services.is_empty() {
        system.start_services(place)?;
    }
    let counted = began + Duration::from_secs_f64(warm_up_seconds);
    let generator = Generator::start(&system.brokers, plan, began, Arc::clone(place.interrupted))?;
    let lanes = system.lanes();
    let mut course = Course::new(lanes.len(), &system.services);
    let mut account = Account::new(lanes, counted);
    if let Some(changes) = &system.changes {
        account = account.with_changes(changes.under_way());
    }
    let (mut pulse, mut sampled, mut last) = (Pulse::new(), began, Instant::now());
    let (mut sent, mut ended) = (0, false);
    while account.through() < count {
        if place.interrupted.load(Ordering::SeqCst) {
            bail!("interrupted; everything is stopped");
        }
        last = answers.next(Duration::from_millis(20), &mut account)?.unwrap_or(last);
        for delivered in generator.producer.take_delivered() {
            sent += 1;
            account.due((delivered.partition, delivered.offset), delivered.tag);
        }
        ended |= generator.thread.is_finished();
        if ended && last.elapsed() > QUIET {
            let left = count - account.through();
            bail!("{left} of {count} events are not answered; see {}", system.logs.display());
        }
        if sampled.elapsed() >= SAMPLE {
            let lag = sent - account.through();
            course.sample(began.elapsed().as_secs_f64(), lag, &mut account, &mut system.services)?;
            sampled = Instant::now();
        }
        pulse.show(|| format!("{sent} of {count} events sent, {} answered", account.through()));
    }
    account.ensure_lanes().with_context(|| name.to_owned())?;
    let took = began.elapsed().as_secs_f64();
    let late = generator.thread.join().map_err(|_| anyhow!("the generator panicked"))??;
    generator.producer.flush()?;
    Ok(Flow { account, course, late, took })
}

/// Which event leaves when.
fn plan(stream: &Stream, scale: f64, data: &Path) -> Result<Vec<Planned>> {
    let mut events = match stream.arrivals {
        Arrivals::Recorded { .. } => stream.workload.all_events(data)?,
        _ => stream.workload.events(data, DIFFERENT, stream.orders)?,
    };
    let mut random = Random::new(stream.seed);
    if let Some(keys) = stream.keys {
        let zipf = Zipf::new(keys.distinct, keys.exponent);
        for event in &mut events {
            event.key = format!("key-{}", zipf.next(&mut random));
        }
    }
    let times = match stream.arrivals {
        Arrivals::Recorded { speed } => crate::recorded::times(&mut events, speed, stream.seconds),
        _ => stream.arrivals.schedule(stream.seconds, scale, stream.seed),
    };
    let events: Vec<_> = events.into_iter().map(Arc::new).collect();
    let mut padding = || match stream.padding.len() {
        0 => 0,
        sizes => stream.padding[random.below(sizes as u64) as usize],
    };
    Ok(times
        .into_iter()
        .zip(events.iter().cycle())
        .map(|(at, event)| Planned { at, event: Arc::clone(event), padding: padding() })
        .collect())
}

/// The same for a stream that is made up on the way.
pub(crate) fn planned(times: Vec<Duration>, events: Vec<Event>) -> Vec<Planned> {
    let events: Vec<_> = events.into_iter().map(Arc::new).collect();
    let pairs = times.into_iter().zip(events.iter().cycle());
    pairs.map(|(at, event)| Planned { at, event: Arc::clone(event), padding: 0 }).collect()
}
