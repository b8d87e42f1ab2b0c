//! A record on its way out. The partition is always explicit: librdkafka's default partitioner would scatter
//! records without a key, and hash the others differently from Java's.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::BaseRecord,
};
use twinlane_record::{Headers, headers::TIMINGS};

/// A record to produce.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition of that topic.
    pub partition: i32,
    /// Key bytes.
    pub key: Option<Bytes>,
    /// Value bytes; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in order.
    pub headers: Headers,
    /// Record timestamp, milliseconds since the Unix epoch; `None` lets the client stamp it.
    pub timestamp_ms: Option<i64>,
}

/// What Kafka's record format adds at most to one record alone in its batch: batch header (61 bytes), record
/// framing, and a few bytes per header.
const FRAMING: usize = 128;
const FRAMING_PER_HEADER: usize = 10;

impl Outgoing {
    /// Bytes of key, value and headers.
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.size()
    }

    /// An upper bound of what the broker compares with `max.message.bytes` (compression not counted on).
    pub fn wire_size(&self) -> usize {
        self.size() + FRAMING + self.headers.0.len() * FRAMING_PER_HEADER
    }

    pub(crate) fn as_record(&self) -> BaseRecord<'_, [u8], [u8]> {
        self.with_headers(&self.headers)
    }

    /// The same; one that carries the moments of its way says as well when it was produced.
    pub(crate) fn as_timed_record(&self, now: SystemTime) -> BaseRecord<'_, [u8], [u8]> {
        if self.headers.get(TIMINGS).is_none() {
            return self.as_record();
        }
        let mut headers = self.headers.clone();
        headers.note_moment("produced", now);
        self.with_headers(&headers)
    }

    fn with_headers(&self, headers: &Headers) -> BaseRecord<'_, [u8], [u8]> {
        let mut record = BaseRecord::to(&self.topic).partition(self.partition);
        record.key = self.key.as_deref();
        record.payload = self.value.as_deref();
        record.timestamp = self.timestamp_ms;
        if !headers.0.is_empty() {
            let all = OwnedHeaders::new_with_capacity(headers.0.len());
            record.headers = Some(headers.0.iter().fold(all, |all, header| {
                all.insert(Header { key: &header.name, value: header.value.as_deref() })
            }));
        }
        record
    }
}
