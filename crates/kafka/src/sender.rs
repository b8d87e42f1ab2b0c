//! Sends the records of a command in transactions that hold nothing else: no offsets, no group. Whoever starts
//! one under the same id fences the former and has its open transaction resolved, so that what is read after
//! [`Sender::start`] is the last word about what was sent.
//!
//! ```text
//!  Ready ─begin, produce, all delivered─► Produced ─commit─► Ready
//!                 │ a delivery failed, abortable                │ retriable: asked again
//!                 └──────► Aborting ◄───────────────────────────┤ abortable
//!                             │ done: tried again, for a while  │
//!                             └ neither fenced nor abortable ◄──┘
//!                                  └► Unclear: started anew, the topics say what became of it
//!  fenced anywhere: the command ends
//! ```

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{DeliveryResult, Message as _},
    producer::{Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use crate::{
    Connection, Error, Outgoing,
    consumer::log,
    error::{self, is_authorisation, is_fenced, is_refusal, is_retriable},
    pause,
    produce::{Topics, produce},
};

/// Who sends.
#[derive(Clone, Copy, Debug)]
pub struct SenderOptions<'o> {
    /// Name for logs and broker quotas.
    pub client_id: &'o str,
    /// Stable, so that a second run fences the first.
    pub transactional_id: &'o str,
    /// The least `max.message.bytes` of the topics written: brokers hold it against a whole batch of records.
    pub max_batch_bytes: usize,
    /// Told what is waited for, as a person reads it.
    pub notice: fn(&str),
}

/// A transactional producer without a group.
pub struct Sender {
    producer: ThreadedProducer<Deliveries>,
    refused: Refused,
    brokers: String,
    id: String,
    notice: fn(&str),
}

/// One call; it is made again until [`GIVE_UP`].
const PATIENCE: Duration = Duration::from_secs(2);
/// A command that cannot send for so long says so instead of waiting on.
const GIVE_UP: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(1);
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// What the delivery of a record came to, if it failed.
type Refused = Arc<Mutex<Option<(String, RDKafkaErrorCode)>>>;

struct Deliveries(Refused);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "sender");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            locked(&self.0).get_or_insert_with(|| (message.topic().to_owned(), code));
        }
    }
}

/// What became of the records of one call.
#[derive(Debug)]
pub enum Sent {
    /// They are visible, all of them.
    Committed,
    /// This sender is of no use any more, and cannot know whether they are: all are visible or none. Drop it; after the
    /// next [`Sender::start`] the topics tell.
    Unclear(KafkaError),
}

/// Why a transaction did not end well.
enum Stop {
    /// Nothing of it is visible; it may be tried again.
    Again(KafkaError),
    /// Nobody here can say what is visible of it.
    Unclear(KafkaError),
    /// Trying again would end the same.
    Fail(Error),
}

impl Sender {
    /// Builds the producer, fences a former one with the same id, and has its transaction resolved.
    pub fn start(connection: &Connection, options: SenderOptions<'_>) -> Result<Self, Error> {
        let config =
            connection.producer_config(options.client_id, options.transactional_id, options.max_batch_bytes);
        let refused = Refused::default();
        let producer: ThreadedProducer<Deliveries> =
            config.create_with_context(Deliveries(refused.clone())).map_err(error::settings)?;
        let sender = Self {
            producer,
            refused,
            brokers: connection.brokers.clone(),
            id: options.transactional_id.to_owned(),
            notice: options.notice,
        };
        let until = Instant::now() + GIVE_UP;
        let what = "waiting for the transaction coordinator";
        match sender.repeated(until, what, || sender.producer.init_transactions(PATIENCE)) {
            Ok(()) => Ok(sender),
            Err(Stop::Fail(error)) => Err(error),
            Err(Stop::Again(source) | Stop::Unclear(source)) => {
                Err(Error::Client { what: "begin to send".into(), source })
            }
        }
    }

    /// Makes all of these records visible, or none of them. An error may leave either, as [`Sent::Unclear`] does.
    pub fn send(&self, records: &[&Outgoing]) -> Result<Sent, Error> {
        let until = Instant::now() + GIVE_UP;
        loop {
            match self.transaction(records, until) {
                Ok(()) => return Ok(Sent::Committed),
                Err(Stop::Fail(error)) => return Err(error),
                Err(Stop::Unclear(error)) => return Ok(Sent::Unclear(error)),
                Err(Stop::Again(source)) if Instant::now() > until => {
                    return Err(Error::Client { what: "send a transaction".into(), source });
                }
                Err(Stop::Again(error)) => {
                    (self.notice)(&format!("a transaction was aborted ({error}); trying again"));
                    pause(TRY_AGAIN);
                }
            }
        }
    }

    fn transaction(&self, records: &[&Outgoing], until: Instant) -> Result<(), Stop> {
        *locked(&self.refused) = None;
        self.producer.begin_transaction().map_err(|error| self.sorted(error))?;
        let sent = self.produce(records).and_then(|()| {
            self.repeated(until, "waiting for the commit", || self.producer.commit_transaction(PATIENCE))
        });
        let Err(Stop::Again(error)) = sent else { return sent };
        self.repeated(until, "waiting for the abort", || self.producer.abort_transaction(PATIENCE))?;
        Err(Stop::Again(error))
    }

    fn produce(&self, records: &[&Outgoing]) -> Result<(), Stop> {
        let (client, mut names) = (self.producer.client().native_ptr(), Topics::default());
        for record in records {
            loop {
                match produce(client, &mut names, record, &record.headers) {
                    Ok(()) => break,
                    Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => pause(LOOK),
                    // A transaction that has gone wrong takes no more records; its abort says how wrong.
                    Err(error) => return Err(Stop::Again(error)),
                }
            }
        }
        // rdkafka's own flush looks every 100 ms only. Each delivery has an end: librdkafka's
        // `message.timeout.ms` is not longer than a transaction may last.
        let mut told = Instant::now();
        while self.producer.in_flight_count() > 0 {
            pause(LOOK);
            if told.elapsed() > PATIENCE {
                told = Instant::now();
                (self.notice)("waiting for the brokers to acknowledge what was sent");
            }
        }
        match locked(&self.refused).take() {
            None => Ok(()),
            Some((topic, code)) if is_authorisation(code) => {
                Err(Stop::Fail(Error::Unauthorised { what: format!("write to topic `{topic}`"), code }))
            }
            Some((topic, code)) if is_refusal(code) || code == RDKafkaErrorCode::PolicyViolation => {
                Err(Stop::Fail(Error::Refused { topic, code }))
            }
            Some((_, code)) => Err(Stop::Again(KafkaError::MessageProduction(code))),
        }
    }

    /// Makes a call again while librdkafka says that it may be made again with the same arguments.
    fn repeated(
        &self,
        until: Instant,
        what: &str,
        call: impl Fn() -> Result<(), KafkaError>,
    ) -> Result<(), Stop> {
        loop {
            match call() {
                Ok(()) => return Ok(()),
                Err(error) if is_retriable(&error) && Instant::now() < until => {
                    (self.notice)(&format!("{what}: {error}"));
                    pause(LOOK);
                }
                Err(error) if is_retriable(&error) => {
                    let brokers = self.brokers.clone();
                    return Err(Stop::Fail(Error::Unreachable { brokers, source: error }));
                }
                Err(error) => return Err(self.sorted(error)),
            }
        }
    }

    fn sorted(&self, error: KafkaError) -> Stop {
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        let code = fatal.or_else(|| error.rdkafka_error_code()).unwrap_or(RDKafkaErrorCode::Unknown);
        if is_fenced(code) {
            return Stop::Fail(Error::Superseded(self.id.clone()));
        }
        if is_authorisation(code) {
            let what = format!("use transactional id `{}`", self.id);
            return Stop::Fail(Error::Unauthorised { what, code });
        }
        match &error {
            KafkaError::Transaction(inner) if inner.txn_requires_abort() => Stop::Again(error),
            _ => Stop::Unclear(error),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it holds is set in one step, so it is whole whatever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
