//! Produces through C: rdkafka's `send` allocates the name of the topic and of every header for each record.

use std::{ffi::CString, sync::Arc};

use rdkafka::{
    bindings::{self as ffi, rd_kafka_vtype_t as part},
    error::{IsError as _, KafkaError},
    types::RDKafka,
};
use twinlane_record::Headers;

use crate::Outgoing;

/// The topics that were written, and how full their partitions' next batches are.
#[derive(Default)]
pub(crate) struct Topics(Vec<Topic>);

struct Topic {
    topic: Arc<str>,
    /// As C reads it.
    name: CString,
    /// By partition: bytes handed over since the client was last empty.
    handed: Vec<usize>,
}

impl Topics {
    fn of(&mut self, topic: &Arc<str>) -> Result<&mut Topic, KafkaError> {
        let at = match self.0.iter().position(|known| known.topic == *topic) {
            Some(at) => at,
            None => {
                let name = CString::new(&**topic)?;
                self.0.push(Topic { topic: topic.clone(), name, handed: Vec::new() });
                self.0.len() - 1
            }
        };
        Ok(&mut self.0[at])
    }

    /// Counts a record into its partition's next batch; false where that has no room for it, and nothing is counted.
    pub(crate) fn fill(&mut self, record: &Outgoing, batch_bytes: usize) -> Result<bool, KafkaError> {
        let handed = &mut self.of(&record.topic)?.handed;
        let partition = record.partition as usize;
        if handed.len() <= partition {
            handed.resize(partition + 1, 0);
        }
        let (filled, size) = (&mut handed[partition], record.wire_size());
        let has_room = *filled == 0 || *filled + size <= batch_bytes;
        *filled += if has_room { size } else { 0 };
        Ok(has_room)
    }

    /// The client is empty.
    pub(crate) fn emptied(&mut self) {
        self.0.iter_mut().for_each(|topic| topic.handed.fill(0));
    }
}

/// Hands a record to librdkafka, which copies it.
#[expect(unsafe_code, reason = "rdkafka's send costs an allocation a header and one for the topic")]
pub(crate) fn produce(
    client: *mut RDKafka,
    topics: &mut Topics,
    record: &Outgoing,
    headers: &Headers,
) -> Result<(), KafkaError> {
    let topic = &topics.of(&record.topic)?.name;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_full_when_its_batch_is_and_the_others_are_not() {
        let record = |partition, bytes: usize| Outgoing {
            topic: "t".into(),
            partition,
            key: None,
            value: Some(vec![0; bytes].into()),
            headers: Headers::default(),
            timestamp_ms: None,
        };
        let batch = 2 * record(0, 100).wire_size();
        let mut topics = Topics::default();
        let mut fill = |record: &Outgoing| topics.fill(record, batch).expect("a topic's name");
        assert!(fill(&record(0, 100)) && fill(&record(0, 100)));
        assert!(!fill(&record(0, 0)), "it is full");
        assert!(fill(&record(5, batch)), "one that is larger than a batch has one of its own");
        assert!(!fill(&record(5, 0)));
        topics.emptied();
        assert!(topics.fill(&record(0, 100), batch).expect("a topic's name"));
    }
}
