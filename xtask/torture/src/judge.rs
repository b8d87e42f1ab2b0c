//! The verdict: a fresh reader with `read_committed` reads every output and dead-letter topic from its beginning, and
//! every record is held against the account of what was produced.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use twinlane_testkit::checker::{Checker, Found, Seen, Verdict, coordinates};
use twinlane_testkit::client;

use crate::content;
use crate::events::event;
use crate::feed::Confirmed;
use crate::shop::{DEAD_LETTERS, OUTPUTS, Source};

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
}

impl Judgement {
    /// Whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.wrong_content == 0
    }
}

/// Reads everything and judges it. No transaction may be open for longer than half a minute.
pub(crate) fn judge(bootstrap: &str, seed: u64, confirmed: &[Confirmed]) -> Result<Judgement> {
    let mut checker = Checker::new();
    let mut numbers: HashMap<(Source, i32, i64), u64> = HashMap::with_capacity(confirmed.len());
    for &Confirmed { id, source, partition, offset } in confirmed {
        checker.produced(source.topic(), partition, offset, event(seed, id).outcome.expected());
        numbers.insert((source, partition, offset), id);
    }
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
    Ok(Judgement { verdict: checker.verdict(), wrong_content, examples })
}
