//! What is sent again, and as which record: a pure decision over one dead letter, the plan, and what was sent before.
//!
//! The bytes are the event's own. On a source topic the event takes its place anew, at the end of the partition that it
//! came from, so that order per key stays within it. On a lane topic it is the record that the router would have
//! forwarded. Its timestamp stays the event's: it is the event time that answers tell. A topic whose retention is
//! shorter than the event is old may therefore delete it before long; redrive while the services run.

use std::{collections::HashMap, fmt, sync::Arc};

use twinlane_kafka::{Outgoing, TopicFacts};
use twinlane_pipeline::{Action, Plan, Source};
use twinlane_record::{Headers, headers};

use super::{arguments::To, letter::Letter, redriven::Redriven};

/// Why a dead letter is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Left {
    /// It was sent before.
    AlreadyRedriven,
    /// The loop guard.
    DiedTooOften,
    /// Its bytes are not all there.
    Truncated,
    /// It came from a topic that is no source of this pipeline.
    NoSource,
    /// Its source topic has fewer partitions than it had.
    NoPartition,
    /// It died before it had a lane.
    NoLane,
    /// With our headers it is larger than its topic takes.
    TooLarge,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Left::AlreadyRedriven => "sent before, as <pipeline>.redriven records",
            Left::DiedTooOften => "died too often; a higher --limit-deaths sends them once more",
            Left::Truncated => {
                "truncated: the value did not fit the dead-letter topic; produce these events anew"
            }
            Left::NoSource => "their source topic is no source of this pipeline",
            Left::NoPartition => "their source topic no longer has the partition that they came from",
            Left::NoLane => {
                "no lane is known, since the router refused them or their route is gone; use --to source"
            }
            Left::TooLarge => "too large for their topic with the added headers; raise its max.message.bytes",
        })
    }
}

/// Decides what is sent again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard<'p> {
    pub(crate) plan: &'p Plan,
    /// Of every topic that [`topics`] names.
    pub(crate) facts: &'p HashMap<Arc<str>, TopicFacts>,
    pub(crate) to: To,
    /// What has died so often stays dead.
    pub(crate) limit_deaths: u32,
}

/// The topics to which events may be sent.
pub(crate) fn topics(plan: &Plan, to: To) -> Vec<Arc<str>> {
    let mut topics: Vec<_> = plan.sources.iter().map(|source| source.topic.clone()).collect();
    if to == To::Lane {
        for lane in &plan.lanes {
            let tasks = plan.routed_tasks(lane.name).into_iter();
            topics.extend(tasks.map(|task| Arc::from(plan.lane_topic(lane.name, task))));
        }
    }
    topics
}

impl Guard<'_> {
    /// The record to send, or why none is.
    pub(crate) fn decide(&self, letter: &Letter<'_>, redriven: &Redriven) -> Result<Outgoing, Left> {
        if redriven.of(letter).is_some() {
            return Err(Left::AlreadyRedriven);
        }
        if letter.is_truncated {
            return Err(Left::Truncated);
        }
        let from = &letter.dead.source;
        let mut sources = self.plan.sources.iter().enumerate();
        let (index, source) = sources.find(|(_, s)| s.topic == from.topic).ok_or(Left::NoSource)?;
        if letter.dead.deaths >= self.limit_deaths {
            return Err(Left::DiedTooOften);
        }
        let mut headers = letter.record.headers.without_reserved();
        let (topic, partition) = match self.to {
            To::Lane if !self.is_read_by_workers(index, letter) => self.on_lane(letter, &mut headers)?,
            _ => self.on_source(source, from.partition)?,
        };
        headers.push(headers::DEAD_COUNT, letter.dead.deaths.to_string());
        headers.push(headers::REDRIVEN_FROM, letter.record.at.to_string());
        let record = Outgoing {
            partition,
            key: letter.record.key.clone(),
            value: letter.record.value.clone(),
            headers,
            timestamp_ms: letter.record.timestamp_ms,
            topic,
        };
        let limit = self.facts.get(&record.topic).map_or(usize::MAX, |facts| facts.max_message_bytes);
        if record.wire_size() > limit { Err(Left::TooLarge) } else { Ok(record) }
    }

    /// Whether the workers who answer this event read its source, of this index, themselves: they read it there again, and
    /// whoever else does passes it by.
    fn is_read_by_workers(&self, source: usize, letter: &Letter<'_>) -> bool {
        let route = self.plan.routes.iter().find(|route| Some(&route.name) == letter.route.as_ref());
        match route.map(|route| &route.action) {
            Some(Action::Score { lane, .. }) => self.plan.reads_itself(*lane, source),
            _ => self.plan.sources[source].direct.is_some(),
        }
    }

    fn on_source(&self, source: &Source, partition: i32) -> Result<(Arc<str>, i32), Left> {
        let partitions = self.facts.get(&source.topic).map_or(0, |facts| facts.partitions);
        if (0..partitions).contains(&partition) {
            Ok((source.topic.clone(), partition))
        } else {
            Err(Left::NoPartition)
        }
    }

    /// The lane's topic and the router's partition of it, with the headers that the router adds.
    fn on_lane(&self, letter: &Letter<'_>, headers: &mut Headers) -> Result<(Arc<str>, i32), Left> {
        let route = letter.route.as_ref().ok_or(Left::NoLane)?;
        let known = self.plan.routes.iter().find(|known| known.name == *route).ok_or(Left::NoLane)?;
        let Action::Score { task, lane } = known.action else { return Err(Left::NoLane) };
        let topic: Arc<str> = self.plan.lane_topic(lane, task).into();
        let partitions = self.facts.get(&topic).map_or(1, |facts| facts.partitions.max(1));
        let source = &letter.dead.source;
        headers.push(headers::EVENT_ID, source.to_string());
        headers.push(headers::ROUTE, route.as_bytes().to_vec());
        headers.push(headers::LANE, lane.as_str().as_bytes());
        headers.push(headers::SOURCE, source.to_string());
        Ok((topic, source.partition.rem_euclid(partitions)))
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
