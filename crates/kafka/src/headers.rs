//! Reads a message's headers through C: rdkafka panics on a name that is not UTF-8, and a producer may write
//! any bytes.

use std::ffi::CStr;

use rdkafka::{bindings as ffi, message::BorrowedMessage, types::RDKafkaRespErr};
use twinlane_record::{Blocks, Header, HeaderName, Headers};

/// All headers, in order. What is not UTF-8 in a name is replaced, values are kept as they are.
#[expect(unsafe_code, reason = "rdkafka's iterator panics on names that are not UTF-8")]
pub(crate) fn read(message: &BorrowedMessage<'_>, blocks: &mut Blocks) -> Headers {
    let mut all = Vec::new();
    let mut headers = std::ptr::null_mut();
    // SAFETY: the message lives as long as the borrow, and owns its headers.
    let found = unsafe { ffi::rd_kafka_message_headers(message.ptr(), &mut headers) };
    if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Headers::default();
    }
    loop {
        let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: `headers` is valid as above; the out pointers are ours.
        let found =
            unsafe { ffi::rd_kafka_header_get_all(headers, all.len(), &mut name, &mut value, &mut size) };
        if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Headers(all);
        }
        // SAFETY: librdkafka gives a name that ends with a zero, and `size` bytes of value unless it is null;
        // both are copied before the message goes.
        let (name, value) = unsafe {
            let value =
                (!value.is_null()).then(|| blocks.copy(std::slice::from_raw_parts(value.cast::<u8>(), size)));
            (HeaderName::from(CStr::from_ptr(name)), value)
        };
        all.push(Header { name, value });
    }
}
