//! Produces through C: rdkafka's `send` allocates the name of the topic and of every header for each record.

use std::{ffi::CString, sync::Arc};

use rdkafka::{
    bindings::{self as ffi, rd_kafka_vtype_t as part},
    error::{IsError as _, KafkaError},
    types::RDKafka,
};
use twinlane_record::Headers;

use crate::Outgoing;

/// Topic names as C reads them.
#[derive(Default)]
pub(crate) struct TopicNames(Vec<(Arc<str>, CString)>);

impl TopicNames {
    fn of(&mut self, topic: &Arc<str>) -> Result<&CString, KafkaError> {
        let at = match self.0.iter().position(|(known, _)| known == topic) {
            Some(at) => at,
            None => {
                self.0.push((topic.clone(), CString::new(&**topic)?));
                self.0.len() - 1
            }
        };
        Ok(&self.0[at].1)
    }
}

/// Hands a record to librdkafka, which copies it.
#[expect(unsafe_code, reason = "rdkafka's send costs an allocation a header and one for the topic")]
pub(crate) fn produce(
    client: *mut RDKafka,
    names: &mut TopicNames,
    record: &Outgoing,
    headers: &Headers,
) -> Result<(), KafkaError> {
    let topic = names.of(&record.topic)?;
    let (key, key_size) = parts(record.key.as_deref());
    let (value, value_size) = parts(record.value.as_deref());
    // SAFETY: librdkafka copies names and values, which live until it returns; the list is ours until `producev` takes it.
    let headers = unsafe {
        let list = ffi::rd_kafka_headers_new(headers.0.len());
        for header in &headers.0 {
            let (value, size) = parts(header.value.as_deref());
            let (name, length) = (header.name.as_ptr().cast(), header.name.len());
            // Fails only for a list that is read-only.
            ffi::rd_kafka_header_add(list, name, length as isize, value, size as isize);
        }
        list
    };
    // SAFETY: the handle is the caller's, whose client outlives the call; each tag is followed by what it announces, and the
    // flag has key and value copied. The list is librdkafka's from here on, unless it says that it took nothing.
    let refused = unsafe {
        ffi::rd_kafka_producev(
            client,
            part::RD_KAFKA_VTYPE_TOPIC,
            topic.as_ptr(),
            part::RD_KAFKA_VTYPE_PARTITION,
            record.partition,
            part::RD_KAFKA_VTYPE_MSGFLAGS,
            ffi::RD_KAFKA_MSG_F_COPY,
            part::RD_KAFKA_VTYPE_VALUE,
            value,
            value_size,
            part::RD_KAFKA_VTYPE_KEY,
            key,
            key_size,
            part::RD_KAFKA_VTYPE_TIMESTAMP,
            record.timestamp_ms.unwrap_or(0),
            part::RD_KAFKA_VTYPE_HEADERS,
            headers,
            part::RD_KAFKA_VTYPE_END,
        )
    };
    if refused.is_error() {
        // SAFETY: it was not taken, and nobody else has it.
        unsafe { ffi::rd_kafka_headers_destroy(headers) };
        return Err(KafkaError::MessageProduction(refused.into()));
    }
    Ok(())
}

/// A null pointer is no value, which differs from one of no bytes.
fn parts(bytes: Option<&[u8]>) -> (*const std::ffi::c_void, usize) {
    bytes.map_or((std::ptr::null(), 0), |bytes| (bytes.as_ptr().cast(), bytes.len()))
}
