//! The producer's calls that may never come back, on a thread of their own. librdkafka 2.12 does not hold them to their
//! time-outs: when the group's coordinator leaves the cluster's metadata, sending offsets waits for a change of that
//! broker's state that nobody will report (librdkafka #5456, #5511), and an abort after records had timed out was seen to
//! wait for minutes. So a call that takes too long is left behind together with its producer. The next producer fences that
//! one and has its transaction resolved, so whatever comes of the call later changes nothing.

use std::{sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rdkafka::{
    TopicPartitionList,
    consumer::ConsumerGroupMetadata,
    error::KafkaError,
    producer::{BaseProducer, Producer as _, ProducerContext},
};

/// What is asked of the producer.
#[derive(Clone)]
pub(crate) enum Call {
    /// Begin a transaction.
    Begin,
    /// Send a window's offsets: where each partition goes on, and the member that says so.
    Offsets(Arc<(TopicPartitionList, ConsumerGroupMetadata)>),
    /// Commit the transaction.
    Commit,
    /// Abort it.
    Abort,
}

/// Calls of one producer.
pub(crate) struct Calls {
    /// With the time-out that librdkafka is told.
    calls: Sender<(Call, Duration)>,
    results: Receiver<Result<(), KafkaError>>,
}

/// The call did not come back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hung;

impl Calls {
    /// Starts the thread. It ends once this is dropped, or when a call that hung comes back after that.
    pub(crate) fn of<C: ProducerContext + 'static>(producer: Arc<BaseProducer<C>>) -> Self {
        Self::start(move |call, limit| match call {
            Call::Begin => producer.begin_transaction(),
            Call::Offsets(claim) => producer.send_offsets_to_transaction(&claim.0, &claim.1, limit),
            Call::Commit => producer.commit_transaction(limit),
            Call::Abort => producer.abort_transaction(limit),
        })
    }

    fn start(make: impl Fn(Call, Duration) -> Result<(), KafkaError> + Send + 'static) -> Self {
        // One call at a time; what a call left behind answers is dropped with the channel.
        let (calls, waiting) = bounded::<(Call, Duration)>(1);
        let (answers, results) = bounded(1);
        std::thread::Builder::new()
            .name("kafka-calls".into())
            .spawn(move || {
                for (call, limit) in waiting {
                    if answers.send(make(call, limit)).is_err() {
                        break;
                    }
                }
            })
            .expect("the system can start a thread");
        Self { calls, results }
    }

    /// Makes a call, or gives up on the producer some time after `limit`.
    pub(crate) fn make(&self, call: &Call, limit: Duration) -> Result<Result<(), KafkaError>, Hung> {
        // The thread lives as long as this; if it panicked, `results` is closed and says so.
        let _ = self.calls.send((call.clone(), limit));
        match self.results.recv_timeout(limit + GRACE) {
            Ok(result) => Ok(result),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(Hung),
        }
    }
}

/// What librdkafka may take beyond the time-out that it was told.
const GRACE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_does_not_come_back_is_given_up() {
        let (_held, never) = bounded::<()>(0);
        let calls = Calls::start(move |call, _| {
            if matches!(call, Call::Abort) {
                let _ = never.recv();
            }
            Ok(())
        });
        assert!(matches!(calls.make(&Call::Commit, Duration::from_secs(60)), Ok(Ok(()))));
        assert_eq!(calls.make(&Call::Abort, Duration::ZERO), Err(Hung));
    }
}
