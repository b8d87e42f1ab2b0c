//! A record as it goes on from here: copied out of librdkafka's buffers. A message that is kept would pin the whole
//! fetch that it came with.

use std::sync::Arc;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Message as _};
use twinlane_record::{Coordinates, Envelope};

use crate::headers;

/// librdkafka's handle of the message's topic, to be compared with another one of the same client. A client keeps the
/// handles of topics that it reads until it ends, so no two topics ever have the same.
#[expect(unsafe_code, reason = "the name behind it costs a check of its bytes for every record")]
pub(crate) fn topic_handle(message: &BorrowedMessage<'_>) -> usize {
    // SAFETY: the message is valid as long as it is borrowed, and the pointer is not followed.
    unsafe { (*message.ptr()).rkt as usize }
}

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
