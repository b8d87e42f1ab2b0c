//! Reading topics as a careful user would: `read_committed`, from the beginning to the end.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::{config, partitions};
use crate::checker::{Checker, Found, Seen};
use crate::{Error, Result, wait};

const LIMIT: Duration = Duration::from_secs(30);

/// A record as it lies on a topic, borrowed from the client.
#[derive(Debug)]
pub struct Record<'a>(&'a BorrowedMessage<'a>);

impl Record<'_> {
    /// Its topic.
    pub fn topic(&self) -> &str {
        self.0.topic()
    }

    /// Its partition.
    pub fn partition(&self) -> i32 {
        self.0.partition()
    }

    /// Its offset.
    pub fn offset(&self) -> i64 {
        self.0.offset()
    }

    /// Its key.
    pub fn key(&self) -> Option<&[u8]> {
        self.0.key()
    }

    /// Its value; none for a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        self.0.payload()
    }

    /// Its time in milliseconds since 1970.
    pub fn time_ms(&self) -> Option<i64> {
        self.0.timestamp().to_millis()
    }

    /// The last header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let headers = self.0.headers()?;
        let last = headers.iter().filter(|header| header.key == name).last();
        last.and_then(|header| header.value)
    }

    /// All headers, in order.
    pub fn headers(&self) -> Vec<(&str, Option<&[u8]>)> {
        self.0.headers().map_or_else(Vec::new, |all| all.iter().map(|one| (one.key, one.value)).collect())
    }
}

/// Follows topics as they are written, committed records only.
pub struct Follower {
    consumer: BaseConsumer,
}

impl Follower {
    /// Follows these topics, which must exist, from the end that they have now.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn from_end(bootstrap: &str, topics: &[&str]) -> Result<Self> {
        Self::start(bootstrap, topics, |consumer, topic, partition| {
            Ok(Offset::Offset(consumer.fetch_watermarks(topic, partition, LIMIT)?.1))
        })
    }

    /// Follows these topics, which must exist, from their beginning.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn from_beginning(bootstrap: &str, topics: &[&str]) -> Result<Self> {
        Self::start(bootstrap, topics, |_, _, _| Ok(Offset::Beginning))
    }

    /// Follows these topics, which must exist, from these offsets of their partitions, and the others from their
    /// beginning.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn from_offsets(
        bootstrap: &str,
        topics: &[&str],
        offsets: &HashMap<(String, i32), i64>,
    ) -> Result<Self> {
        Self::start(bootstrap, topics, |_, topic, partition| {
            let offset = offsets.get(&(topic.to_owned(), partition));
            Ok(offset.map_or(Offset::Beginning, |&offset| Offset::Offset(offset)))
        })
    }

    fn start(
        bootstrap: &str,
        topics: &[&str],
        offset: impl Fn(&BaseConsumer, &str, i32) -> std::result::Result<Offset, KafkaError>,
    ) -> Result<Self> {
        let what = || "following topics".to_owned();
        let consumer: BaseConsumer = config(bootstrap)
            .set("group.id", "twinlane-testkit-follower")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "100")
            .set("auto.offset.reset", "earliest")
            .create()
            .map_err(Error::kafka(what()))?;
        let mut assignment = TopicPartitionList::new();
        for &topic in topics {
            for partition in 0..partitions(bootstrap, topic)? {
                let start = offset(&consumer, topic, partition).map_err(Error::kafka(what()))?;
                assignment.add_partition_offset(topic, partition, start).map_err(Error::kafka(what()))?;
            }
        }
        consumer.assign(&assignment).map_err(Error::kafka(what()))?;
        Ok(Self { consumer })
    }

    /// Gives the next record to `each`, or nothing when there is none within `limit`.
    ///
    /// # Errors
    /// When the broker cannot be read for good.
    pub fn next<T>(&self, limit: Duration, each: impl FnOnce(&Record<'_>) -> T) -> Result<Option<T>> {
        match self.consumer.poll(limit) {
            Some(Ok(message)) => Ok(Some(each(&Record(&message)))),
            Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_fatal) => {
                Err(Error::kafka("following topics")(error))
            }
            // The client reports a broker that is away, and finds it again by itself.
            Some(Err(_)) | None => Ok(None),
        }
    }
}

fn is_fatal(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::Fatal | RDKafkaErrorCode::UnknownTopicOrPartition)
}

/// Waits until no partition of the topics has an open transaction, so that the end that `read_committed` readers see is
/// the end there is.
///
/// # Errors
/// When one is still open after `limit`.
pub fn wait_until_settled(bootstrap: &str, topics: &[&str], limit: Duration) -> Result<()> {
    let ends = Ends::new(bootstrap)?;
    for &topic in topics {
        for partition in 0..partitions(bootstrap, topic)? {
            let settled = wait::until(limit, || {
                let (stable, written) = ends.of(topic, partition).ok()?;
                (stable >= written).then_some(())
            });
            settled.ok_or_else(|| Error::Timeout {
                what: format!("the end of the open transaction on {topic}[{partition}]"),
                within: limit,
                context: String::new(),
            })?;
        }
    }
    Ok(())
}

/// Asks for the ends of partitions, as readers of committed and of all records see them.
pub struct Ends {
    committed: BaseConsumer,
    all: BaseConsumer,
}

impl Ends {
    /// Asks the cluster at `bootstrap`.
    ///
    /// # Errors
    /// When librdkafka refuses its settings.
    pub fn new(bootstrap: &str) -> Result<Self> {
        // The end that a broker tells depends on the isolation of who asks.
        let asks = |isolation: &str| -> Result<BaseConsumer> {
            let what = "asking for the ends of topics";
            config(bootstrap).set("isolation.level", isolation).create().map_err(Error::kafka(what))
        };
        Ok(Self { committed: asks("read_committed")?, all: asks("read_uncommitted")? })
    }

    /// The end that readers of committed records see, and the one after all records. Where they differ, a transaction
    /// is open.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn of(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        let end = |consumer: &BaseConsumer| consumer.fetch_watermarks(topic, partition, LIMIT);
        let ends = end(&self.committed).and_then(|(_, stable)| Ok((stable, end(&self.all)?.1)));
        ends.map_err(Error::kafka("asking for the ends of topics"))
    }
}

/// Reads every record of a topic that is there when this begins and is or will be committed, each partition in its order.
///
/// # Errors
/// When the broker cannot be read.
pub fn read_to_end(bootstrap: &str, topic: &str, mut each: impl FnMut(&Record<'_>)) -> Result<()> {
    let what = || format!("reading {topic}");
    let consumer: BaseConsumer = config(bootstrap)
        .set("group.id", "twinlane-testkit-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "50")
        .set("auto.offset.reset", "earliest")
        .create()
        .map_err(Error::kafka(what()))?;
    let all: BaseConsumer = config(bootstrap)
        .set("isolation.level", "read_uncommitted")
        .create()
        .map_err(Error::kafka(what()))?;
    // Where it ends now, once the transactions up to there have ended: a topic that is written all the time has no
    // other end, and a commit is confirmed a moment before readers see it.
    let mut open = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions(bootstrap, topic)? {
        let (_, end) = all.fetch_watermarks(topic, partition, LIMIT).map_err(Error::kafka(what()))?;
        let ended = wait::until(LIMIT, || {
            let stable = consumer.fetch_watermarks(topic, partition, LIMIT).ok()?.1;
            (stable >= end).then_some(())
        });
        ended.ok_or_else(|| Error::Timeout { what: what(), within: LIMIT, context: String::new() })?;
        open.insert(partition, end);
        assignment.add_partition_offset(topic, partition, Offset::Beginning).map_err(Error::kafka(what()))?;
    }
    consumer.assign(&assignment).map_err(Error::kafka(what()))?;
    while !open.is_empty() {
        match consumer.poll(LIMIT) {
            Some(Ok(message)) => match open.get(&message.partition()) {
                Some(&end) if message.offset() < end => each(&Record(&message)),
                _ => drop(open.remove(&message.partition())),
            },
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(error)) => return Err(Error::kafka(what())(error)),
            None => return Err(Error::Timeout { what: what(), within: LIMIT, context: String::new() }),
        }
    }
    Ok(())
}

/// Waits until the topics are settled, and gives the checker every record of them.
///
/// # Errors
/// When a transaction stays open for half a minute, or the broker cannot be read.
pub fn check_topics(
    bootstrap: &str,
    checker: &mut Checker,
    outputs: &[&str],
    dead_letters: &[&str],
) -> Result<()> {
    check_and_visit_topics(bootstrap, checker, outputs, dead_letters, |_, _| {})
}

/// As [`check_topics`], and shows `each` record to the caller too.
///
/// # Errors
/// As [`check_topics`].
pub fn check_and_visit_topics(
    bootstrap: &str,
    checker: &mut Checker,
    outputs: &[&str],
    dead_letters: &[&str],
    mut each: impl FnMut(Found, &Record<'_>),
) -> Result<()> {
    let all: Vec<_> = outputs.iter().chain(dead_letters).copied().collect();
    wait_until_settled(bootstrap, &all, LIMIT)?;
    for (topics, found) in [(outputs, Found::Answer), (dead_letters, Found::DeadLetter)] {
        for &topic in topics {
            read_to_end(bootstrap, topic, |record| {
                let stage = match found {
                    Found::DeadLetter => record.header("twinlane-dead-stage").unwrap_or_default(),
                    Found::Answer => b"",
                };
                checker.seen(&Seen {
                    topic,
                    partition: record.partition(),
                    found,
                    stage: std::str::from_utf8(stage).unwrap_or("?"),
                    source: record.header("twinlane-source"),
                });
                each(found, record);
            })?;
        }
    }
    Ok(())
}

/// How many records of a topic a group has not committed yet. Commit markers count as records, so a topic that is
/// written in transactions keeps a lag of one per partition.
///
/// # Errors
/// When the broker does not answer.
pub fn committed_lag(bootstrap: &str, group: &str, topic: &str) -> Result<i64> {
    let what = || format!("asking how far {group} is on {topic}");
    let consumer: BaseConsumer =
        config(bootstrap).set("group.id", group).create().map_err(Error::kafka(what()))?;
    let mut wanted = TopicPartitionList::new();
    for partition in 0..partitions(bootstrap, topic)? {
        wanted.add_partition(topic, partition);
    }
    let committed = consumer.committed_offsets(wanted, LIMIT).map_err(Error::kafka(what()))?;
    let mut lag = 0;
    for element in committed.elements() {
        let (start, end) =
            consumer.fetch_watermarks(topic, element.partition(), LIMIT).map_err(Error::kafka(what()))?;
        let position = match element.offset() {
            Offset::Offset(offset) => offset,
            _ => start,
        };
        lag += (end - position).max(0);
    }
    Ok(lag)
}
