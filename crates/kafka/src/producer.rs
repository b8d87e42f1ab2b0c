//! The transactional producer of the [transaction thread](crate::Transactor): how it is built, and what its
//! errors mean for the window that met them.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, bindings as ffi,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{DeliveryResult, Message as _},
    producer::{BaseProducer, Producer as _, ProducerContext},
    types::RDKafkaErrorCode,
};
use twinlane_record::Headers;

use crate::{
    Connection, Error, Outgoing, TransactorOptions,
    calls::{Call, Calls},
    consumer::log,
    error::{self, is_authorisation, is_missing, is_refusal, is_retriable},
    pause,
    produce::{Topics, produce},
    sign_in::Heard,
};

/// What became of the deliveries of a window. One that failed aborts all of it.
#[derive(Default)]
pub(crate) struct Failures {
    pub(crate) count: AtomicUsize,
    /// Topic and code of a record for which trying again is of no use, or not for long.
    beyond_repair: Mutex<Option<(String, RDKafkaErrorCode)>>,
    /// Of brokers that do not let the client in.
    heard: Heard,
}

impl Failures {
    /// Before a window: nothing has failed yet.
    pub(crate) fn forget(&self) {
        self.count.store(0, Ordering::Relaxed);
        *self.beyond_repair() = None;
    }

    /// Keeps the first error of a window that waiting does not heal.
    pub(crate) fn note(&self, topic: &str, error: &KafkaError) {
        if let Some(code) = error.rdkafka_error_code()
            && (is_refusal(code) || is_authorisation(code) || is_missing(code))
        {
            self.beyond_repair().get_or_insert_with(|| (topic.to_owned(), code));
        }
    }

    pub(crate) fn beyond_repair(&self) -> MutexGuard<'_, Option<(String, RDKafkaErrorCode)>> {
        self.beyond_repair.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Deliveries(Arc<Failures>);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.heard.hear("producer", &error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else { return };
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.note(message.topic(), error);
    }
}

pub(crate) struct Producer {
    pub(crate) client: Arc<BaseProducer<Deliveries>>,
    topics: Topics,
    /// What librdkafka puts into one batch of a partition at most.
    batch_bytes: usize,
    pub(crate) calls: Calls,
    pub(crate) failures: Arc<Failures>,
    /// How long a transaction may be open, as the broker was told.
    pub(crate) lifetime: Duration,
}

const FLUSH_SLICE_MS: i32 = 1000;
/// So often it is looked whether anybody else still has the client. librdkafka waits for whole milliseconds and rdkafka spins
/// through what is left, so what is left is little.
const SERVE: Duration = Duration::from_micros(200_050);
/// A transaction's lifetime where the settings name none that can be read.
const LIFETIME: Duration = Duration::from_secs(10);
/// How long one question to the transaction coordinator lasts before a stop is looked for.
const INIT_SLICE: Duration = Duration::from_secs(1);
/// So often in a row a producer may be fenced while it begins. A question of its own that was answered too late does that
/// once or twice after brokers were away; another process with the same id does it for as long as it lives.
const FENCED_AT_START: u32 = 4;

/// Serves a client's failed deliveries and errors on a thread of its own, until nobody else has the client; then it ends the
/// client, which may take for ever with one that hangs. rdkafka's `ThreadedProducer` serves them, too, and spins for a
/// hundredth of a core (see [`SERVE`]).
fn serve(client: Arc<BaseProducer<Deliveries>>) {
    let serving = move || {
        while Arc::strong_count(&client) > 1 {
            client.poll(SERVE);
        }
    };
    let serves = std::thread::Builder::new().name("kafka-reports".into()).spawn(serving);
    serves.expect("the system can start a thread");
}

impl Producer {
    /// Builds it and fences any former one with the same id; tries until the brokers agree. `None`: `stopping`
    /// was set meanwhile.
    pub(crate) fn build(
        connection: &Connection,
        options: &TransactorOptions,
        stopping: &AtomicBool,
    ) -> Result<Option<Self>, Error> {
        let failures = Arc::new(Failures::default());
        let id = &options.transactional_id;
        let config = connection.producer_config(&options.stage, id, options.max_batch_bytes);
        let lifetime = config.get("transaction.timeout.ms").and_then(|ms| ms.parse().ok());
        let lifetime = lifetime.map_or(LIFETIME, Duration::from_millis);
        let batch_bytes = config.get("batch.size").and_then(|bytes| bytes.parse().ok());
        let batch_bytes = batch_bytes.unwrap_or(options.max_batch_bytes);
        let mut fenced = 0;
        loop {
            let client: BaseProducer<Deliveries> =
                config.create_with_context(Deliveries(failures.clone())).map_err(error::settings)?;
            let client = Arc::new(client);
            serve(client.clone());
            let error = loop {
                if stopping.load(Ordering::Acquire) {
                    return Ok(None);
                }
                match client.init_transactions(INIT_SLICE) {
                    Ok(()) => {
                        let calls = Calls::of(client.clone());
                        let topics = Topics::default();
                        return Ok(Some(Self { client, topics, batch_bytes, calls, failures, lifetime }));
                    }
                    Err(error) if is_retriable(&error) => {
                        if let Some(refused) = failures.heard.failure(&config) {
                            return Err(refused);
                        }
                        failures.heard.complaints.tell("waiting for the transaction coordinator", &error, id);
                    }
                    Err(error) => break error,
                }
            };
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            if is_authorisation(code) {
                return Err(Error::Unauthorised { what: format!("use transactional id `{id}`"), code });
            }
            if code == RDKafkaErrorCode::Fenced {
                fenced += 1;
                if fenced > FENCED_AT_START {
                    return Err(Error::Fenced(id.clone()));
                }
            }
            tracing::warn!(%error, "could not begin; building the producer anew");
            pause(Duration::from_millis(500));
        }
    }

    /// Counts a record into its partition's next batch; false where that is full: flush first. librdkafka has one batch of a
    /// partition on its way at a time, and while the next is ready its thread does not wait for the answer but asks, again
    /// and again, as fast as a core can.
    pub(crate) fn fill(&mut self, record: &Outgoing) -> Result<bool, KafkaError> {
        self.topics.fill(record, self.batch_bytes)
    }

    /// Everything that was handed over is delivered or failed.
    pub(crate) fn emptied(&mut self) {
        self.topics.emptied();
    }

    /// Hands a record over, with these headers instead of its own.
    pub(crate) fn send(&mut self, record: &Outgoing, headers: &Headers) -> Result<(), KafkaError> {
        produce(self.client.client().native_ptr(), &mut self.topics, record, headers)
    }

    /// rdkafka's own `flush` polls in steps of 100 ms, which would be the floor of every commit. The C
    /// function waits on a condition and overrides linger; what failed is served by a thread of its own.
    #[expect(unsafe_code, reason = "rdkafka's flush costs 100 ms per commit")]
    pub(crate) fn flush_slice(&self) {
        // SAFETY: the handle belongs to `self.client`, which outlives the call.
        unsafe {
            ffi::rd_kafka_flush(self.client.client().native_ptr(), FLUSH_SLICE_MS);
        }
    }

    /// Why the open transaction must be aborted, as librdkafka keeps it. An error that is not of one record (a
    /// partition that may not join the transaction) is found nowhere else: its records are purged, and say so.
    /// `begin` is the one call that tells it and, between begin and end, changes nothing.
    pub(crate) fn transaction_error(&self) -> Option<RDKafkaErrorCode> {
        match self.calls.make(&Call::Begin, Duration::ZERO) {
            Ok(Err(KafkaError::Transaction(error))) if error.txn_requires_abort() || error.is_fatal() => {
                Some(error.code())
            }
            _ => None,
        }
    }

    /// Why the producer is broken for good, if it is.
    pub(crate) fn fatal_error(&self) -> Option<RDKafkaErrorCode> {
        self.client.client().fatal_error().map(|(cause, _)| cause)
    }
}
