//! What was sent again: a compacted topic, `<pipeline>.redriven`, that has a record per redriven dead letter. Its key is
//! where the dead letter stands, its value says where the event went. Each is written in the transaction that sends
//! its event, so that whoever reads the topic to its stable end knows what was sent: all of it, and nothing else.
//!
//! A tombstone under a key forgets that its dead letter was sent. One more record, under the key `run`, names the run that
//! began last: a run that is fenced learns from it whether another one began, or only its own transaction timed out
//! while the brokers were away, which the protocol does not tell apart.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Value as Json, json};
use twinlane_kafka::{Connection, Error, Outgoing, Span, Topics};
use twinlane_pipeline::Plan;
use twinlane_record::{Coordinates, Headers};
use twinlane_service::Failure;

use super::{CLIENT, letter::Letter};

/// What is known of a dead letter that was sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Which letter it was: its source coordinates and its time of death. A topic that was made anew gives its
    /// offsets a second time, to other letters.
    letter: Option<(Coordinates, i64)>,
    /// Where it went, `topic/partition`.
    pub(crate) to: String,
    /// When, milliseconds since the Unix epoch.
    pub(crate) time_ms: i64,
}

/// Who sent an event again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Us,
    Others,
}

/// All that was sent again of one dead-letter topic.
#[derive(Debug)]
pub(crate) struct Redriven {
    dead_letters: Arc<str>,
    entries: HashMap<(i32, i64), Entry>,
    latest_run: Option<String>,
}

/// The key of the record that names the latest run; no dead letter stands at such coordinates.
const RUN: &str = "run";

/// The topic's name.
pub(crate) fn topic(plan: &Plan) -> Result<Arc<str>, Failure> {
    let name = format!("{}.redriven", plan.pipeline);
    let others = plan.topics().into_iter().map(|topic| topic.name);
    let mut others = others.chain(plan.sources.iter().map(|source| source.topic.clone()));
    if others.any(|other| *other == name) {
        return Err(Failure::Invalid(format!(
            "topic `{name}` is where redriven dead letters are recorded, and the pipeline uses it for something else; give that another name"
        )));
    }
    Ok(name.into())
}

/// Makes the topic if it is not there; true if it was made.
pub(crate) fn create(topics: &Topics, topic: &Arc<str>) -> Result<bool, Error> {
    Ok(!topics.create_missing(&[(topic.clone(), 1)], &[("cleanup.policy", "compact")])?.is_empty())
}

impl Redriven {
    /// Nothing was sent yet.
    pub(crate) fn new(dead_letters: &Arc<str>) -> Self {
        Self { dead_letters: dead_letters.clone(), entries: HashMap::new(), latest_run: None }
    }

    /// Reads the topic to its stable end. One that is not there holds nothing.
    pub(crate) fn read(
        connection: &Connection,
        topics: &Topics,
        topic: &Arc<str>,
        dead_letters: &Arc<str>,
    ) -> Result<Self, Error> {
        let mut redriven = Self::new(dead_letters);
        let facts = match topics.describe(std::slice::from_ref(topic)) {
            Ok(facts) => facts,
            Err(Error::MissingTopic(_)) => return Ok(redriven),
            Err(error) => return Err(error),
        };
        let partitions = facts.get(topic).map_or(0, |facts| facts.partitions);
        let mut reader = Span::of(connection, CLIENT, topic, partitions)?.read(connection, CLIENT)?;
        while let Some(record) = reader.next_record()? {
            redriven.put(record.key.as_deref(), record.value.as_deref());
        }
        Ok(redriven)
    }

    /// Takes a record of the topic.
    pub(crate) fn put(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        if key == Some(RUN.as_bytes()) {
            self.latest_run = value.map(|value| String::from_utf8_lossy(value).into_owned());
        }
        let Some(at) = self.place(key) else { return };
        match value {
            Some(value) => self.entries.insert(at, entry(value)),
            None => self.entries.remove(&at),
        };
    }

    fn place(&self, key: Option<&[u8]>) -> Option<(i32, i64)> {
        let at: Coordinates = std::str::from_utf8(key?).ok()?.parse().ok()?;
        (at.topic == self.dead_letters).then_some((at.partition, at.offset))
    }

    /// Who sent the dead letter of this entry: this very entry's transaction, or another.
    pub(crate) fn sent_by(&self, entry: &Outgoing) -> Option<By> {
        let known = self.entries.get(&self.place(entry.key.as_deref())?)?;
        let asked = self::entry(entry.value.as_deref()?);
        match known.letter == asked.letter || known.letter.is_none() {
            true => Some(if *known == asked { By::Us } else { By::Others }),
            false => None,
        }
    }

    /// Whether no run has begun since this one.
    pub(crate) fn is_latest(&self, run: &str) -> bool {
        self.latest_run.as_deref() == Some(run)
    }

    /// What became of a dead letter, if it was sent again.
    pub(crate) fn of(&self, letter: &Letter<'_>) -> Option<&Entry> {
        let at = &letter.record.at;
        if at.topic != self.dead_letters {
            return None;
        }
        let entry = self.entries.get(&(at.partition, at.offset))?;
        // An entry that says nothing still stands for something that was sent.
        let is_it = |(source, died): &(Coordinates, i64)| {
            *source == letter.dead.source && *died == letter.dead.time_ms
        };
        entry.letter.as_ref().is_none_or(is_it).then_some(entry)
    }

    /// Takes down that this letter goes to `sent`'s topic, and gives the record that says so to others.
    pub(crate) fn enter(
        &mut self,
        topic: &Arc<str>,
        letter: &Letter<'_>,
        sent: &Outgoing,
        now_ms: i64,
    ) -> Outgoing {
        let at = &letter.record.at;
        let to = format!("{}/{}", sent.topic, sent.partition);
        let (source, died) = (letter.dead.source.clone(), letter.dead.time_ms);
        let value =
            json!({ "source": source.to_string(), "died": died, "to": to, "redriven": now_ms }).to_string();
        let entry = Entry { letter: Some((source, died)), to, time_ms: now_ms };
        self.entries.insert((at.partition, at.offset), entry);
        Outgoing {
            topic: topic.clone(),
            partition: 0,
            key: Some(at.to_string().into()),
            value: Some(value.into()),
            headers: Headers::default(),
            timestamp_ms: Some(now_ms),
        }
    }
}

/// The record that names the run that began last.
pub(crate) fn begun(topic: &Arc<str>, run: &str) -> Outgoing {
    Outgoing {
        topic: topic.clone(),
        partition: 0,
        key: Some(RUN.into()),
        value: Some(run.to_owned().into()),
        headers: Headers::default(),
        timestamp_ms: None,
    }
}

fn entry(value: &[u8]) -> Entry {
    let json: Json = serde_json::from_slice(value).unwrap_or_default();
    let source = json["source"].as_str().and_then(|source| source.parse().ok());
    Entry {
        letter: source.zip(json["died"].as_i64()),
        to: json["to"].as_str().unwrap_or("?").to_owned(),
        time_ms: json["redriven"].as_i64().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use twinlane_record::{DeadLetter, Envelope, Reason};

    use super::*;

    fn at(offset: i64) -> Coordinates {
        Coordinates { topic: "dead".into(), partition: 1, offset }
    }

    fn record(offset: i64) -> Envelope {
        Envelope { at: at(offset), timestamp_ms: None, key: None, value: None, headers: Headers::default() }
    }

    fn letter(record: &Envelope) -> Letter<'_> {
        let dead = DeadLetter {
            route: None,
            source: Coordinates { topic: "events".into(), partition: 2, offset: 40 },
            stage: "router".into(),
            reason: Reason::NoRoute,
            detail: String::new(),
            model_digest: None,
            time_ms: 9,
            deaths: 1,
        };
        Letter { record, dead, route: None, task: None, is_truncated: false }
    }

    /// What the next run reads of what this one entered.
    fn read_back(entered: &Outgoing) -> Redriven {
        let mut redriven = Redriven::new(&"dead".into());
        redriven.put(entered.key.as_deref(), entered.value.as_deref());
        redriven
    }

    fn enter(offset: i64) -> Outgoing {
        let sent = Outgoing {
            topic: "events".into(),
            partition: 2,
            key: None,
            value: None,
            headers: Headers::default(),
            timestamp_ms: None,
        };
        let mut redriven = Redriven::new(&"dead".into());
        let entered = redriven.enter(&"shop.redriven".into(), &letter(&record(offset)), &sent, 77);
        assert!(redriven.of(&letter(&record(offset))).is_some(), "the run that sends it knows it, too");
        entered
    }

    #[test]
    fn what_one_run_enters_the_next_reads() {
        let redriven = read_back(&enter(5));
        let known = redriven.of(&letter(&record(5))).expect("known").clone();
        assert_eq!((known.to.as_str(), known.time_ms), ("events/2", 77));
        assert_eq!(redriven.of(&letter(&record(6))), None);
    }

    #[test]
    fn the_run_that_began_last_is_known() {
        let mut redriven = Redriven::new(&"dead".into());
        assert!(!redriven.is_latest("a"));
        for run in ["a", "b"] {
            let begun = begun(&"shop.redriven".into(), run);
            redriven.put(begun.key.as_deref(), begun.value.as_deref());
        }
        assert!(redriven.is_latest("b") && !redriven.is_latest("a") && redriven.entries.is_empty());
    }

    #[test]
    fn after_an_unclear_end_the_topic_says_whose_transaction_sent_it() {
        let mut entered = enter(5);
        assert_eq!(Redriven::new(&"dead".into()).sent_by(&entered), None);
        let redriven = read_back(&entered);
        assert_eq!(redriven.sent_by(&entered), Some(By::Us));
        let value = entered.value.as_deref().map(String::from_utf8_lossy).expect("a value");
        entered.value = Some(value.replace("\"redriven\":77", "\"redriven\":78").into());
        assert_eq!(redriven.sent_by(&entered), Some(By::Others));
    }

    #[test]
    fn a_topic_made_anew_gives_old_offsets_to_letters_that_were_never_sent() {
        let redriven = read_back(&enter(5));
        let record = record(5);
        let mut other = letter(&record);
        other.dead.time_ms += 1;
        assert_eq!(redriven.of(&other), None);
    }

    #[test]
    fn an_entry_that_nobody_can_read_counts_as_sent_and_a_tombstone_forgets_it() {
        let mut redriven = Redriven::new(&"dead".into());
        let key = at(5).to_string().into_bytes();
        redriven.put(Some(&key), Some(b"{"));
        assert!(redriven.of(&letter(&record(5))).is_some());
        redriven.put(Some(&key), None);
        assert!(redriven.of(&letter(&record(5))).is_none());
    }

    #[test]
    fn entries_of_another_dead_letter_topic_and_strangers_say_nothing() {
        let mut redriven = Redriven::new(&"dead".into());
        for key in ["other/1/5", "dead", ""] {
            redriven.put(Some(key.as_bytes()), Some(b"{}"));
        }
        assert!(redriven.entries.is_empty());
    }
}
