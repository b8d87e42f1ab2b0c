//! The verdict: a fresh reader with `read_committed` reads every output and dead-letter topic from its beginning, and
//! every record is held against the account of what was produced. That account is what lies on the source topics, read
//! as freshly: a record there must be answered, also one whose confirmation was lost on its way to the producer, and a
//! broker that crashed may have forgotten. Where the two differ, the report says so; it is the cluster's doing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use anyhow::Result;
use twinlane_testkit::checker::{Checker, Found, Seen, Verdict, coordinates};
use twinlane_testkit::client;

use crate::content::{self, First};
use crate::feed::{Confirmed, ID};
use crate::load::Load;
use crate::shop::{self, DEAD_LETTERS, OUTPUTS, SOURCES, Source};

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
    pub(crate) sources: Sources,
}

/// What lies on the source topics, against what the brokers had confirmed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sources {
    /// Records whose coordinates no confirmation named.
    pub(crate) unconfirmed: u64,
    /// Records of an event that is there already: the brokers took a retry for a new one.
    pub(crate) duplicated: u64,
    /// Confirmed events that are not there.
    pub(crate) vanished: u64,
}

impl Judgement {
    /// Whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.wrong_content == 0
    }
}

/// Reads everything and judges it. No transaction may be open for longer than half a minute.
pub(crate) fn judge(bootstrap: &str, load: &Load, confirmed: &[Confirmed]) -> Result<Judgement> {
    let mut checker = Checker::new();
    let mut numbers: HashMap<(Source, i32, i64), u64> = HashMap::with_capacity(confirmed.len());
    for source in SOURCES {
        client::read_to_end(bootstrap, source.topic(), |record| {
            let id = record.header(ID).and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
            let id = id.expect("the rig alone writes to its source topics");
            let (partition, offset) = (record.partition(), record.offset());
            checker.produced(source.topic(), partition, offset, load.event(id).outcome.expected());
            numbers.insert((source, partition, offset), id);
        })?;
    }
    let sources = compare(&numbers, confirmed);
    let (mut wrong_content, mut examples) = (0, Vec::new());
    let mut first = First::default();
    let topics: Vec<_> = OUTPUTS.map(|(topic, _)| topic).into_iter().chain([DEAD_LETTERS]).collect();
    client::wait_until_settled(bootstrap, &topics, SETTLED)?;
    for topic in topics {
        client::read_to_end(bootstrap, topic, |record| {
            let at = record.header("twinlane-source");
            let number = at.and_then(coordinates).and_then(|(topic, partition, offset)| {
                numbers.get(&(Source::of(topic)?, partition, offset)).copied()
            });
            let event = number.map(|id| (id, load.event(id)));
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
            let fault = content::fault_of_record(&event, id, &at, record);
            let same = || if found == Found::Answer { first.fault_of(&event, record.value()) } else { None };
            if let Some(fault) = fault.or_else(same) {
                wrong_content += 1;
                if examples.len() < EXAMPLES {
                    examples.push(format!("{at} at {topic}/{partition}/{}: {fault}", record.offset()));
                }
            }
        })?;
    }
    let verdict = checker.verdict();
    if verdict.repeated > 0 {
        examples.extend(routed_again(bootstrap)?);
    }
    Ok(Judgement { verdict, wrong_content, examples, sources })
}

/// Where the router is what repeated: events that stand twice on a lane's topic.
fn routed_again(bootstrap: &str) -> Result<Vec<String>> {
    let (mut seen, mut again) = (HashSet::new(), BTreeMap::<String, u64>::new());
    for topic in shop::lanes(bootstrap)? {
        client::read_to_end(bootstrap, topic, |record| {
            let source = record.header("twinlane-source").unwrap_or_default().to_vec();
            if !seen.insert((topic, source)) {
                *again.entry(format!("{topic}[{}]", record.partition())).or_default() += 1;
            }
        })?;
    }
    Ok(again
        .into_iter()
        .map(|(place, count)| format!("{count} events are routed again on {place}"))
        .collect())
}

fn compare(numbers: &HashMap<(Source, i32, i64), u64>, confirmed: &[Confirmed]) -> Sources {
    let named: HashSet<_> = confirmed.iter().map(|one| (one.source, one.partition, one.offset)).collect();
    let there: HashSet<u64> = numbers.values().copied().collect();
    Sources {
        unconfirmed: numbers.keys().filter(|place| !named.contains(*place)).count() as u64,
        duplicated: (numbers.len() - there.len()) as u64,
        vanished: confirmed.iter().filter(|one| !there.contains(&one.id)).count() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_brokers_confirmed_is_compared_with_what_they_hold() {
        let at = |offset| (Source::Events, 0, offset);
        let numbers = HashMap::from([(at(0), 10), (at(1), 11), (at(2), 11)]);
        let confirmed = [(10, 0), (11, 2), (12, 3)].map(|(id, offset)| Confirmed {
            id,
            source: Source::Events,
            partition: 0,
            offset,
        });
        let Sources { unconfirmed, duplicated, vanished } = compare(&numbers, &confirmed);
        assert_eq!((unconfirmed, duplicated, vanished), (1, 1, 1));
    }
}
