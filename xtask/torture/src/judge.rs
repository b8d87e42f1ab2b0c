//! The verdict: a fresh reader with `read_committed` reads every topic from its beginning, and every answer and dead letter
//! is held against the account of what lies on the source topics.
//!
//! What lies there is the account, not what the producer was told: brokers that are killed together may keep an event
//! whose confirmation is lost, so that it is written twice, and that is two events. Both that and an event that was
//! confirmed and is not there are the brokers' or the client's doing, and counted apart.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use twinlane_testkit::checker::{Checker, Found, Seen, Verdict, coordinates};
use twinlane_testkit::client;

use crate::content;
use crate::events::event;
use crate::feed::ID;
use crate::shop::{DEAD_LETTERS, OUTPUTS, SOURCES, Source};

/// How many examples of wrong content are kept.
const EXAMPLES: usize = 10;
/// No transaction lives longer than its time-out and the broker's sweep.
const SETTLED: Duration = Duration::from_secs(60);

/// What became of the events.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) wrong_content: u64,
    pub(crate) examples: Vec<String>,
    /// Events that lie on their source topic more than once.
    pub(crate) written_twice: u64,
    /// Events that the brokers confirmed and that are not on their source topic.
    pub(crate) lost_by_brokers: u64,
}

impl Judgement {
    /// Whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.wrong_content == 0
    }
}

/// Reads everything and judges it. No transaction may be open for longer than half a minute.
pub(crate) fn judge(bootstrap: &str, seed: u64, confirmed: &[u64]) -> Result<Judgement> {
    let mut checker = Checker::new();
    let numbers = written(bootstrap)?;
    for (&(source, partition, offset), &id) in &numbers {
        checker.produced(source.topic(), partition, offset, event(seed, id).outcome.expected());
    }
    let ids: HashSet<u64> = numbers.values().copied().collect();
    let written_twice = (numbers.len() - ids.len()) as u64;
    let lost_by_brokers = confirmed.iter().filter(|id| !ids.contains(id)).count() as u64;
    let (mut wrong_content, mut examples) = (0, Vec::new());
    let topics: Vec<_> = OUTPUTS.map(|(topic, _)| topic).into_iter().chain([DEAD_LETTERS]).collect();
    client::wait_until_settled(bootstrap, &topics, SETTLED)?;
    for topic in topics {
        client::read_to_end(bootstrap, topic, |record| {
            let at = record.header("twinlane-source");
            let number = at.and_then(coordinates).and_then(|(topic, partition, offset)| {
                numbers.get(&(Source::of(topic)?, partition, offset)).copied()
            });
            let event = number.map(|id| (id, event(seed, id)));
            let found = if topic == DEAD_LETTERS { Found::DeadLetter } else { Found::Answer };
            // Order is kept along a route: the tasks of a stage share the topic of dead letters.
            let stage = match (found, &event) {
                (Found::DeadLetter, Some((_, event))) => {
                    let stage = record.header("twinlane-dead-stage").unwrap_or_default();
                    format!("{} {}", String::from_utf8_lossy(stage), event.task)
                }
                _ => String::new(),
            };
            let partition = record.partition();
            checker.seen(&Seen { topic, partition, found, stage: &stage, source: at });
            // A record without a known source is counted by the checker.
            let (Some((id, event)), Some(at)) = (event, at) else { return };
            let at = String::from_utf8_lossy(at);
            if let Some(fault) = content::fault_of_record(&event, id, &at, record) {
                wrong_content += 1;
                if examples.len() < EXAMPLES {
                    examples.push(format!("{at} at {topic}/{partition}/{}: {fault}", record.offset()));
                }
            }
        })?;
    }
    let verdict = checker.verdict();
    Ok(Judgement { verdict, wrong_content, examples, written_twice, lost_by_brokers })
}

/// Number of every event that lies on a source topic, by where it lies.
fn written(bootstrap: &str) -> Result<HashMap<(Source, i32, i64), u64>> {
    let mut numbers = HashMap::new();
    for source in SOURCES {
        let mut unknown = 0;
        client::read_to_end(bootstrap, source.topic(), |record| {
            let number = record.header(ID).and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
            match number {
                Some(id) => drop(numbers.insert((source, record.partition(), record.offset()), id)),
                None => unknown += 1,
            }
        })?;
        ensure!(unknown == 0, "{unknown} records on {} are not the rig's", source.topic());
    }
    Ok(numbers)
}
