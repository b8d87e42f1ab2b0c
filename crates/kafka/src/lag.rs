//! How far a stage is behind on each of its partitions. The committed offsets are those that the group said when a partition
//! was assigned and those that this process has committed since; a transaction commits them by the producer, so the
//! consumer's own bookkeeping never sees them. Where a log ends only its leader knows: a thread of its own asks, since
//! neither the consumer's nor the stage's may wait for an answer.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::{Gauge, gauge};
use rdkafka::{Offset, consumer::Consumer as _};
use twinlane_delivery::TopicPartition;

use crate::{consumer::Client, membership::Current, metric_names::LAG, pause, start::Start};

const EVERY: Duration = Duration::from_secs(5);
/// A process that ends does not wait longer for the thread to let go of the client.
const STEP: Duration = Duration::from_secs(1);
/// For a leader that does not answer; then the last known lag stands.
const PATIENCE: Duration = Duration::from_millis(500);

/// The group's committed offset of each partition, as far as it is known here.
#[derive(Default)]
pub(crate) struct Committed(Mutex<HashMap<TopicPartition, i64>>);

impl Committed {
    fn lock(&self) -> MutexGuard<'_, HashMap<TopicPartition, i64>> {
        // Each offset is whole whatever panicked while it was locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the group said when it was asked.
    pub(crate) fn said(&self, partition: &TopicPartition, start: &Start) {
        let offset = match *start {
            Start::From(Offset::Offset(offset)) => Some(offset),
            // None is committed: everything in the log is to be read.
            Start::From(_) => None,
            Start::Skipping { first, .. } => Some(first),
            Start::Halted { committed, .. } => Some(committed),
            Start::Behind { passed, .. } => Some(passed),
        };
        match offset {
            Some(offset) => drop(self.lock().insert(partition.clone(), offset)),
            None => drop(self.lock().remove(partition)),
        }
    }

    /// A transaction committed this offset.
    pub(crate) fn moved(&self, partition: &TopicPartition, offset: i64) {
        let mut offsets = self.lock();
        match offsets.get_mut(partition) {
            Some(known) => *known = offset,
            None => drop(offsets.insert(partition.clone(), offset)),
        }
    }

    fn of(&self, partition: &TopicPartition) -> Option<i64> {
        self.lock().get(partition).copied()
    }
}

/// How far a stage is on one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The offset from which a successor would read; none is committed yet where it is absent.
    pub committed: Option<i64>,
    /// Offsets to go.
    pub lag: i64,
}

/// How far a stage is on each of its partitions, and whether brokers answer. Clones tell the same.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    positions: BTreeMap<TopicPartition, Position>,
    /// Rounds in which no broker answered, one after another.
    unanswered: u32,
}

/// Brokers that are restarted are away for a round or two.
const CUT_OFF: u32 = 3;

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Told> {
        // Each round is put in as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of each partition that the stage reads, as of the last round, at most a few seconds ago.
    pub fn positions(&self) -> Vec<(TopicPartition, Position)> {
        self.lock().positions.iter().map(|(partition, position)| (partition.clone(), *position)).collect()
    }

    /// Whether no broker has answered for about a quarter of a minute.
    pub fn is_cut_off(&self) -> bool {
        self.lock().unanswered >= CUT_OFF
    }

    fn tell(&self, positions: BTreeMap<TopicPartition, Position>, answered: bool) {
        let mut told = self.lock();
        told.positions = positions;
        told.unanswered = if answered { 0 } else { told.unanswered.saturating_add(1) };
    }
}

/// Sets the gauges, and tells of the progress, until the consumer stops.
pub(crate) fn watch(client: Current, stopping: Arc<AtomicBool>, progress: Progress) {
    let watch = move || {
        let mut gauges = HashMap::new();
        while !stopping.load(Ordering::Acquire) {
            measure(&client.get(), &mut gauges, &stopping, &progress);
            let until = Instant::now() + EVERY;
            while Instant::now() < until && !stopping.load(Ordering::Acquire) {
                pause(STEP);
            }
        }
    };
    let thread = std::thread::Builder::new().name("kafka-lag".into()).spawn(watch);
    thread.expect("the system can start a thread");
}

fn measure(
    client: &Client,
    gauges: &mut HashMap<TopicPartition, Gauge>,
    stopping: &AtomicBool,
    progress: &Progress,
) {
    let context = client.context();
    let held: HashSet<TopicPartition> = context.held().iter().cloned().collect();
    // Another replica tells now; a sum over replicas must not count a partition twice.
    gauges.iter().filter(|(partition, _)| !held.contains(partition)).for_each(|(_, gauge)| gauge.set(0.0));
    let mut positions = BTreeMap::new();
    // Who reads nothing still wants to know whether it could.
    let mut answered = held.is_empty() && knows_a_topic(client);
    for partition in held {
        if stopping.load(Ordering::Acquire) {
            return;
        }
        // Under `read_committed` the end is where the first transaction begins that is still open.
        match client.fetch_watermarks(&partition.topic, partition.partition, PATIENCE) {
            Ok(log) => {
                answered = true;
                let committed = context.group_committed.of(&partition);
                let lag = behind(committed, log);
                positions.insert(partition.clone(), Position { committed, lag });
                gauges.entry(partition).or_insert_with_key(|at| gauge_of(&context.stage, at)).set(lag as f64);
            }
            Err(error) => tracing::debug!(%error, %partition, "the log's end is not known"),
        }
    }
    progress.tell(positions, answered);
}

fn knows_a_topic(client: &Client) -> bool {
    let topics = client.context().topics();
    client.fetch_metadata(topics.first().copied(), PATIENCE).is_ok()
}

fn gauge_of(stage: &str, at: &TopicPartition) -> Gauge {
    gauge!(
        LAG, "stage" => stage.to_owned(), "topic" => at.topic.to_string(), "partition" => at.partition.to_string()
    )
}

/// Offsets to go. Deleted ones are not among them: those count as gone, elsewhere.
fn behind(committed: Option<i64>, (first, end): (i64, i64)) -> i64 {
    (end - committed.unwrap_or(first).max(first)).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: number }
    }

    #[test]
    fn what_is_to_go_lies_between_the_committed_offset_and_the_logs_end() {
        assert_eq!(behind(Some(70), (0, 100)), 30);
        assert_eq!(behind(None, (40, 100)), 60, "nothing is committed");
        assert_eq!(behind(Some(10), (40, 100)), 60, "30 are gone");
        assert_eq!(behind(Some(120), (0, 100)), 0, "the topic is another one");
    }

    #[test]
    fn the_last_commit_counts_whoever_told_of_it() {
        let committed = Committed::default();
        assert_eq!(committed.of(&partition(0)), None);
        committed.said(&partition(0), &Start::From(Offset::Offset(5)));
        committed.moved(&partition(0), 9);
        committed.moved(&partition(1), 2);
        assert_eq!([0, 1].map(|at| committed.of(&partition(at))), [Some(9), Some(2)]);
        committed.said(&partition(0), &Start::Halted { committed: 3, log: (7, 9) });
        committed.said(&partition(1), &Start::From(Offset::Beginning));
        assert_eq!([0, 1].map(|at| committed.of(&partition(at))), [Some(3), None]);
    }

    #[test]
    fn one_round_without_an_answer_is_no_cut_and_one_answer_ends_it() {
        let progress = Progress::default();
        let round = |answered| {
            progress.tell(BTreeMap::new(), answered);
            progress.is_cut_off()
        };
        assert!(!progress.is_cut_off(), "nobody was asked yet");
        assert_eq!([false, false, false, true, false].map(round), [false, false, true, false, false]);
    }
}
