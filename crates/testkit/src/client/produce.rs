//! Producing events for tests, with what the broker confirmed of each.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};

use super::config;
use crate::{Error, Result, wait};

/// An event to produce.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outgoing<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition, or none to let the key choose.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The create time in milliseconds since 1970, or none for now.
    pub time_ms: Option<i64>,
}

/// What the broker confirmed of an event.
#[derive(Debug, Clone)]
pub struct Delivered<T> {
    /// What the caller knows it by.
    pub tag: T,
    /// The partition it went to.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its create time, milliseconds since 1970.
    pub time_ms: i64,
}

/// An idempotent producer that tells, for each event and in the order per partition, where the broker put it.
pub struct Producer<T: Send + Sync + 'static> {
    inner: ThreadedProducer<Reports<T>>,
}

struct Reports<T> {
    limit: Duration,
    delivered: Mutex<Vec<Delivered<T>>>,
    failed: Mutex<Option<KafkaError>>,
}

impl<T: Send + Sync + 'static> ClientContext for Reports<T> {}

impl<T: Send + Sync + 'static> ProducerContext for Reports<T> {
    type DeliveryOpaque = Box<T>;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: Box<T>) {
        match result {
            Ok(message) => {
                let time_ms = message.timestamp().to_millis().unwrap_or(-1);
                let (partition, offset) = (message.partition(), message.offset());
                let delivered = Delivered { tag: *tag, partition, offset, time_ms };
                self.delivered.lock().expect("no holder of this lock panics").push(delivered);
            }
            Err((error, _)) => {
                self.failed.lock().expect("no holder of this lock panics").get_or_insert(error.clone());
            }
        }
    }
}

impl<T: Send + Sync + 'static> Producer<T> {
    /// A producer for the cluster at `bootstrap`.
    ///
    /// # Errors
    /// When librdkafka refuses its settings.
    pub fn new(bootstrap: &str) -> Result<Self> {
        Self::patient(bootstrap, Duration::from_secs(60))
    }

    /// As [`Producer::new`], and an event waits up to `limit` for brokers that are away.
    ///
    /// # Errors
    /// When librdkafka refuses its settings.
    pub fn patient(bootstrap: &str, limit: Duration) -> Result<Self> {
        let mut config = config(bootstrap);
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "2")
            .set("message.max.bytes", "2000000")
            .set("queue.buffering.max.messages", "1000000")
            .set("reconnect.backoff.max.ms", "1000")
            .set("topic.metadata.refresh.interval.ms", "1000")
            .set("message.timeout.ms", limit.as_millis().to_string());
        let context = Reports { limit, delivered: Mutex::default(), failed: Mutex::default() };
        let inner = config.create_with_context(context).map_err(Error::kafka("creating a producer"))?;
        Ok(Self { inner })
    }

    /// Hands an event over for sending; waits while the producer's queue is full or its partition is not known yet.
    ///
    /// # Errors
    /// When librdkafka refuses the event, for example because it is too large.
    pub fn send(&self, event: &Outgoing<'_>, tag: T) -> Result<()> {
        let mut record = BaseRecord::with_opaque_to(event.topic, Box::new(tag));
        record.partition = event.partition;
        record.key = event.key;
        record.payload = event.value;
        record.timestamp = event.time_ms;
        if !event.headers.is_empty() {
            let headers = event.headers.iter().fold(OwnedHeaders::new(), |headers, &(key, value)| {
                headers.insert(Header { key, value: Some(value) })
            });
            record.headers = Some(headers);
        }
        let mut record = Some(record);
        let sent = wait::until(Duration::from_secs(60), || match self.inner.send(record.take()?) {
            Ok(()) => Some(Ok(())),
            // A partition that was just added is known to the client after its next look at the topic.
            Err((
                KafkaError::MessageProduction(
                    RDKafkaErrorCode::QueueFull | RDKafkaErrorCode::UnknownPartition,
                ),
                back,
            )) => {
                record = Some(back);
                None
            }
            Err((error, _)) => Some(Err(error)),
        });
        match sent {
            Some(result) => result.map_err(Error::kafka(format!("producing to {}", event.topic))),
            None => Err(Error::Kafka {
                what: format!("producing to {}", event.topic),
                cause: KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull),
            }),
        }
    }

    /// What was confirmed since the last call.
    pub fn take_delivered(&self) -> Vec<Delivered<T>> {
        std::mem::take(&mut *self.inner.context().delivered.lock().expect("no holder of this lock panics"))
    }

    /// How many events are not confirmed yet.
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.inner.in_flight_count()).unwrap_or(0)
    }

    /// Waits until every event is confirmed, and gives all that were since the last call.
    ///
    /// # Errors
    /// When one could not be delivered.
    pub fn flush(&self) -> Result<Vec<Delivered<T>>> {
        self.inner.flush(self.inner.context().limit).map_err(Error::kafka("waiting for deliveries"))?;
        match self.inner.context().failed.lock().expect("no holder of this lock panics").take() {
            Some(error) => Err(Error::kafka("delivering an event")(error)),
            None => Ok(self.take_delivered()),
        }
    }
}
