//! Where to start reading a partition. Never left to a client's default: without a committed offset it is the
//! beginning (so that partitions added later lose nothing), and a committed offset that retention has passed
//! stops the partition unless the pipeline says otherwise.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaResult,
};
use twinlane_delivery::TopicPartition;

use crate::context::Context;

/// What to do when the committed offset lies below the start of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BelowStart {
    /// Stop the partition and say so (default): somebody must decide about the lost records.
    Stop,
    /// Go on from the earliest record there is.
    Earliest,
}

/// The decision for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Read from here.
    From(Offset),
    /// Read from the first record that is still there, as the source says: those from `committed` on are gone.
    Skipping { committed: i64, first: i64 },
    /// Do not read: the committed offset lies outside the log, whose first offset and end these are. Below it,
    /// records were deleted before they were answered; beyond it, the topic is another one than it was.
    Halted { committed: i64, log: (i64, i64) },
    /// Read from `passed`, up to where this process has committed itself: the group says less, and has forgotten.
    Behind { committed: i64, passed: i64 },
}

impl Start {
    pub(crate) fn is_behind(&self) -> bool {
        matches!(self, Self::Behind { .. })
    }

    pub(crate) fn is_beyond_end(&self) -> bool {
        matches!(self, Self::Halted { committed, log } if *committed > log.1)
    }
}

/// What the consumer is told of several partitions.
#[derive(Default)]
pub(crate) struct Starts {
    /// Those to read, each with its offset.
    pub(crate) offsets: TopicPartitionList,
    /// The same, by name.
    pub(crate) read: Vec<TopicPartition>,
    /// Those not to read.
    pub(crate) halted: Vec<TopicPartition>,
}

impl Starts {
    pub(crate) fn of(decided: Vec<(TopicPartition, Start)>) -> Self {
        let mut starts = Self::default();
        for (partition, start) in decided {
            let offset = match start {
                Start::From(offset) => offset,
                Start::Skipping { first, .. } => Offset::Offset(first),
                Start::Behind { passed, .. } => Offset::Offset(passed),
                Start::Halted { .. } => {
                    starts.halted.push(partition);
                    continue;
                }
            };
            add(&mut starts.offsets, &partition, offset);
            starts.read.push(partition);
        }
        starts
    }
}

/// Adds a partition with where to read it.
pub(crate) fn add(list: &mut TopicPartitionList, partition: &TopicPartition, offset: Offset) {
    list.add_partition_offset(&partition.topic, partition.partition, offset)
        .expect("offsets of the log and `Beginning` are valid to assign");
}

/// Asks the brokers, each question for so long. `committed_offsets` under `read_committed` waits for transactions of a former
/// owner that are still pending.
pub(crate) fn resolve(
    consumer: &BaseConsumer<Context>,
    partitions: &[TopicPartition],
    patience: Duration,
    below_start: impl Fn(&str) -> BelowStart,
    passed: impl Fn(&TopicPartition) -> Option<i64>,
) -> KafkaResult<Vec<(TopicPartition, Start)>> {
    let mut asked = TopicPartitionList::with_capacity(partitions.len());
    for tp in partitions {
        asked.add_partition(&tp.topic, tp.partition);
    }
    let committed = consumer.committed_offsets(asked, patience)?;
    let mut starts = Vec::with_capacity(partitions.len());
    for tp in partitions {
        let found = committed.find_partition(&tp.topic, tp.partition);
        if let Some(element) = &found {
            element.error()?;
        }
        let start = match found.map(|e| e.offset()) {
            Some(Offset::Offset(offset)) => {
                let log = consumer.fetch_watermarks(&tp.topic, tp.partition, patience)?;
                decide(offset, passed(tp), log, below_start(&tp.topic))
            }
            _ => Start::From(Offset::Beginning),
        };
        starts.push((tp.clone(), start));
    }
    Ok(starts)
}

/// `passed`: up to where this process has committed itself, if it has. A group that says less has forgotten: a coordinator that
/// was loaded while leadership changed several times was seen to go back by tens of thousands of records (Kafka 4.4), and
/// reading them again would answer them twice.
fn decide(committed: i64, passed: Option<i64>, log: (i64, i64), below_start: BelowStart) -> Start {
    let (first, end) = log;
    if let Some(passed) = passed.filter(|passed| committed < *passed && (first..=end).contains(passed)) {
        return Start::Behind { committed, passed };
    }
    if (first..=end).contains(&committed) {
        return Start::From(Offset::Offset(committed));
    }
    if committed < first && below_start == BelowStart::Earliest {
        return Start::Skipping { committed, first };
    }
    Start::Halted { committed, log }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_past_retention_stops_the_partition_unless_told_otherwise() {
        assert_eq!(decide(5, None, (5, 9), BelowStart::Stop), Start::From(Offset::Offset(5)));
        assert_eq!(decide(4, None, (9, 9), BelowStart::Stop), Start::Halted { committed: 4, log: (9, 9) });
        assert_eq!(decide(4, None, (9, 9), BelowStart::Earliest), Start::Skipping { committed: 4, first: 9 });
    }

    #[test]
    fn a_group_that_went_back_is_not_followed_and_one_that_went_on_is() {
        let log = (0, 90);
        let stop = BelowStart::Stop;
        assert_eq!(decide(30, Some(70), log, stop), Start::Behind { committed: 30, passed: 70 });
        for (committed, passed) in [(70, Some(70)), (80, Some(70)), (30, None)] {
            assert_eq!(decide(committed, passed, log, stop), Start::From(Offset::Offset(committed)));
        }
        // What was passed was another topic's.
        assert_eq!(decide(30, Some(91), log, stop), Start::From(Offset::Offset(30)));
    }

    #[test]
    fn an_offset_beyond_the_end_stops_the_partition_whatever_was_told() {
        assert_eq!(decide(9, None, (0, 9), BelowStart::Earliest), Start::From(Offset::Offset(9)));
        let halted = decide(10, None, (0, 9), BelowStart::Earliest);
        assert_eq!(halted, Start::Halted { committed: 10, log: (0, 9) });
        assert!(halted.is_beyond_end());
    }
}
