//! Reads committed records for commands: joins no group, leaves nothing behind, moves nobody's offsets.
//!
//! [`Reader`] follows topics for as long as somebody looks. [`Span`] is a stretch of one topic that was fixed
//! before it is read, so that what comes meanwhile (an event that was sent again and died again, say) is not
//! part of it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Message as _},
    types::RDKafkaErrorCode,
};
use twinlane_record::{Blocks, Coordinates, Envelope};

use crate::{
    Connection, Error,
    error::{self, is_authorisation},
    message, pause,
};

/// Where a [`Reader`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the oldest record there is.
    Oldest,
    /// With what comes from now on.
    Now,
}

/// What a reader found.
#[derive(Debug)]
pub enum Next {
    /// A record.
    Record(Envelope),
    /// Nothing came within a moment.
    Nothing,
    /// Nothing can come until this heals, which it does by itself.
    Waiting(String),
}

/// Follows topics with `read_committed`.
pub struct Reader {
    consumer: BaseConsumer,
}

const POLL: Duration = Duration::from_millis(200);
/// How long a broker may take to say where a partition ends, and to send what it said it has.
const PATIENCE: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(100);

impl Reader {
    /// Opens all partitions of these topics (name and number of partitions).
    pub fn follow(
        connection: &Connection,
        client_id: &str,
        topics: &[(Arc<str>, i32)],
        begin: Begin,
    ) -> Result<Self, Error> {
        let consumer = consumer(connection, client_id, false)?;
        let start = match begin {
            Begin::Oldest => Offset::Beginning,
            Begin::Now => Offset::End,
        };
        let mut all = TopicPartitionList::new();
        for (topic, partitions) in topics {
            for partition in 0..*partitions {
                all.add_partition_offset(topic, partition, start).map_err(opening)?;
            }
        }
        consumer.assign(&all).map_err(opening)?;
        Ok(Self { consumer })
    }

    /// The next record, if one comes within a moment.
    pub fn next(&self) -> Result<Next, Error> {
        match self.consumer.poll(POLL) {
            Some(Ok(message)) => Ok(Next::Record(owned(&message))),
            Some(Err(error)) => sorted(error),
            None => Ok(Next::Nothing),
        }
    }
}

/// A stretch of one topic: of each partition, the offsets from its first to the end that was stable when asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    topic: Arc<str>,
    /// Partition → first offset, and the one after the last.
    partitions: HashMap<i32, (i64, i64)>,
}

impl Span {
    /// All that a topic holds now for `read_committed` readers.
    pub fn of(
        connection: &Connection,
        client_id: &str,
        topic: &Arc<str>,
        partitions: i32,
    ) -> Result<Self, Error> {
        let consumer = consumer(connection, client_id, true)?;
        let ends =
            (0..partitions).map(|partition| Ok((partition, ends(connection, &consumer, topic, partition)?)));
        Ok(Self { topic: topic.clone(), partitions: ends.collect::<Result<_, Error>>()? })
    }

    /// What one partition holds from the first record on that is not older than a moment, milliseconds since the Unix
    /// epoch; without a moment, all of it. A record of that very moment is in it, however times are mixed.
    pub fn since(
        connection: &Connection,
        client_id: &str,
        topic: &Arc<str>,
        partition: i32,
        moment: Option<i64>,
    ) -> Result<Self, Error> {
        let consumer = consumer(connection, client_id, true)?;
        let (oldest, end) = ends(connection, &consumer, topic, partition)?;
        let first = match moment.map(|moment| first_since(&consumer, topic, partition, moment)).transpose()? {
            None => oldest,
            // All of them are older.
            Some(None) => end,
            Some(Some(offset)) => offset.clamp(oldest, end),
        };
        Ok(Self { topic: topic.clone(), partitions: HashMap::from([(partition, (first, end))]) })
    }

    /// One record alone.
    pub fn one(at: &Coordinates) -> Self {
        let partitions = HashMap::from([(at.partition, (at.offset, at.offset.saturating_add(1)))]);
        Self { topic: at.topic.clone(), partitions }
    }

    /// The first offset of a partition and the one after its last.
    pub fn bounds(&self, partition: i32) -> Option<(i64, i64)> {
        self.partitions.get(&partition).copied()
    }

    /// How many offsets it covers: not fewer than it has records, since commit markers and records that were
    /// aborted or compacted away have offsets too.
    pub fn offsets(&self) -> u64 {
        self.partitions.values().map(|(first, end)| end.saturating_sub(*first).max(0) as u64).sum()
    }

    /// Begins to read it.
    pub fn read(&self, connection: &Connection, client_id: &str) -> Result<SpanReader, Error> {
        let consumer = consumer(connection, client_id, true)?;
        let mut open = self.partitions.clone();
        open.retain(|_, (first, end)| first < end);
        let mut all = TopicPartitionList::new();
        for (&partition, &(first, _)) in &open {
            all.add_partition_offset(&self.topic, partition, Offset::Offset(first)).map_err(opening)?;
        }
        consumer.assign(&all).map_err(opening)?;
        let brokers = connection.brokers.clone();
        Ok(SpanReader {
            consumer,
            brokers,
            topic: self.topic.clone(),
            open,
            passed: 0,
            heard: Instant::now(),
        })
    }
}

/// Reads a [`Span`], each partition in its order.
pub struct SpanReader {
    consumer: BaseConsumer,
    brokers: String,
    topic: Arc<str>,
    /// Partitions that are not read to their end: the next offset, and the end.
    open: HashMap<i32, (i64, i64)>,
    passed: u64,
    heard: Instant,
}

impl SpanReader {
    /// The next record, or `None` once the span is read.
    pub fn next_record(&mut self) -> Result<Option<Envelope>, Error> {
        // What a caller did between two calls is no silence of the brokers.
        self.heard = Instant::now();
        while !self.open.is_empty() {
            let (partition, record) = match self.consumer.poll(POLL) {
                Some(Ok(message)) => (message.partition(), Some((message.offset(), owned(&message)))),
                // The partition is read to its end; what is left of the span are offsets without a record.
                Some(Err(KafkaError::PartitionEOF(partition))) => (partition, None),
                Some(Err(error)) => match sorted(error.clone())? {
                    Next::Waiting(_) if self.heard.elapsed() > PATIENCE => return Err(self.silent(error)),
                    _ => continue,
                },
                None if self.heard.elapsed() > PATIENCE => {
                    return Err(
                        self.silent(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut))
                    );
                }
                None => continue,
            };
            self.heard = Instant::now();
            let Some(&(next, end)) = self.open.get(&partition) else { continue };
            match record {
                Some((offset, record)) if offset < end => {
                    self.passed += (offset + 1 - next).max(0) as u64;
                    self.open.insert(partition, (offset + 1, end));
                    if offset + 1 == end {
                        self.close(partition);
                    }
                    return Ok(Some(record));
                }
                _ => {
                    self.passed += (end - next) as u64;
                    self.close(partition);
                }
            }
        }
        Ok(None)
    }

    /// How many of the span's offsets lie behind.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    fn silent(&self, source: KafkaError) -> Error {
        Error::Unreachable { brokers: self.brokers.clone(), source }
    }

    fn close(&mut self, partition: i32) {
        self.open.remove(&partition);
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        // Only saves fetches: what still comes of it is passed over.
        let _ = self.consumer.pause(&list);
    }
}

fn consumer(connection: &Connection, client_id: &str, tell_ends: bool) -> Result<BaseConsumer, Error> {
    // A group id is demanded even of a consumer that never joins or commits.
    let mut config = connection.consumer_config(client_id, client_id);
    // What retention has just deleted is gone; going on with the oldest is what a look at a topic means.
    config.set("auto.offset.reset", "earliest");
    config.set("enable.partition.eof", tell_ends.to_string());
    config.create().map_err(error::settings)
}

fn first_since(
    consumer: &BaseConsumer,
    topic: &str,
    partition: i32,
    moment: i64,
) -> Result<Option<i64>, Error> {
    let mut asked = TopicPartitionList::new();
    // Times before the epoch are no times to a broker.
    asked.add_partition_offset(topic, partition, Offset::Offset(moment.max(0))).map_err(opening)?;
    let told = consumer.offsets_for_times(asked, PATIENCE).map_err(opening)?;
    Ok(told.elements().first().and_then(|element| element.offset().to_raw()).filter(|&offset| offset >= 0))
}

/// What a group has committed of a partition, whoever of its members did; the group is only asked, not joined.
pub fn committed(
    connection: &Connection,
    group: &str,
    topic: &str,
    partition: i32,
) -> Result<Option<i64>, Error> {
    let what = || format!("ask for the committed offset of group {group}");
    let config = connection.consumer_config("twinlane-look", group);
    let consumer: BaseConsumer = config.create().map_err(error::settings)?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, partition);
    let told = consumer.committed_offsets(asked, PATIENCE).map_err(|source| {
        match source.rdkafka_error_code().filter(|&code| is_authorisation(code)) {
            Some(code) => Error::Unauthorised { what: what(), code },
            None => Error::Client { what: what(), source },
        }
    })?;
    Ok(told.elements().first().and_then(|element| element.offset().to_raw()).filter(|&offset| offset >= 0))
}

fn ends(
    connection: &Connection,
    consumer: &BaseConsumer,
    topic: &str,
    partition: i32,
) -> Result<(i64, i64), Error> {
    let began = Instant::now();
    loop {
        // Under `read_committed` the end that a broker tells is the stable one.
        match consumer.fetch_watermarks(topic, partition, PATIENCE) {
            Ok(ends) => return Ok(ends),
            Err(error) => match sorted(error.clone())? {
                _ if began.elapsed() < PATIENCE => pause(ASK_AGAIN),
                _ => return Err(Error::Unreachable { brokers: connection.brokers.clone(), source: error }),
            },
        }
    }
}

fn sorted(error: KafkaError) -> Result<Next, Error> {
    match error.rdkafka_error_code() {
        Some(code) if is_authorisation(code) => {
            Err(Error::Unauthorised { what: "read the topics of the pipeline".into(), code })
        }
        Some(RDKafkaErrorCode::Fatal) => {
            Err(Error::Client { what: "read the topics of the pipeline".into(), source: error })
        }
        // The client finds its brokers again by itself.
        _ => Ok(Next::Waiting(error.to_string())),
    }
}

fn opening(source: KafkaError) -> Error {
    Error::Client { what: "open the topics of the pipeline".into(), source }
}

fn owned(message: &BorrowedMessage<'_>) -> Envelope {
    message::copied(message, message.topic().into(), &mut Blocks::of_one())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_one_record_covers_its_offset_alone() {
        let at = Coordinates { topic: "dead".into(), partition: 2, offset: 7 };
        let span = Span::one(&at);
        assert_eq!((span.offsets(), span.partitions[&2]), (1, (7, 8)));
    }
}
