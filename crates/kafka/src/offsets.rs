//! Sends a window's offsets, on a thread of its own: the call may never come back. librdkafka 2.12 does not hold it to
//! its time-out, and when the group's coordinator leaves the cluster's metadata it waits for a change of that broker's
//! state that nobody will report (librdkafka #5456, #5511). So a call that takes too long is left behind together with its
//! producer. The next producer fences that one and has its transaction resolved, so whatever comes of the call later
//! changes nothing.

use std::{sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rdkafka::{
    TopicPartitionList,
    consumer::ConsumerGroupMetadata,
    error::KafkaError,
    producer::{Producer as _, ProducerContext, ThreadedProducer},
};

/// What is sent: where each partition goes on, and the member that says so.
pub(crate) type Claim = Arc<(TopicPartitionList, ConsumerGroupMetadata)>;
/// With the time-out that librdkafka is told.
type Call = (Claim, Duration);

/// Sends offsets in one producer's transactions.
pub(crate) struct Offsets {
    calls: Sender<Call>,
    results: Receiver<Result<(), KafkaError>>,
}

/// The call did not come back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hung;

impl Offsets {
    /// Starts the thread. It ends once this is dropped, or when a call that hung comes back after that.
    pub(crate) fn of<C: ProducerContext + 'static>(producer: ThreadedProducer<C>) -> Self {
        Self::start(move |(claim, limit)| producer.send_offsets_to_transaction(&claim.0, &claim.1, limit))
    }

    fn start(send: impl Fn(Call) -> Result<(), KafkaError> + Send + 'static) -> Self {
        // One call at a time; what a call left behind answers is dropped with the channel.
        let (calls, waiting) = bounded::<Call>(1);
        let (answers, results) = bounded(1);
        std::thread::Builder::new()
            .name("kafka-offsets".into())
            .spawn(move || {
                for call in waiting {
                    if answers.send(send(call)).is_err() {
                        break;
                    }
                }
            })
            .expect("the system can start a thread");
        Self { calls, results }
    }

    /// Sends them, or gives up on the producer after `limit`.
    pub(crate) fn send(&self, claim: &Claim, limit: Duration) -> Result<Result<(), KafkaError>, Hung> {
        // The thread lives as long as this; if it panicked, `results` is closed and says so.
        let _ = self.calls.send((Arc::clone(claim), limit));
        match self.results.recv_timeout(limit + GRACE) {
            Ok(result) => Ok(result),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(Hung),
        }
    }
}

/// What librdkafka may take beyond the time-out that it was told.
const GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use rdkafka::{
        ClientConfig,
        consumer::{BaseConsumer, Consumer as _},
    };

    use super::*;

    #[test]
    fn a_call_that_does_not_come_back_is_given_up() {
        let member: BaseConsumer = ClientConfig::new().set("group.id", "g").create().expect("valid");
        let metadata = member.group_metadata().expect("a member of a group");
        let claim = Claim::new((TopicPartitionList::new(), metadata));
        let (_held, never) = bounded::<()>(0);
        let offsets = Offsets::start(move |(_, limit)| {
            if limit.is_zero() {
                let _ = never.recv();
            }
            Ok(())
        });
        assert!(matches!(offsets.send(&claim, Duration::from_secs(60)), Ok(Ok(()))));
        assert_eq!(offsets.send(&claim, Duration::ZERO), Err(Hung));
    }
}
