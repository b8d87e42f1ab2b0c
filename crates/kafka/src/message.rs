//! A record as it goes on from here: copied out of librdkafka's buffers. A message that is kept would pin the whole
//! fetch that it came with.

use std::{ffi::CStr, slice, sync::Arc};

use rdkafka::{bindings as ffi, message::BorrowedMessage, types::RDKafkaMessage};
use twinlane_record::{Blocks, Coordinates, Envelope};

use crate::headers;

/// A message that librdkafka holds.
#[derive(Clone, Copy)]
pub(crate) struct Message<'m>(&'m RDKafkaMessage);

impl<'m> Message<'m> {
    /// It is whole, as librdkafka gives them, and is no error.
    pub(crate) fn of(message: &'m RDKafkaMessage) -> Self {
        Self(message)
    }

    /// Its topic; empty if brokers have names that are not ASCII after all.
    #[expect(unsafe_code, reason = "rdkafka reads only messages of its own")]
    pub(crate) fn topic(self) -> &'m str {
        // SAFETY: a message's topic lives as long as the message, and its name ends with a zero.
        unsafe { CStr::from_ptr(ffi::rd_kafka_topic_name(self.0.rkt)) }.to_str().unwrap_or_default()
    }

    /// `topic` is the message's, allocated once for many, as are the `blocks`.
    pub(crate) fn copied(self, topic: Arc<str>, blocks: &mut Blocks) -> Envelope {
        Envelope {
            at: Coordinates { topic, partition: self.0.partition, offset: self.0.offset },
            timestamp_ms: self.timestamp_ms(),
            key: bytes(self.0.key, self.0.key_len).map(|key| blocks.copy(key)),
            value: bytes(self.0.payload, self.0.len).map(|value| blocks.copy(value)),
            headers: headers::read(self.0, blocks),
        }
    }

    #[expect(unsafe_code, reason = "rdkafka reads only messages of its own")]
    fn timestamp_ms(self) -> Option<i64> {
        let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is whole, and the out pointer ours.
        let at = unsafe { ffi::rd_kafka_message_timestamp(self.0, &mut kind) };
        (at != -1 && kind != ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(at)
    }
}

impl<'m> From<&'m BorrowedMessage<'_>> for Message<'m> {
    #[expect(unsafe_code, reason = "rdkafka's fields are read one by one, with panics")]
    fn from(message: &'m BorrowedMessage<'_>) -> Self {
        // SAFETY: the message lives as long as the borrow.
        Self(unsafe { &*message.ptr() })
    }
}

/// A null pointer is no value, which differs from one of no bytes.
#[expect(unsafe_code, reason = "bytes that C points to")]
fn bytes<'m>(start: *mut std::ffi::c_void, size: usize) -> Option<&'m [u8]> {
    // SAFETY: librdkafka's pointers are null or hold so many bytes, as long as their message lives; callers copy them at once.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast::<u8>(), size) })
}
