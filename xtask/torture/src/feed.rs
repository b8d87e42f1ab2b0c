//! Produces the events at a steady rate on a thread of its own, whatever happens to the brokers, and keeps the account
//! of what they confirmed.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use twinlane_testkit::client::{Delivered, Outgoing, Producer};
use twinlane_testkit::wait;

use crate::load::Load;
use crate::shop::{SOURCE_PARTITIONS, Source};

/// The event's number, which its answer keeps as a header of the event's own.
pub(crate) const ID: &str = "torture-id";
/// When it was produced, in microseconds since the rig's start.
pub(crate) const AT: &str = "torture-at";
/// A header that every event has.
pub(crate) const TENANT: (&str, &[u8]) = ("tenant", b"a");

/// Longer than brokers are ever away: an event that is given up may be there all the same, and nobody would know.
const PATIENCE: Duration = Duration::from_secs(900);

/// What is known of an event that the brokers confirmed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Confirmed {
    pub(crate) id: u64,
    pub(crate) source: Source,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// The producer of events.
pub(crate) struct Feed {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

struct Shared {
    producer: Producer<(u64, Source)>,
    load: Arc<Load>,
    per_second: f64,
    began: Instant,
    partitions: [AtomicI32; 2],
    sent: AtomicU64,
    stop: AtomicBool,
    confirmed: Mutex<Vec<Confirmed>>,
}

impl Feed {
    /// Starts to produce; `began` is the moment from which the events' times count.
    pub(crate) fn start(bootstrap: &str, load: Arc<Load>, per_second: f64, began: Instant) -> Result<Self> {
        let shared = Arc::new(Shared {
            producer: Producer::patient(bootstrap, PATIENCE)?,
            load,
            per_second,
            began,
            partitions: [AtomicI32::new(SOURCE_PARTITIONS), AtomicI32::new(SOURCE_PARTITIONS)],
            sent: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            confirmed: Mutex::default(),
        });
        let runner = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("feed".into()).spawn(move || runner.run());
        Ok(Self { shared, thread: Some(thread.context("starting a thread")?) })
    }

    /// How many events were handed to the producer.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// How many partitions of this source get events.
    pub(crate) fn partitions(&self, source: Source) -> i32 {
        self.shared.partitions[source as usize].load(Ordering::Relaxed)
    }

    /// Spreads events over so many partitions from now on.
    pub(crate) fn set_partitions(&self, source: Source, count: i32) {
        self.shared.partitions[source as usize].store(count, Ordering::Relaxed);
    }

    /// Fails when the thread has ended by itself; [`Feed::finish`] says why.
    pub(crate) fn check(&self) -> Result<()> {
        let runs = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        ensure!(runs, "the producer of events ended by itself");
        Ok(())
    }

    /// Stops, waits until everything is confirmed, and gives the account.
    pub(crate) fn finish(mut self) -> Result<Vec<Confirmed>> {
        self.join()?;
        let delivered =
            self.shared.producer.flush().context("an event could not be delivered for certain")?;
        let mut all = self.shared.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(delivered.into_iter().map(confirmed));
        Ok(std::mem::take(&mut *all))
    }

    fn join(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), |thread| thread.join().expect("the feed does not panic"))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn run(&self) -> Result<()> {
        let start = Instant::now();
        let mut next = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let due = (start.elapsed().as_secs_f64() * self.per_second) as u64;
            while next < due && !self.stop.load(Ordering::Relaxed) {
                self.send(next)?;
                next += 1;
            }
            let delivered = self.producer.take_delivered();
            let mut all = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(delivered.into_iter().map(confirmed));
            drop(all);
            wait::pause_for(Duration::from_millis(5));
        }
        Ok(())
    }

    fn send(&self, id: u64) -> Result<()> {
        let event = self.load.event(id);
        let partitions = self.partitions[event.source as usize].load(Ordering::Relaxed);
        let at = self.began.elapsed().as_micros().to_string();
        let id_text = id.to_string();
        let outgoing = Outgoing {
            topic: event.source.topic(),
            partition: Some((event.spread % partitions as u64) as i32),
            key: event.key.as_deref().map(str::as_bytes),
            value: event.value.as_deref(),
            headers: &[TENANT, (ID, id_text.as_bytes()), (AT, at.as_bytes())],
            time_ms: None,
        };
        self.producer.send(&outgoing, (id, event.source))?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn confirmed(delivered: Delivered<(u64, Source)>) -> Confirmed {
    let Delivered { tag: (id, source), partition, offset, .. } = delivered;
    Confirmed { id, source, partition, offset }
}
