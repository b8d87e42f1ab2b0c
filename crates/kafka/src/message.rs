//! A record as it goes on from here: copied out of librdkafka's buffers. A message that is kept would pin the whole
//! fetch that it came with.

use std::sync::Arc;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Message as _};
use twinlane_record::{Coordinates, Envelope};

use crate::headers;

/// `topic` is the message's, allocated once for many.
pub(crate) fn copied(message: &BorrowedMessage<'_>, topic: Arc<str>) -> Envelope {
    Envelope {
        at: Coordinates { topic, partition: message.partition(), offset: message.offset() },
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers: headers::read(message),
    }
}
