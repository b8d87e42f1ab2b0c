//! Builds what leaves a stage: routed events, scored events and dead letters, each on an explicit partition
//! and checked against its topic's size limit before a transaction begins, so that a record that cannot be
//! produced is a dead letter and not an endless abort.

use std::{collections::HashMap, sync::Arc};

use twinlane_kafka::{Outgoing, TopicFacts};
use twinlane_record::{Coordinates, DeadLetter, Envelope, Headers, Reason, Rejection, Verdict, headers};

use crate::{Error, Settled};
use twinlane_delivery::Ticket;

/// A record that a stage read.
#[derive(Clone, Copy, Debug)]
pub struct Read<'e> {
    /// Its receipt from the ledger.
    pub ticket: Ticket,
    /// The record.
    pub event: &'e Envelope,
    /// Where its event stands on its source topic.
    pub origin: &'e Coordinates,
    /// The route that takes it, where this stage knows.
    pub route: Option<&'e Arc<str>>,
}

/// A topic that a stage produces to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    topic: Arc<str>,
    facts: TopicFacts,
}

impl Target {
    /// The output partition for a source partition: fixed for the lifetime of the plan, so that order holds.
    fn partition(&self, from: i32) -> i32 {
        from % self.facts.partitions.max(1)
    }
}

/// Knows the topics that a stage produces to.
#[derive(Clone, Debug)]
pub struct Answers {
    stage: Arc<str>,
    dead_letters: Target,
    topics: HashMap<Arc<str>, TopicFacts>,
}

impl Answers {
    /// `topics` holds the facts of every topic that this stage produces to, the dead letters' included.
    pub fn new(
        stage: impl Into<Arc<str>>,
        dead_letters: impl Into<Arc<str>>,
        topics: HashMap<Arc<str>, TopicFacts>,
    ) -> Result<Self, Error> {
        let target = target(&topics, &dead_letters.into())?;
        Ok(Self { stage: stage.into(), dead_letters: target, topics })
    }

    /// One of the topics.
    pub(crate) fn target(&self, topic: &Arc<str>) -> Result<Target, Error> {
        target(&self.topics, topic)
    }

    /// An answer, in the partition derived from the one that this stage read. One that is too large becomes a
    /// dead letter.
    pub(crate) fn answer(
        &self,
        read: Read<'_>,
        target: &Target,
        value: Option<bytes::Bytes>,
        headers: Headers,
        verdict: Verdict,
    ) -> Settled {
        let Read { ticket, event, .. } = read;
        let output = Outgoing {
            topic: target.topic.clone(),
            partition: target.partition(event.at.partition),
            key: event.key.clone(),
            value,
            headers,
            timestamp_ms: event.timestamp_ms,
        };
        let (topic, limit) = (&target.topic, target.facts.max_message_bytes);
        if output.wire_size() <= limit {
            return Settled { ticket, verdict, output: Some(output) };
        }
        let detail = format!(
            "the output of {} bytes is over the limit of topic {topic}, {limit} bytes",
            output.wire_size()
        );
        self.dead_letter(read, &Rejection::new(Reason::OutputTooLarge, detail), None)
    }

    /// The dead letter, with the bytes that this stage read.
    pub fn dead_letter(
        &self,
        Read { ticket, event, origin, route }: Read<'_>,
        rejection: &Rejection,
        model_digest: Option<&Arc<str>>,
    ) -> Settled {
        let letter = DeadLetter {
            source: origin.clone(),
            route: route.cloned(),
            stage: self.stage.clone(),
            reason: rejection.reason,
            detail: rejection.detail.clone(),
            model_digest: model_digest.cloned(),
            time_ms: now_ms(),
            deaths: headers::deaths(&event.headers).unwrap_or(0) + 1,
        };
        let mut output = Outgoing {
            topic: self.dead_letters.topic.clone(),
            partition: self.dead_letters.partition(event.at.partition),
            key: event.key.clone(),
            value: event.value.clone(),
            headers: letter.headers(&event.headers),
            timestamp_ms: event.timestamp_ms,
        };
        // Better a dead letter without its bytes, which still stand at its source, than none.
        let limit = self.dead_letters.facts.max_message_bytes;
        for part in ["value", "headers", "key"] {
            if output.wire_size() <= limit {
                break;
            }
            match part {
                "value" => output.value = None,
                "headers" => output.headers = letter.headers(&Headers::default()),
                _ => output.key = None,
            }
            output.headers.push(headers::DEAD_TRUNCATED, part);
        }
        Settled { ticket, verdict: Verdict::DeadLettered(rejection.reason), output: Some(output) }
    }
}

fn target(topics: &HashMap<Arc<str>, TopicFacts>, topic: &Arc<str>) -> Result<Target, Error> {
    let facts = topics.get(topic).cloned();
    let facts = facts.ok_or_else(|| Error::Plan(format!("nothing is known of the topic `{topic}`")))?;
    Ok(Target { topic: topic.clone(), facts })
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as i64)
}
