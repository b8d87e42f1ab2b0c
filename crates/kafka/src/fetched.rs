//! Takes records in batches. rdkafka gives them one at a time, which costs a lock, an allocation and several looks at the
//! clock each; librdkafka can give many at once, but not from the consumer's queue, where rebalances lie among the records. So
//! the assigned partitions are forwarded into a queue of their own:
//!
//! ```text
//!   fetched of partition 0 ─┐
//!   fetched of partition 1 ─┼─► records ─► Fetched::take
//!   rebalances, errors of the client ─► consumer's queue ─► rdkafka's poll
//! ```
//!
//! A partition is forwarded before it is assigned, and librdkafka leaves such a one alone from then on: none of its records
//! ever lies in the consumer's queue, so they cannot come out of two queues in another order. Giving a partition back ends
//! the forwarding; what came back faster than librdkafka could end it would stay in the partition's own queue, in order, until
//! [`Fetched::forward`] is called again.

use std::{ffi::CString, ptr::NonNull, sync::Arc, time::Duration};

use rdkafka::{bindings as ffi, consumer::Consumer as _, error::KafkaError, types::RDKafkaMessage};
use twinlane_delivery::TopicPartition;

use crate::{consumer::Client, message::Message};

/// Records taken at once: enough to make a batch cheap, few enough to stop soon after a limit of bytes is passed.
const BATCH: usize = 64;

/// Where the records of the assigned partitions arrive. Belongs to one client, whose callbacks reach it by
/// [`Records`].
pub(crate) struct Fetched {
    records: Records,
    batch: Vec<*mut RDKafkaMessage>,
    // After the queue, which must not outlive it.
    client: Arc<Client>,
}

// SAFETY: messages and queues of librdkafka may be used by any thread; the batch is empty between calls.
#[expect(unsafe_code, reason = "raw pointers are not Send by themselves")]
unsafe impl Send for Fetched {}

/// The queue itself, for as long as [`Fetched`] lives.
#[derive(Clone, Copy)]
pub(crate) struct Records(NonNull<ffi::rd_kafka_queue_t>);

// SAFETY: librdkafka locks its queues.
#[expect(unsafe_code, reason = "raw pointers are not Send by themselves")]
unsafe impl Send for Records {}

impl Fetched {
    #[expect(unsafe_code, reason = "rdkafka has no queue of several partitions")]
    pub(crate) fn of(client: Arc<Client>) -> Self {
        // SAFETY: the client outlives the queue, see `Drop`.
        let queue = unsafe { ffi::rd_kafka_queue_new(client.client().native_ptr()) };
        let records = Records(NonNull::new(queue).expect("librdkafka makes a queue or aborts"));
        *client.context().records() = Some(records);
        Self { records, batch: Vec::with_capacity(BATCH), client }
    }

    /// Hands over what has been fetched, at most [`BATCH`] records: what is there at once, else the first that comes within
    /// this time. How many there were.
    pub(crate) fn take(
        &mut self,
        patience: Duration,
        mut each: impl FnMut(Result<Message<'_>, KafkaError>),
    ) -> usize {
        if self.fill(Duration::ZERO, BATCH) == 0 && !patience.is_zero() {
            // librdkafka waits until it has all that it is asked for.
            self.fill(patience, 1);
        }
        let count = self.batch.len();
        for message in self.batch.drain(..) {
            #[expect(unsafe_code, reason = "messages are freed by whoever took them")]
            // SAFETY: librdkafka gave it to us, and nobody holds it after the call.
            unsafe {
                let code = (*message).err;
                each(match code {
                    ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(Message::of(&*message)),
                    code => Err(KafkaError::MessageConsumption(code.into())),
                });
                ffi::rd_kafka_message_destroy(message);
            }
        }
        count
    }

    #[expect(unsafe_code, reason = "rdkafka has no batches")]
    fn fill(&mut self, patience: Duration, most: usize) -> usize {
        // SAFETY: the batch has room for so many, and holds as many as librdkafka says.
        unsafe {
            let (queue, batch) = (self.records.0.as_ptr(), self.batch.as_mut_ptr());
            let taken = ffi::rd_kafka_consume_batch_queue(queue, patience.as_millis() as i32, batch, most);
            self.batch.set_len(taken.max(0) as usize);
        }
        self.batch.len()
    }

    /// Forwards these partitions once more, which changes nothing where it was done before.
    pub(crate) fn forward(&self, partitions: &[TopicPartition]) {
        self.records.forward(&self.client, partitions);
    }
}

impl Drop for Fetched {
    #[expect(unsafe_code, reason = "rdkafka has no queue of several partitions")]
    fn drop(&mut self) {
        *self.client.context().records() = None;
        // SAFETY: the callbacks know it no more, and the client lives until this is done.
        unsafe { ffi::rd_kafka_queue_destroy(self.records.0.as_ptr()) };
    }
}

impl Records {
    /// Has records of these partitions come here; before they are assigned.
    #[expect(unsafe_code, reason = "rdkafka forwards partitions one by one into queues of their own")]
    pub(crate) fn forward(self, client: &Client, partitions: &[TopicPartition]) {
        for partition in partitions {
            let topic = CString::new(&*partition.topic).expect("brokers name no topic with a zero in it");
            // SAFETY: client and queue live; the partition's queue is let go after its last use.
            unsafe {
                let native = client.client().native_ptr();
                let own = ffi::rd_kafka_queue_get_partition(native, topic.as_ptr(), partition.partition);
                if !own.is_null() {
                    ffi::rd_kafka_queue_forward(own, self.0.as_ptr());
                    ffi::rd_kafka_queue_destroy(own);
                }
            }
        }
    }
}
