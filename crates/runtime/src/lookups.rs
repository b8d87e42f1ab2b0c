//! Schemas that have to be asked for. A record whose schema id is unknown waits here for a bounded time while somebody else
//! asks; what arrived after it in its partition waits in the ledger, as it would for a slow model, and the partition is
//! not fetched meanwhile. Other partitions go on. When its turn is over the record is settled like any other: read, or
//! refused, and the refusal stands for a while, so that a flood of ids that nobody knows does not stall a topic.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, never};
use twinlane_delivery::{Ticket, TopicPartition};
use twinlane_record::{Envelope, ForeignSchema, Reason, Rejection};

/// What is known of a schema id.
#[derive(Clone, Debug)]
pub enum Finding {
    /// Its schema, for ever.
    Schema(ForeignSchema),
    /// It has one that cannot be used, for ever.
    Refused(Rejection),
    /// Nobody has it so far.
    Nothing(Rejection),
}

/// A question, and where the answer goes.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The schema's id.
    pub id: u32,
    /// Takes id and answer, more than one if it changes. It is drained whenever the stage turns, and gone when the stage is.
    pub answer: Sender<(u32, Finding)>,
}

/// Somebody who can be asked.
#[derive(Clone, Debug)]
pub struct SchemaLookup {
    /// Never blocks whoever asks: a question that finds it full is asked again with the next record.
    pub asks: Sender<Ask>,
    /// How long the records of an id wait for its answer.
    pub turn: Duration,
    /// Who is asked, for dead letters.
    pub asked: Arc<str>,
}

/// A record that cannot be read yet.
#[derive(Debug)]
pub struct Unread {
    /// Its receipt.
    pub ticket: Ticket,
    /// The record.
    pub event: Envelope,
    /// The id that it was written under.
    pub id: u32,
}

/// What a stage asks for, and what waits for it.
pub(crate) struct Lookups {
    lookup: Option<SchemaLookup>,
    answer: Sender<(u32, Finding)>,
    findings: Receiver<(u32, Finding)>,
    waiting: HashMap<u32, Waiting>,
    /// Ids that are refused for now, and until when; the oldest first.
    refused: VecDeque<(Instant, u32)>,
    /// Partitions that are not fetched, with how many of their records wait.
    held: HashMap<TopicPartition, usize>,
}

struct Waiting {
    /// In order of arrival.
    records: Vec<Unread>,
    until: Instant,
    asked: bool,
}

/// For so long an id that nobody knew is not asked for again.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// Answers on their way; whoever answers waits while it is full.
const ANSWERS: usize = 64;

impl Lookups {
    pub(crate) fn new(lookup: Option<SchemaLookup>) -> Self {
        let (answer, findings) = bounded(ANSWERS);
        let findings = if lookup.is_some() { findings } else { never() };
        Self {
            lookup,
            answer,
            findings,
            waiting: HashMap::new(),
            refused: VecDeque::new(),
            held: HashMap::new(),
        }
    }

    /// Where answers arrive.
    pub(crate) fn findings(&self) -> &Receiver<(u32, Finding)> {
        &self.findings
    }

    /// Keeps a record until its turn is over. Gives its partition if nothing of that waited so far.
    pub(crate) fn wait(&mut self, record: Unread, now: Instant) -> Option<TopicPartition> {
        let lookup = self.lookup.as_ref()?;
        let id = record.id;
        let partition = record.partition();
        let waiting = self.waiting.entry(id).or_insert_with(|| Waiting {
            records: Vec::new(),
            until: now + lookup.turn,
            asked: false,
        });
        waiting.records.push(record);
        if !waiting.asked {
            waiting.asked = lookup.asks.try_send(Ask { id, answer: self.answer.clone() }).is_ok();
        }
        let of_partition = self.held.entry(partition.clone()).or_default();
        *of_partition += 1;
        (*of_partition == 1).then_some(partition)
    }

    /// An answer has come: the records that waited for it.
    pub(crate) fn answered(&mut self, id: u32, finding: &Finding, now: Instant) -> Vec<Unread> {
        if matches!(finding, Finding::Nothing(_)) {
            self.refused.push_back((now + REFUSED_FOR, id));
        }
        self.take(id)
    }

    /// The next id whose turn is over, what that means, and the records that have waited for it.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<(u32, Finding, Vec<Unread>)> {
        let lookup = self.lookup.as_ref()?;
        let id = *self.waiting.iter().find(|(_, waiting)| waiting.until <= now)?.0;
        let detail = format!(
            "schema id {id} is not known here, and the schema registry at {} did not say what it is within {:?}",
            lookup.asked, lookup.turn
        );
        let nothing = Finding::Nothing(Rejection::new(Reason::UnknownSchema, detail));
        self.refused.push_back((now + REFUSED_FOR, id));
        Some((id, nothing, self.take(id)))
    }

    fn take(&mut self, id: u32) -> Vec<Unread> {
        let records = self.waiting.remove(&id).map_or_else(Vec::new, |waiting| waiting.records);
        records.iter().for_each(|record| left(&mut self.held, record));
        records
    }

    /// The next id whose refusal is over.
    pub(crate) fn forgotten(&mut self, now: Instant) -> Option<u32> {
        let due = self.refused.front().is_some_and(|(until, _)| *until <= now);
        if due { self.refused.pop_front().map(|(_, id)| id) } else { None }
    }

    /// When [`Lookups::overdue`] or [`Lookups::forgotten`] has something next.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        let turns = self.waiting.values().map(|waiting| waiting.until);
        turns.chain(self.refused.front().map(|(until, _)| *until)).min()
    }

    /// Assignments have changed: forgets records for which `current` is false.
    pub(crate) fn forget_stale(&mut self, current: &dyn Fn(Ticket) -> bool) {
        let held = &mut self.held;
        self.waiting.retain(|_, waiting| {
            waiting.records.retain(|record| {
                let stays = current(record.ticket);
                if !stays {
                    left(held, record);
                }
                stays
            });
            !waiting.records.is_empty()
        });
    }

    /// Partitions that are not to be fetched.
    pub(crate) fn held(&self) -> impl Iterator<Item = &TopicPartition> {
        self.held.keys()
    }

    /// Lets go of partitions of which nothing waits any more; gives whether there were any.
    pub(crate) fn let_go(&mut self) -> bool {
        let before = self.held.len();
        self.held.retain(|_, records| *records > 0);
        self.held.len() < before
    }
}

impl Unread {
    fn partition(&self) -> TopicPartition {
        TopicPartition { topic: self.event.at.topic.clone(), partition: self.event.at.partition }
    }
}

fn left(held: &mut HashMap<TopicPartition, usize>, record: &Unread) {
    if let Some(records) = held.get_mut(&record.partition()) {
        *records = records.saturating_sub(1);
    }
}

#[cfg(test)]
#[path = "lookups_tests.rs"]
mod tests;
