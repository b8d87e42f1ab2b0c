//! What was found of one event, and how it is told.

use std::{fmt, sync::Arc};

use serde_json::{Value as Json, json};
use twinlane_pipeline::LaneName;
use twinlane_record::{Coordinates, DeadLetter, Envelope, Rejection, headers};

use super::search::Found;
use crate::{dead_letters::Entry, tail::line, text};

/// The event on its source topic.
pub(crate) enum Record {
    There(Envelope),
    /// Retention has passed it.
    Deleted {
        oldest: i64,
    },
    /// The partition ends before it.
    NotYet {
        end: i64,
    },
    /// Nothing stands at this offset for a reader with `read_committed`.
    Hole,
}

impl Record {
    pub(crate) fn envelope(&self) -> Option<&Envelope> {
        match self {
            Self::There(record) => Some(record),
            _ => None,
        }
    }
}

/// What the pipeline file says of it.
pub(crate) enum Routing {
    /// No stage asks a model.
    Refused(Rejection),
    Tombstone,
    Route {
        /// In the plan.
        index: usize,
        name: Arc<str>,
        rule: Option<String>,
        /// Why it is not answered.
        skip: Option<Arc<str>>,
        task: Option<Arc<str>>,
        lane: Option<LaneName>,
    },
}

impl Routing {
    /// Whether an event that is read leaves nothing behind.
    fn leaves_nothing(&self) -> bool {
        matches!(self, Self::Tombstone | Self::Route { skip: Some(_), .. })
    }
}

pub(crate) struct Answer {
    pub(crate) found: Found,
    /// The scored event in its JSON form.
    pub(crate) event: Json,
}

pub(crate) struct Letter {
    pub(crate) at: Coordinates,
    pub(crate) dead: DeadLetter,
    pub(crate) redriven: Option<Entry>,
    pub(crate) json: Json,
}

/// A group that has to read a record.
pub(crate) struct Reader {
    pub(crate) group: Arc<str>,
    pub(crate) at: Coordinates,
    pub(crate) committed: Option<i64>,
}

impl Reader {
    fn is_past(&self) -> bool {
        self.committed.is_some_and(|next| next > self.at.offset)
    }

    fn before(&self) -> Option<i64> {
        self.committed.map(|next| self.at.offset - next)
    }
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    DeadLettered,
    /// Read, and not meant to be answered.
    Skipped,
    /// Not read yet, or not settled.
    Waiting,
    /// There is no such event.
    NoEvent,
    /// Read, and nothing of it is there.
    Unknown,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::DeadLettered => "dead_lettered",
            Self::Skipped => "skipped",
            Self::Waiting => "waiting",
            Self::NoEvent => "no_event",
            Self::Unknown => "unknown",
        }
    }

    /// What follows from it for whoever asked.
    fn advice(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::DeadLettered => {
                "a dead letter; see `twinlane dead-letters show`, and once the cause is gone `redrive`"
            }
            Self::Skipped => "skipped, as the pipeline file says: read, counted, and not answered",
            Self::Waiting => "waiting: the records before it are settled first; is its service running?",
            Self::NoEvent => "there is no event at these coordinates",
            Self::Unknown => {
                "read, and neither an answer nor a dead letter is there: retention has deleted it, or it was settled \
                 under another pipeline file"
            }
        }
    }
}

/// What became of one event.
pub(crate) struct Story {
    event: Coordinates,
    record: Record,
    routing: Option<Routing>,
    hop: Option<Found>,
    answer: Option<Answer>,
    letters: Vec<Letter>,
    readers: Vec<Reader>,
    pub(crate) outcome: Outcome,
}

impl Story {
    pub(crate) fn new(
        event: Coordinates,
        record: Record,
        routing: Option<Routing>,
        hop: Option<Found>,
        answer: Option<Answer>,
        letters: Vec<Letter>,
        readers: Vec<Reader>,
    ) -> Self {
        let read = readers.iter().all(Reader::is_past);
        let outcome = if answer.is_some() {
            Outcome::Answered
        } else if !letters.is_empty() {
            Outcome::DeadLettered
        } else if matches!(record, Record::NotYet { .. } | Record::Hole) {
            Outcome::NoEvent
        } else if !read {
            Outcome::Waiting
        } else if routing.as_ref().is_some_and(Routing::leaves_nothing) {
            Outcome::Skipped
        } else {
            Outcome::Unknown
        };
        Self { event, record, routing, hop, answer, letters, readers, outcome }
    }

    pub(crate) fn to_json(&self) -> Json {
        let source = match &self.record {
            Record::There(record) => json!({
                "time": record.timestamp_ms,
                "key_bytes": record.key.as_ref().map(|key| key.len()),
                "value_bytes": record.value.as_ref().map(|value| value.len()),
            }),
            _ => Json::Null,
        };
        let routing = self.routing.as_ref().map(|routing| match routing {
            Routing::Refused(why) => json!({ "refused": why.reason.as_str(), "detail": why.detail }),
            Routing::Tombstone => json!({ "skip": "tombstone" }),
            Routing::Route { name, rule, skip, task, lane, .. } => json!({
                "route": name, "rule": rule, "skip": skip, "task": task, "lane": lane.map(LaneName::as_str),
            }),
        });
        let found = |found: &Found| {
            json!({
                "at": found.record.at.to_string(),
                "window": [found.window.0, found.window.1],
                "timings": found.record.headers.text(headers::TIMINGS),
            })
        };
        let answer = self.answer.as_ref().map(|answer| {
            let mut told = found(&answer.found);
            told["scored_event"] = answer.event.clone();
            told
        });
        let readers = self.readers.iter().map(|reader| {
            json!({ "group": reader.group, "reads": reader.at.to_string(), "committed": reader.committed })
        });
        json!({
            "event": self.event.to_string(),
            "outcome": self.outcome.as_str(),
            "source": source,
            "routing": routing,
            "routed": self.hop.as_ref().map(found),
            "answer": answer,
            "dead_letters": self.letters.iter().map(|letter| &letter.json).collect::<Vec<_>>(),
            "readers": readers.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(f, "event", &self.event)?;
        match &self.record {
            Record::There(record) => {
                let time = record.timestamp_ms.map_or_else(|| "no time".to_owned(), text::time);
                let size = match &record.value {
                    Some(value) => format!("a value of {} bytes", value.len()),
                    None => "a tombstone".to_owned(),
                };
                let key = record.key.as_ref().map_or_else(
                    || "no key".to_owned(),
                    |key| format!("key {}", text::one_line(&text::bytes(Some(key), 40), 80)),
                );
                row(f, "", format_args!("{time}, {key}, {size}"))?;
            }
            Record::Deleted { oldest } => {
                row(f, "", format_args!("deleted by retention; the partition begins at {oldest}"))?;
            }
            Record::NotYet { end } => row(f, "", format_args!("not there; the partition ends at {end}"))?,
            Record::Hole => {
                row(f, "", "no record: a commit marker, or one that was aborted or compacted away")?
            }
        }
        match &self.routing {
            None => {}
            Some(Routing::Refused(why)) => {
                row(f, "route", format_args!("none: {}: {}", why.reason, text::one_line(&why.detail, 400)))?;
            }
            Some(Routing::Tombstone) => row(f, "route", "none: this source's tombstones are skipped")?,
            Some(Routing::Route { name, rule, skip, task, lane, .. }) => {
                row(f, "route", format_args!("{name}, when {}", rule.as_deref().unwrap_or("always")))?;
                match (skip, task, lane) {
                    (Some(why), ..) => row(f, "", format_args!("skipped: {why}"))?,
                    (_, Some(task), Some(lane)) => {
                        row(f, "", format_args!("{} lane, task {task}", lane.as_str()))?;
                    }
                    _ => {}
                }
            }
        }
        if let Some(hop) = &self.hop {
            row(f, "routed to", &hop.record.at)?;
            window(f, hop)?;
        }
        if let Some(Answer { found, event }) = &self.answer {
            row(f, "answer", &found.record.at)?;
            row(f, "", line::scored(event))?;
            let digest = event["model_digest"].as_str().unwrap_or("?");
            row(f, "", format_args!("model {digest}"))?;
            window(f, found)?;
            if let Some(timings) = found.record.headers.text(headers::TIMINGS) {
                row(f, "timings", moments(timings))?;
            }
        }
        for letter in &self.letters {
            row(f, "dead letter", &letter.at)?;
            row(f, "", line::dead_letter(&letter.dead))?;
            if let Some(entry) = &letter.redriven {
                row(f, "", format_args!("redriven {}, to {}", text::time(entry.time_ms), entry.to))?;
            }
        }
        for reader in &self.readers {
            let Reader { group, at, committed } = reader;
            let far = match (committed, reader.before()) {
                (Some(next), Some(before @ 0..)) => format!("is at {next}: {before} offsets before it"),
                (Some(next), _) => format!("is at {next}: past it"),
                _ => "has committed nothing of this partition: did it ever run?".to_owned(),
            };
            row(f, "reader", format_args!("group {group} on {}/{} {far}", at.topic, at.partition))?;
        }
        row(f, "outcome", self.outcome.advice())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{name:<14}{value}")
}

fn window(f: &mut fmt::Formatter<'_>, found: &Found) -> fmt::Result {
    let (first, last) = found.window;
    let count = last - first + 1;
    row(f, "", format_args!("one of {count} records of its window on this partition ({first} to {last})"))
}

/// Moments from `read=1790000000000000,run=1790000000000420` as times since the first.
fn moments(timings: &str) -> String {
    let moments = timings.split(',').filter_map(|moment| {
        let (name, micros) = moment.split_once('=')?;
        Some((name, micros.parse::<i64>().ok()?))
    });
    let mut first = None;
    let told = moments.map(|(name, micros)| {
        let since = micros - *first.get_or_insert(micros);
        format!("{} {:.1} ms", text::one_line(name, 20), since as f64 / 1000.0)
    });
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use twinlane_record::{Headers, Reason};

    use super::*;

    fn at(topic: &str, offset: i64) -> Coordinates {
        Coordinates { topic: topic.into(), partition: 1, offset }
    }

    fn envelope(topic: &str, offset: i64) -> Envelope {
        Envelope {
            at: at(topic, offset),
            timestamp_ms: Some(0),
            key: None,
            value: Some("{}".into()),
            headers: Headers::default(),
        }
    }

    fn route(skip: Option<&str>) -> Routing {
        Routing::Route {
            index: 0,
            name: "orders".into(),
            rule: Some("event.kind == \"order\"".into()),
            skip: skip.map(Into::into),
            task: skip.is_none().then(|| "risk".into()),
            lane: skip.is_none().then_some(LaneName::Precision),
        }
    }

    fn story(record: Record, routing: Option<Routing>, committed: Option<i64>) -> Story {
        let reader = Reader { group: "shop.router.precision".into(), at: at("events", 7), committed };
        Story::new(at("events", 7), record, routing, None, None, Vec::new(), vec![reader])
    }

    #[test]
    fn an_event_that_nobody_has_read_waits_and_one_that_was_read_must_have_left_something() {
        let there = || Record::There(envelope("events", 7));
        let outcome = |routing, committed| story(there(), Some(routing), committed).outcome;
        assert_eq!(outcome(route(None), None), Outcome::Waiting);
        assert_eq!(outcome(route(None), Some(7)), Outcome::Waiting, "7 is the next one");
        assert_eq!(outcome(route(None), Some(8)), Outcome::Unknown);
        assert_eq!(outcome(route(Some("test traffic")), Some(8)), Outcome::Skipped);
        assert_eq!(outcome(Routing::Tombstone, Some(8)), Outcome::Skipped);
        assert_eq!(outcome(route(Some("test traffic")), Some(7)), Outcome::Waiting);
        let refused = Routing::Refused(Rejection::new(Reason::NoRoute, "none"));
        assert_eq!(outcome(refused, Some(8)), Outcome::Unknown, "its dead letter is missing");
        assert_eq!(story(Record::NotYet { end: 5 }, None, Some(5)).outcome, Outcome::NoEvent);
        assert_eq!(story(Record::Deleted { oldest: 9 }, None, Some(9)).outcome, Outcome::Unknown);
    }

    #[test]
    fn a_story_says_how_far_its_readers_are() {
        let text = story(Record::There(envelope("events", 7)), Some(route(None)), Some(4)).to_string();
        assert!(text.contains("route         orders, when event.kind == \"order\""), "{text}");
        assert!(
            text.contains("group shop.router.precision on events/1 is at 4: 3 offsets before it"),
            "{text}"
        );
        assert!(text.ends_with("is its service running?\n"), "{text}");
    }

    #[test]
    fn moments_are_told_from_the_first_on() {
        let told = moments("read=1790000000000000,produced=1790000000002500,run=1790000000010000,x,y=z");
        assert_eq!(told, "read 0.0 ms, produced 2.5 ms, run 10.0 ms");
    }
}
