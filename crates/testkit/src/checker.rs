//! Says what became of every event: answered once, lost, answered again, or out of order.
//!
//! It knows two things only: the account of what was produced (coordinates from the broker's own delivery reports), and
//! the records on the output and dead-letter topics, each of which names its source in the header `twinlane-source` as
//! `topic/partition/offset`. The header is read here by this file's own few lines.
//!
//! Order is judged per source partition on one stream: an output topic's partition, and for dead letters the stage too,
//! since two stages share that topic. A second answer counts as repeated and is not judged for order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// What an event must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expected {
    /// A record on an output topic.
    Answer,
    /// A dead letter.
    DeadLetter,
    /// No record at all.
    Skip,
    /// Either of the first two: the test does not know which.
    AnswerOrDeadLetter,
}

/// Where a record was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Found {
    /// On an output topic.
    Answer,
    /// On a dead-letter topic.
    DeadLetter,
}

/// One record of an output or dead-letter topic, in the order in which the topic's partition holds them.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The topic it was found on.
    pub topic: &'a str,
    /// The partition it was found on.
    pub partition: i32,
    /// Whether that is an output or a dead-letter topic.
    pub found: Found,
    /// The stage that a dead letter names, empty for an answer.
    pub stage: &'a str,
    /// The header `twinlane-source`, as it was.
    pub source: Option<&'a [u8]>,
}

#[derive(Debug)]
struct Entry {
    expected: Expected,
    answers: u32,
    first: Option<Found>,
}

/// The account of what was produced, and what was found of it so far.
#[derive(Debug, Default)]
pub struct Checker {
    events: HashMap<Arc<str>, HashMap<(i32, i64), Entry>>,
    produced: u64,
    // Per source topic and partition, and stream: the highest source offset seen there.
    order: HashMap<(Arc<str>, i32, Stream), i64>,
    spread: HashMap<(Arc<str>, i32, Arc<str>), HashSet<i32>>,
    names: HashSet<Arc<str>>,
    verdict: Verdict,
}

type Stream = (Arc<str>, i32, Arc<str>);

/// How many examples of each failing are kept, for a person to look into.
const EXAMPLES: usize = 10;

/// What became of the events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Events that were produced.
    pub produced: u64,
    /// Events with exactly the right kind of outcome, counted once: answers, dead letters, and skips.
    pub answered: u64,
    /// Events that have an answer.
    pub scored: u64,
    /// Events that have a dead letter.
    pub dead_lettered: u64,
    /// Events that were to be skipped and have neither.
    pub skipped: u64,
    /// Events that have neither and were not to be skipped.
    pub lost: u64,
    /// Records beyond the first for the same event.
    pub repeated: u64,
    /// Records that follow, on their stream, one with a later source offset of the same source partition.
    pub reordered: u64,
    /// Events that came to something else than was expected: an answer for a dead letter, or the reverse.
    pub misjudged: u64,
    /// Records that name no event of the account.
    pub foreign: u64,
    /// Source partitions whose answers on one topic are spread over several of its partitions.
    pub scattered: u64,
    /// Where records were repeated: the source partition and the output partition, with how many of which offsets.
    pub repeats: BTreeMap<String, Span>,
    /// Some of the failings, readable.
    pub examples: Vec<String>,
}

/// Offsets of one source partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// How many.
    pub count: u64,
    /// The lowest.
    pub first: i64,
    /// The highest.
    pub last: i64,
}

impl Verdict {
    /// Whether every event was answered once, as expected, and in order.
    pub fn is_clean(&self) -> bool {
        [self.lost, self.repeated, self.reordered, self.misjudged, self.foreign, self.scattered] == [0; 6]
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} produced, {} answered ({} scored, {} dead-lettered, {} skipped), {} lost, {} repeated, {} reordered, \
             {} misjudged, {} foreign, {} scattered",
            self.produced,
            self.answered,
            self.scored,
            self.dead_lettered,
            self.skipped,
            self.lost,
            self.repeated,
            self.reordered,
            self.misjudged,
            self.foreign,
            self.scattered
        )?;
        for (place, Span { count, first, last }) in &self.repeats {
            write!(out, "\n  {count} of {place} are answered again, from offset {first} to {last}")?;
        }
        self.examples.iter().try_for_each(|example| write!(out, "\n  {example}"))
    }
}

impl Checker {
    /// An empty account.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters an event that the broker has confirmed.
    pub fn produced(&mut self, topic: &str, partition: i32, offset: i64, expected: Expected) {
        let topic = self.name(topic);
        let entry = Entry { expected, answers: 0, first: None };
        let before = self.events.entry(topic).or_default().insert((partition, offset), entry);
        assert!(before.is_none(), "the broker gave two events the same coordinates");
        self.produced += 1;
    }

    /// Takes the next record of an output or dead-letter topic.
    pub fn seen(&mut self, seen: &Seen<'_>) {
        let place = format_args!("{}[{}]", seen.topic, seen.partition).to_string();
        let Some((topic, partition, offset)) = seen.source.and_then(coordinates) else {
            return self.foreign(|| format!("a record on {place} names no source"));
        };
        let entry = self.events.get_mut(topic).and_then(|events| events.get_mut(&(partition, offset)));
        let Some(entry) = entry else {
            return self.foreign(|| {
                format!("a record on {place} names {topic}/{partition}/{offset}, which nobody produced")
            });
        };
        entry.answers += 1;
        if entry.answers > 1 {
            self.verdict.repeated += 1;
            let span = self.verdict.repeats.entry(format!("{topic}/{partition} on {place}"));
            let span = span.or_insert(Span { count: 0, first: offset, last: offset });
            *span =
                Span { count: span.count + 1, first: span.first.min(offset), last: span.last.max(offset) };
            return self.example(|| format!("{topic}/{partition}/{offset} is answered again on {place}"));
        }
        entry.first = Some(seen.found);

        let (source, output, stage) = (self.name(topic), self.name(seen.topic), self.name(seen.stage));
        if seen.found == Found::Answer {
            let spread =
                self.spread.entry((Arc::clone(&source), partition, Arc::clone(&output))).or_default();
            spread.insert(seen.partition);
        }
        let stream = (output, seen.partition, stage);
        let highest = self.order.entry((source, partition, stream)).or_insert(offset);
        if offset < *highest {
            let highest = *highest;
            self.verdict.reordered += 1;
            self.example(|| format!("{topic}/{partition}/{offset} comes after {highest} on {place}"));
        } else {
            *highest = offset;
        }
    }

    /// Whether every event has come to what was expected of it; skips count as done. For knowing when to stop waiting.
    pub fn is_complete(&self) -> bool {
        self.entries().all(|(_, entry)| entry.answers > 0 || entry.expected == Expected::Skip)
    }

    /// What became of the events so far.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = self.verdict.clone();
        verdict.produced = self.produced;
        verdict.scattered = self.spread.values().filter(|partitions| partitions.len() > 1).count() as u64;
        for (source, entry) in self.entries() {
            let (topic, partition, offset) = source;
            let right = match (entry.first, entry.expected) {
                (None, Expected::Skip) => {
                    verdict.skipped += 1;
                    true
                }
                (None, _) => {
                    verdict.lost += 1;
                    if verdict.examples.len() < EXAMPLES {
                        verdict.examples.push(format!("{topic}/{partition}/{offset} is lost"));
                    }
                    continue;
                }
                (Some(Found::Answer), expected) => {
                    verdict.scored += 1;
                    matches!(expected, Expected::Answer | Expected::AnswerOrDeadLetter)
                }
                (Some(Found::DeadLetter), expected) => {
                    verdict.dead_lettered += 1;
                    matches!(expected, Expected::DeadLetter | Expected::AnswerOrDeadLetter)
                }
            };
            if right {
                verdict.answered += 1;
            } else {
                verdict.misjudged += 1;
                if verdict.examples.len() < EXAMPLES {
                    verdict.examples.push(format!(
                        "{topic}/{partition}/{offset} was to be {:?} and is {:?}",
                        entry.expected, entry.first
                    ));
                }
            }
        }
        verdict
    }

    fn entries(&self) -> impl Iterator<Item = ((&str, i32, i64), &Entry)> {
        self.events.iter().flat_map(|(topic, events)| {
            events.iter().map(move |(&(partition, offset), entry)| ((&**topic, partition, offset), entry))
        })
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.names.insert(Arc::clone(&name));
        name
    }

    fn foreign(&mut self, what: impl FnOnce() -> String) {
        self.verdict.foreign += 1;
        self.example(what);
    }

    fn example(&mut self, what: impl FnOnce() -> String) {
        if self.verdict.examples.len() < EXAMPLES {
            self.verdict.examples.push(what());
        }
    }
}

/// Reads `topic/partition/offset`. Kafka's topic names have no slash.
pub fn coordinates(header: &[u8]) -> Option<(&str, i32, i64)> {
    let mut parts = std::str::from_utf8(header).ok()?.split('/');
    let (topic, partition, offset) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some((topic, partition.parse().ok()?, offset.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(events: i64) -> Checker {
        let mut checker = Checker::new();
        (0..events).for_each(|offset| checker.produced("in", 0, offset, Expected::Answer));
        checker
    }

    fn answer(checker: &mut Checker, source: &str) {
        checker.seen(&Seen {
            topic: "out",
            partition: 0,
            found: Found::Answer,
            stage: "",
            source: Some(source.as_bytes()),
        });
    }

    fn dead(checker: &mut Checker, source: &str, stage: &str) {
        checker.seen(&Seen {
            topic: "dead",
            partition: 0,
            found: Found::DeadLetter,
            stage,
            source: Some(source.as_bytes()),
        });
    }

    #[test]
    fn a_history_without_a_failing_is_clean() {
        let mut checker = account(3);
        checker.produced("in", 0, 3, Expected::Skip);
        checker.produced("in", 0, 4, Expected::DeadLetter);
        (0..3).for_each(|offset| answer(&mut checker, &format!("in/0/{offset}")));
        assert!(!checker.is_complete());
        dead(&mut checker, "in/0/4", "router");
        assert!(checker.is_complete());
        let verdict = checker.verdict();
        assert!(verdict.is_clean(), "{verdict}");
        assert_eq!((verdict.answered, verdict.scored, verdict.dead_lettered, verdict.skipped), (5, 3, 1, 1));
    }

    #[test]
    fn one_loss_one_repetition_and_one_swap_are_each_found() {
        let mut checker = account(6);
        for source in ["in/0/0", "in/0/2", "in/0/1", "in/0/3", "in/0/3", "in/0/5"] {
            answer(&mut checker, source);
        }
        let verdict = checker.verdict();
        assert_eq!((verdict.lost, verdict.repeated, verdict.reordered), (1, 1, 1), "{verdict}");
        assert!(!verdict.is_clean());
        assert_eq!(verdict.answered, 5);
        assert_eq!(verdict.examples.len(), 3, "{verdict}");
    }

    #[test]
    fn an_answer_and_a_dead_letter_for_one_event_is_a_repetition() {
        let mut checker = account(1);
        answer(&mut checker, "in/0/0");
        dead(&mut checker, "in/0/0", "router");
        assert_eq!(checker.verdict().repeated, 1);
    }

    #[test]
    fn a_dead_letter_for_a_good_event_is_misjudged() {
        let mut checker = account(1);
        dead(&mut checker, "in/0/0", "router");
        let verdict = checker.verdict();
        assert_eq!((verdict.misjudged, verdict.answered, verdict.lost), (1, 0, 0));
    }

    #[test]
    fn order_is_judged_per_source_partition() {
        let mut checker = account(2);
        checker.produced("in", 1, 0, Expected::Answer);
        ["in/0/0", "in/0/1", "in/1/0"].iter().for_each(|source| answer(&mut checker, source));
        assert!(checker.verdict().is_clean());
    }

    #[test]
    fn two_stages_may_dead_letter_side_by_side() {
        let mut checker = account(0);
        (0..2).for_each(|offset| checker.produced("in", 0, offset, Expected::DeadLetter));
        dead(&mut checker, "in/0/1", "router");
        dead(&mut checker, "in/0/0", "precision");
        assert!(checker.verdict().is_clean());
    }

    #[test]
    fn a_record_without_a_known_source_is_foreign() {
        let mut checker = account(0);
        answer(&mut checker, "in/0/7");
        checker.seen(&Seen { topic: "out", partition: 0, found: Found::Answer, stage: "", source: None });
        assert_eq!(checker.verdict().foreign, 2);
    }

    #[test]
    fn answers_of_one_source_partition_on_two_output_partitions_are_scattered() {
        let mut checker = account(2);
        answer(&mut checker, "in/0/0");
        let source = Some(b"in/0/1".as_slice());
        checker.seen(&Seen { topic: "out", partition: 1, found: Found::Answer, stage: "", source });
        assert_eq!(checker.verdict().scattered, 1);
    }
}
