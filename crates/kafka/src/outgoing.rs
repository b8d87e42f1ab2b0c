//! A record on its way out. The partition is always explicit: librdkafka's default partitioner would scatter
//! records without a key, and hash the others differently from Java's.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use bytes::Bytes;
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

    /// Its headers; those that carry the moments of its way say as well when it was produced.
    pub(crate) fn timed_headers(&self, now: SystemTime) -> Cow<'_, Headers> {
        if self.headers.get(TIMINGS).is_none() {
            return Cow::Borrowed(&self.headers);
        }
        let mut headers = self.headers.clone();
        headers.note_moment("produced", now);
        Cow::Owned(headers)
    }
}
