//! A reader of committed records that joins no group: it leaves nothing behind and moves nobody's offsets.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _, Message as _},
    types::RDKafkaErrorCode,
};
use twinlane_kafka::Error;
use twinlane_record::{Coordinates, Header, Headers};
use twinlane_service::Kafka;

const POLL: Duration = Duration::from_millis(200);

/// A record as it lies on a topic.
pub(crate) struct Record {
    pub(crate) at: Coordinates,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Headers,
}

/// Reads topics with `read_committed`.
pub(crate) struct Committed {
    consumer: BaseConsumer,
}

impl Committed {
    /// Opens all partitions of these topics, from their beginning or from their end.
    pub(crate) fn open(
        settings: &Kafka,
        topics: &[(Arc<str>, i32)],
        from_beginning: bool,
    ) -> Result<Self, Error> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &settings.brokers).set("client.id", "twinlane-tail");
        config.set("fetch.wait.max.ms", "100");
        for (key, value) in settings.common.iter().chain(&settings.consumer) {
            config.set(key, value);
        }
        // A group id is demanded even of a consumer that never joins or commits.
        config.set("group.id", "twinlane-tail").set("enable.auto.commit", "false");
        config.set("isolation.level", "read_committed").set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create().map_err(Error::Settings)?;
        let start = if from_beginning { Offset::Beginning } else { Offset::End };
        let mut all = TopicPartitionList::new();
        for (topic, partitions) in topics {
            for partition in 0..*partitions {
                all.add_partition_offset(topic, partition, start).map_err(opening)?;
            }
        }
        consumer.assign(&all).map_err(opening)?;
        Ok(Self { consumer })
    }

    /// Gives the next record to `each`; `None` when none came within a moment.
    pub(crate) fn next<T>(&self, each: impl FnOnce(&Record) -> T) -> Result<Option<T>, Error> {
        match self.consumer.poll(POLL) {
            Some(Ok(message)) => Ok(Some(each(&owned(&message)))),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::SaslAuthenticationFailed,
                ) => {
                    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                    Err(Error::Unauthorised { what: "read the output topics".into(), code })
                }
                Some(RDKafkaErrorCode::Fatal) => {
                    Err(Error::Client { what: "read the output topics".into(), source: error })
                }
                // The client finds its brokers again by itself; what is missing meanwhile is worth a line.
                _ => {
                    eprintln!("twinlane: {error}; still trying");
                    Ok(None)
                }
            },
            None => Ok(None),
        }
    }
}

fn opening(source: KafkaError) -> Error {
    Error::Client { what: "open the output topics".into(), source }
}

fn owned(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter()).map(|header| Header {
        name: header.key.into(),
        value: header.value.map(|value| value.to_vec().into()),
    });
    Record {
        at: Coordinates {
            topic: message.topic().into(),
            partition: message.partition(),
            offset: message.offset(),
        },
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: Headers(headers.collect()),
    }
}
