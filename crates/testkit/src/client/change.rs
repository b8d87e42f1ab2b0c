//! What operators do to topics and groups while services run: records deleted, topics deleted and grown, offsets moved.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};

use super::topics::block_on;
use super::{config, partitions};
use crate::{Error, Result, wait};

const LIMIT: Duration = Duration::from_secs(30);

/// Deletes the records of a partition that lie before an offset, as retention does: the log starts there then.
///
/// # Errors
/// When the broker refuses, or does not answer in time.
pub fn delete_records(bootstrap: &str, topic: &str, partition: i32, before: i64) -> Result<()> {
    let what = || format!("deleting records of {topic}[{partition}] before {before}");
    let admin = admin(bootstrap, what())?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, partition, Offset::Offset(before)).map_err(Error::kafka(what()))?;
    let deleted = block_on(admin.delete_records(&offsets, &options())).map_err(Error::kafka(what()))?;
    deleted.elements().iter().try_for_each(|element| element.error()).map_err(Error::kafka(what()))
}

/// Deletes a topic, and waits until the cluster does not know it any more.
///
/// # Errors
/// When the broker refuses, or does not answer in time.
pub fn delete_topic(bootstrap: &str, topic: &str) -> Result<()> {
    let what = || format!("deleting the topic {topic}");
    let admin = admin(bootstrap, what())?;
    accepted(block_on(admin.delete_topics(&[topic], &options()))).map_err(Error::kafka(what()))?;
    wait_for_partitions(bootstrap, topic, 0, what())
}

/// Grows a topic to `count` partitions, and waits until they can be used.
///
/// # Errors
/// When the broker refuses, or does not answer in time.
pub fn add_partitions(bootstrap: &str, topic: &str, count: i32) -> Result<()> {
    let what = || format!("growing {topic} to {count} partitions");
    let admin = admin(bootstrap, what())?;
    let total = usize::try_from(count).expect("a count is not negative");
    let grown = NewPartitions::new(topic, total);
    accepted(block_on(admin.create_partitions([&grown], &options()))).map_err(Error::kafka(what()))?;
    wait_for_partitions(bootstrap, topic, count, what())
}

/// The offset that a group has committed for a partition.
///
/// # Errors
/// When the broker does not answer.
pub fn committed_offset(bootstrap: &str, group: &str, topic: &str, partition: i32) -> Result<Option<i64>> {
    let what = || format!("asking how far {group} is on {topic}[{partition}]");
    let consumer: BaseConsumer =
        config(bootstrap).set("group.id", group).create().map_err(Error::kafka(what()))?;
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition(topic, partition);
    let committed = consumer.committed_offsets(wanted, LIMIT).map_err(Error::kafka(what()))?;
    let found = committed.find_partition(topic, partition).map(|element| element.offset());
    Ok(match found {
        Some(Offset::Offset(offset)) => Some(offset),
        _ => None,
    })
}

/// Commits an offset for a group that has no members now.
///
/// # Errors
/// When the broker refuses, because there is a member for example.
pub fn commit_offset(bootstrap: &str, group: &str, topic: &str, partition: i32, offset: i64) -> Result<()> {
    let what = || format!("moving {group} on {topic}[{partition}] to {offset}");
    let consumer: BaseConsumer =
        config(bootstrap).set("group.id", group).create().map_err(Error::kafka(what()))?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, partition, Offset::Offset(offset)).map_err(Error::kafka(what()))?;
    consumer.commit(&offsets, CommitMode::Sync).map_err(Error::kafka(what()))
}

fn admin(bootstrap: &str, what: String) -> Result<AdminClient<DefaultClientContext>> {
    config(bootstrap).create().map_err(Error::kafka(what))
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(LIMIT)).request_timeout(Some(LIMIT))
}

fn accepted(outcome: KafkaResult<Vec<TopicResult>>) -> KafkaResult<()> {
    match outcome?.into_iter().next() {
        Some(Err((_, code))) => Err(KafkaError::AdminOp(code)),
        _ => Ok(()),
    }
}

fn wait_for_partitions(bootstrap: &str, topic: &str, count: i32, what: String) -> Result<()> {
    let reached = wait::until(LIMIT, || partitions(bootstrap, topic).ok().filter(|&found| found == count));
    reached.map(|_| ()).ok_or(Error::Timeout { what, within: LIMIT, context: String::new() })
}
