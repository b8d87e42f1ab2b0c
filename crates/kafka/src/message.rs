//! A record as it goes on from here: copied out of librdkafka's buffers. A message that is kept would pin the whole
//! fetch that it came with.

use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Message as _};
use twinlane_record::{Blocks, Coordinates, Envelope};

use crate::headers;

/// `topic` is the message's, allocated once for many, as are the `blocks`.
pub(crate) fn copied(message: &BorrowedMessage<'_>, topic: Arc<str>, blocks: &mut Blocks) -> Envelope {
    Envelope {
        at: Coordinates { topic, partition: message.partition(), offset: message.offset() },
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(|key| blocks.copy(key)),
        value: message.payload().map(|value| blocks.copy(value)),
        headers: headers::read(message, blocks),
    }
}
