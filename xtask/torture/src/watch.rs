//! Follows the answers while they come: how many there are, and up to which moment's events each lane has answered on
//! each source partition. Recovery and stalls are read off that; the verdict is not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use twinlane_testkit::checker::coordinates;
use twinlane_testkit::client::{Follower, Record};

use crate::feed::AT;
use crate::shop::{DEAD_LETTERS, OUTPUTS, Role, Source};

/// A lane's work on one source partition.
pub(crate) type Strand = (Role, Source, i32);

/// The follower of all answers and dead letters.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    began: Instant,
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

/// A reader that has read nothing of a partition for so long may have locked itself up (librdkafka #5476) or forgotten the
/// partition (#5153, seen here after all brokers had been away), and another one takes over. Short, since what its own
/// reader does not see the rig would take for a service that stands still.
const STUCK: Duration = Duration::from_secs(3);

/// What was seen so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) answers: u64,
    pub(crate) dead_letters: u64,
    /// The longest time between two answers on one strand.
    pub(crate) longest_stall: Duration,
    strands: HashMap<Strand, Progress>,
}

#[derive(Debug, Clone, Copy)]
struct Progress {
    /// When the latest of the answered events was produced, since the rig's start.
    produced: Duration,
    seen: Instant,
}

impl Watch {
    /// Starts to follow; `began` is the moment from which the events' times count.
    pub(crate) fn start(bootstrap: &str, began: Instant) -> Result<Self> {
        let shared = Arc::new(Shared { began, stop: AtomicBool::new(false), seen: Mutex::default() });
        let topics: Vec<&str> = OUTPUTS.iter().map(|(topic, _)| *topic).chain([DEAD_LETTERS]).collect();
        let mut follower = Follower::from_beginning(bootstrap, &topics)?;
        let (runner, bootstrap) = (Arc::clone(&shared), bootstrap.to_owned());
        let run = move || {
            // Where to go on in each partition, and when it was read last.
            let mut places: HashMap<(String, i32), (i64, Instant)> = HashMap::new();
            let (mut began, mut looked) = (Instant::now(), Instant::now());
            while !runner.stop.load(Ordering::Relaxed) {
                // A broker that is away is found again; the verdict reads everything anew anyway.
                let _ = follower.next(Duration::from_millis(100), |record| {
                    runner.take(record);
                    let place = (record.topic().to_owned(), record.partition());
                    places.insert(place, (record.offset() + 1, Instant::now()));
                });
                if looked.elapsed() < STUCK / 6 {
                    continue;
                }
                looked = Instant::now();
                let is_stuck = |read: Instant| read.max(began).elapsed() > STUCK;
                if places.is_empty() && is_stuck(began) || places.values().any(|(_, read)| is_stuck(*read)) {
                    let offsets =
                        places.iter().map(|(place, (offset, _))| (place.clone(), *offset)).collect();
                    // Brokers that are away now are asked again after as long.
                    began = Instant::now();
                    if let Ok(fresh) = Follower::from_offsets(&bootstrap, &topics, &offsets) {
                        let stuck = std::mem::replace(&mut follower, fresh);
                        std::thread::spawn(move || drop(stuck));
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("watch".into()).spawn(run);
        Ok(Self { shared, thread: Some(thread.context("starting a thread")?) })
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.shared.seen().clone()
    }

    /// How many records were seen so far.
    pub(crate) fn count(&self) -> u64 {
        let seen = self.shared.seen();
        seen.answers + seen.dead_letters
    }

    /// The strands of which no answer was seen since `moment`.
    pub(crate) fn silent(&self, moment: Instant, strands: &[Strand]) -> Vec<Strand> {
        let seen = self.shared.seen();
        let is_silent =
            |strand: &&Strand| seen.strands.get(*strand).is_none_or(|progress| progress.seen < moment);
        strands.iter().filter(is_silent).copied().collect()
    }

    /// The strands that have not answered anything yet that was produced after `moment`.
    pub(crate) fn behind(&self, moment: Instant, strands: &[Strand]) -> Vec<Strand> {
        let moment = moment.saturating_duration_since(self.shared.began);
        let seen = self.shared.seen();
        let is_behind =
            |strand: &&Strand| seen.strands.get(*strand).is_none_or(|progress| progress.produced < moment);
        strands.iter().filter(is_behind).copied().collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, record: &Record<'_>) {
        let mut seen = self.seen();
        let Some(lane) = OUTPUTS.iter().find(|(topic, _)| *topic == record.topic()).map(|(_, lane)| *lane)
        else {
            seen.dead_letters += 1;
            return;
        };
        seen.answers += 1;
        let text = |header: &str| std::str::from_utf8(record.header(header)?).ok();
        let source = record.header("twinlane-source").and_then(coordinates);
        let source = source.and_then(|(topic, partition, _)| Some((Source::of(topic)?, partition)));
        let produced = text(AT).and_then(|micros| micros.parse().ok()).map(Duration::from_micros);
        let (Some((source, partition)), Some(produced)) = (source, produced) else { return };
        let now = Instant::now();
        let before = seen.strands.insert((lane, source, partition), Progress { produced, seen: now });
        if let Some(before) = before {
            seen.longest_stall = seen.longest_stall.max(now - before.seen);
        }
    }
}
