//! A service empties a topic that was filled before it started, on a core of its own: how fast it is when nothing but
//! itself holds it up, and what an event costs it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use twinlane_testkit::client::{Follower, Outgoing, Producer, Record};
use twinlane_testkit::{Broker, BrokerOptions, client};

use crate::cores::Cores;
use crate::limit::{Pace, Stretch, WARM_UP};
use crate::progress::Pulse;
use crate::services::{How, READY_LIMIT, Running};
use crate::workload::{Event, PARTITIONS, SOURCE, Workload};

/// One drain of a scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drain {
    /// What its figures are called.
    pub(crate) name: String,
    pub(crate) workload: Workload,
    /// How many events lie on the topic.
    pub(crate) events: usize,
    /// How many replicas of the service share the work, all on the measured core.
    #[serde(default = "one")]
    pub(crate) replicas: usize,
    /// How many routes the pipeline has; as many as it needs, unless said otherwise.
    pub(crate) routes: Option<usize>,
    /// Measure Kafka's limits, and hold our plain consumer and producer against librdkafka's own tool.
    #[serde(default)]
    pub(crate) against_the_tool: bool,
    /// Measure no limits.
    #[serde(default)]
    pub(crate) alone: bool,
    /// Events per second should be this part of what ONNX Runtime alone reaches, which is measured then.
    pub(crate) of_onnx_runtime: Option<f64>,
    /// Events per second should be this part of what a bare transactional loop reaches; Kafka's limits are measured then.
    pub(crate) of_transactions: Option<f64>,
}

fn one() -> usize {
    1
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Drained {
    pub(crate) pace: Pace,
    /// Mean bytes of a record read: key, value and headers.
    pub(crate) bytes_in: f64,
    /// Mean bytes of a record written.
    pub(crate) bytes_out: f64,
    /// Mean events in a batch; none where no model runs.
    pub(crate) batch: Option<f64>,
    /// Mean records in a transaction.
    pub(crate) window: Option<f64>,
    /// Resident memory of the first replica at the end, in bytes.
    pub(crate) resident: u64,
    /// From the start of the process to reading the first committed answer.
    pub(crate) first_answer: Duration,
    /// Seconds from the start of the service, and events that were answered by then.
    pub(crate) course: Vec<(f64, f64)>,
}

const QUIET: Duration = Duration::from_secs(30);
const SAMPLE: Duration = Duration::from_millis(250);

/// A broker with a topic of events, kept away from the measured core.
pub(crate) struct Filled {
    pub(crate) broker: Broker,
    bytes_in: f64,
}

impl Filled {
    /// Starts a broker and fills the topic.
    pub(crate) fn start(drain: &Drain, cores: &Cores, data: &Path) -> Result<Self> {
        let events = drain.workload.events(data, drain.events, None)?;
        let broker = Broker::start_own(&BrokerOptions::default())?;
        for process in broker.process_ids() {
            cores.put_aside(process)?;
        }
        let bootstrap = broker.bootstrap();
        for topic in drain.workload.outputs().iter().chain([&SOURCE]) {
            client::create_topic(bootstrap, topic, PARTITIONS, &[])?;
        }
        let producer = Producer::new(bootstrap)?;
        let mut bytes = 0;
        for Event { key, value, .. } in &events {
            let (key, value) = (key.as_bytes(), value.as_slice());
            bytes += key.len() + value.len();
            let event = Outgoing { topic: SOURCE, key: Some(key), value: Some(value), ..Default::default() };
            producer.send(&event, ())?;
        }
        producer.flush()?;
        Ok(Self { broker, bytes_in: bytes as f64 / events.len() as f64 })
    }

    /// Runs the service on the measured core until every event is answered.
    pub(crate) fn drain(&self, drain: &Drain, how: How<'_>, interrupted: &AtomicBool) -> Result<Drained> {
        let follower = Follower::from_beginning(how.brokers, drain.workload.outputs())?;
        let service = drain.workload.service();
        let began = Instant::now();
        let spawn =
            |replica| Running::spawn(service, &format!("{}-{service}-{replica}", drain.name), replica, how);
        let mut replicas = (0..drain.replicas).map(spawn).collect::<Result<Vec<_>>>()?;
        let (all, warm) = (drain.events as u64, (drain.events as f64 * WARM_UP) as u64);
        let mut stretch = Stretch::of_all(replicas.iter_mut().map(Running::process).collect());
        let (mut first_answer, mut ready) = (None, false);
        let (mut count, mut bytes, mut last) = (0, 0, began);
        let (mut pulse, mut course, mut sampled) = (Pulse::new(), Vec::new(), began);
        while count < all {
            if interrupted.load(Ordering::SeqCst) {
                bail!("interrupted; everything is stopped");
            }
            match follower.next(Duration::from_millis(100), size)? {
                Some(size) => {
                    (count, bytes, last) = (count + 1, bytes + size, Instant::now());
                    first_answer.get_or_insert_with(|| began.elapsed());
                    if count >= warm && ready && !stretch.has_begun() {
                        stretch.at(count)?;
                    }
                }
                None => {
                    replicas.iter_mut().try_for_each(Running::check)?;
                    ensure!(
                        last.elapsed() < if count == 0 { READY_LIMIT } else { QUIET },
                        "{count} of {all} events are answered, and no more come; see {}",
                        replicas[0].log().display()
                    );
                }
            }
            if sampled.elapsed() >= SAMPLE {
                sampled = Instant::now();
                course.push((began.elapsed().as_secs_f64(), count as f64));
                ready = replicas.iter_mut().all(Running::is_ready);
            }
            pulse.show(|| format!("{count} of {all} events"));
        }
        stretch.at(count)?;
        let mean = |metric| -> Result<Option<f64>> { replicas[0].mean(metric) };
        let (batch, window) = (mean("twinlane_batch_size")?, mean("twinlane_window_records")?);
        let drained = Drained {
            pace: stretch.pace().with_context(|| format!("draining with {service}"))?,
            bytes_in: self.bytes_in,
            bytes_out: bytes as f64 / count as f64,
            batch,
            window,
            resident: replicas[0].usage()?.resident,
            first_answer: first_answer.context("there is an answer")?,
            course,
        };
        replicas.into_iter().try_for_each(Running::stop)?;
        Ok(drained)
    }
}

/// Bytes of key, value and headers.
fn size(record: &Record<'_>) -> usize {
    let headers = record.headers();
    let headers = headers.iter().map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len)).sum::<usize>();
    record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len) + headers
}
