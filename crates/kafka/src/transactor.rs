//! The transaction thread: takes one window at a time and makes it visible to `read_committed` readers
//! together with its offsets, or reports that it left nothing.
//!
//! ```text
//!  Ready ─begin─► Open ─produce, flush─► Produced ─offsets accepted─► Prepared ─end accepted─► Ready
//!                  │                        │                            │
//!                  │ abortable, cancelled, no valid member               │ only retried, never aborted by us
//!                  └──────────► Aborting ◄──┘                            │
//!                                  │ done → Ready (window comes back)    │
//!                                  └────────── fatal, fenced ◄───────────┘
//!                                                   │ producer built anew; init_transactions resolves
//!                                                   └ whatever was pending → Ready (Lost: rewind all)
//! ```

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList, bindings as ffi,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaError},
    message::{DeliveryResult, Message as _},
    producer::{Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
    util::Timeout,
};
use twinlane_delivery::Window;

use crate::{
    Connection, Error, Membership, Outgoing,
    consumer::log,
    error::is_authorisation,
    fail_point, metric_names,
    offsets::{Claim, Hung, Offsets},
    pause,
};

/// How a window ended.
#[derive(Debug)]
pub enum Outcome {
    /// Its outputs are visible and its offsets committed.
    Committed(Window<Outgoing>),
    /// Nothing of it is visible, for certain. It may be produced again as far as its epochs still hold.
    Aborted(Window<Outgoing>),
    /// The producer was built anew and the brokers have resolved what was pending, one way or the other:
    /// every partition must be read again from its committed offset.
    Lost,
    /// The stage cannot go on.
    Failed(Error),
}

/// Who commits.
#[derive(Clone, Debug)]
pub struct TransactorOptions {
    /// Name for logs, metrics and broker quotas.
    pub stage: String,
    /// Stable per replica: the restarted process fences its own past with it.
    pub transactional_id: String,
    /// The least `max.message.bytes` of the topics written: brokers hold it against a whole batch of records.
    pub max_batch_bytes: usize,
}

/// Handle of the transaction thread.
pub struct Transactor {
    windows: Option<Sender<Window<Outgoing>>>,
    outcomes: Receiver<Outcome>,
    cancel: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Transactor {
    /// Builds the producer and fences any former one with the same id; blocks until the brokers agree.
    pub fn start(
        connection: &Connection,
        options: TransactorOptions,
        membership: Membership,
    ) -> Result<Self, Error> {
        let (windows, jobs) = bounded(1);
        let (reports, outcomes) = bounded(1);
        let cancel = Arc::new(AtomicBool::new(false));
        let connection = connection.clone();
        let producer = build(&connection, &options)?;
        let worker = Worker {
            seconds: metrics::histogram!(metric_names::TRANSACTION_SECONDS, "stage" => options.stage.clone()),
            connection,
            options,
            membership,
            producer,
            cancel: cancel.clone(),
            fenced_at: None,
        };
        let thread = std::thread::Builder::new()
            .name("kafka-transactions".into())
            .spawn(move || worker.run(&jobs, &reports))
            .expect("the system can start a thread");
        Ok(Self { windows: Some(windows), outcomes, cancel, thread: Some(thread) })
    }

    /// Hands a window over. One at a time: the caller waits for its [`Outcome`] before the next.
    pub fn submit(&self, window: Window<Outgoing>) {
        if let Some(windows) = &self.windows {
            // The thread lives as long as this handle; if it panicked, `outcomes` is closed and says so.
            let _ = windows.send(window);
        }
    }

    /// Where outcomes arrive, one per window.
    pub fn outcomes(&self) -> &Receiver<Outcome> {
        &self.outcomes
    }

    /// Asks that the window that is out be aborted if its offsets were not sent yet: its partitions are lost.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Release);
    }

    /// Lifts [`Transactor::cancel`], once the window's outcome has arrived.
    pub fn uncancel(&self) {
        self.cancel.store(false, Ordering::Release);
    }
}

impl Drop for Transactor {
    fn drop(&mut self) {
        self.windows = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What became of the deliveries of a window. One that failed aborts all of it.
#[derive(Default)]
struct Failures {
    count: AtomicUsize,
    /// Topic and code of a record that will be refused however often it is sent.
    refused: Mutex<Option<(String, RDKafkaErrorCode)>>,
}

impl Failures {
    fn refused(&self) -> MutexGuard<'_, Option<(String, RDKafkaErrorCode)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Deliveries(Arc<Failures>);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "producer");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else { return };
        self.0.count.fetch_add(1, Ordering::Relaxed);
        if let Some(code) = error.rdkafka_error_code()
            && is_refusal(code)
        {
            self.0.refused().get_or_insert_with(|| (message.topic().to_owned(), code));
        }
    }
}

struct Producer {
    client: ThreadedProducer<Deliveries>,
    offsets: Offsets,
    failures: Arc<Failures>,
    /// How long a transaction may be open, as the broker was told.
    lifetime: Duration,
}

impl Producer {
    fn new(client: ThreadedProducer<Deliveries>, failures: Arc<Failures>, lifetime: Duration) -> Self {
        Self { offsets: Offsets::of(client.clone()), client, failures, lifetime }
    }

    /// Lets it go on a thread of its own: a client that hangs may take for ever to end.
    fn leave(self) {
        let ends = std::thread::Builder::new().name("kafka-farewell".into()).spawn(move || drop(self));
        ends.expect("the system can start a thread");
    }
}

/// What stopped a transaction, by what to do next.
enum Stop {
    Abort(&'static str),
    Fatal(RDKafkaErrorCode),
}

const PATIENCE: Duration = Duration::from_secs(10);
/// librdkafka's own default.
const BATCH_BYTES: usize = 1_000_000;
const FLUSH_SLICE_MS: i32 = 1000;
/// What giving up a record may take beyond its time.
const FLUSH_GRACE: Duration = Duration::from_secs(5);
/// A transaction's lifetime where the settings name none that can be read.
const LIFETIME: Duration = Duration::from_secs(10);
/// Fenced again within this time, before its transaction could have timed out, means that another process runs under
/// the same id.
const FENCED_TWICE: Duration = Duration::from_secs(300);

struct Worker {
    connection: Connection,
    options: TransactorOptions,
    membership: Membership,
    producer: Producer,
    cancel: Arc<AtomicBool>,
    fenced_at: Option<Instant>,
    seconds: metrics::Histogram,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Window<Outgoing>>, reports: &Sender<Outcome>) {
        while let Ok(window) = jobs.recv() {
            let outcome = self.settle(window);
            let failed = matches!(outcome, Outcome::Failed(_));
            if reports.send(outcome).is_err() || failed {
                break;
            }
        }
    }

    fn settle(&mut self, window: Window<Outgoing>) -> Outcome {
        let began = Instant::now();
        let stopped = match self.commit(&window) {
            Ok(()) => {
                self.seconds.record(began.elapsed().as_secs_f64());
                return Outcome::Committed(window);
            }
            Err(stop) => stop,
        };
        let fatal = match stopped {
            Stop::Abort(cause) => {
                metrics::counter!(metric_names::ABORTS, "stage" => self.options.stage.clone(), "cause" => cause)
                    .increment(1);
                tracing::info!(
                    stage = self.options.stage,
                    cause,
                    records = window.records(),
                    "window aborted"
                );
                let aborted = self.abort();
                if let Some((topic, code)) = self.producer.failures.refused().take() {
                    return Outcome::Failed(Error::Refused { topic, code });
                }
                match aborted {
                    Ok(()) => return Outcome::Aborted(window),
                    Err(code) => code,
                }
            }
            Stop::Fatal(code) => code,
        };
        self.rebuild(fatal, began.elapsed())
    }

    fn commit(&self, window: &Window<Outgoing>) -> Result<(), Stop> {
        let client = &self.producer.client;
        self.producer.failures.count.store(0, Ordering::Relaxed);
        *self.producer.failures.refused() = None;
        client.begin_transaction().map_err(|e| sort(e, "begin"))?;
        for output in window.outputs() {
            self.produce(output)?;
        }
        self.flush()?;
        // From here on the broker decides whether we still own the partitions, by generation. It cannot
        // know that one was lost and came back, so nothing of a cancelled window gets that far.
        if self.cancel.load(Ordering::Acquire) {
            return Err(Stop::Abort("partitions_lost"));
        }
        let metadata = self.membership.metadata().ok_or(Stop::Abort("no_membership"))?;
        fail_point::pass("before_offsets");
        self.send_offsets(&Claim::new((offsets(window), metadata)))?;
        fail_point::pass("before_end");
        self.retried("commit", || client.commit_transaction(Timeout::Never))
    }

    /// However often it is tried, it is the same claim of the same member: a later generation may have lost
    /// partitions and won them back.
    fn send_offsets(&self, claim: &Claim) -> Result<(), Stop> {
        let until = Instant::now() + self.producer.lifetime;
        loop {
            match self.producer.offsets.send(claim, until.saturating_duration_since(Instant::now())) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if is_retriable(&error) && Instant::now() < until => {
                    tracing::warn!(%error, "trying again to send offsets");
                }
                Ok(Err(error)) => return Err(sort(error, "offsets")),
                Err(Hung) => {
                    tracing::warn!("the client hangs while it sends offsets");
                    return Err(Stop::Fatal(RDKafkaErrorCode::OperationTimedOut));
                }
            }
        }
    }

    fn produce(&self, output: &Outgoing) -> Result<(), Stop> {
        loop {
            match self.producer.client.send(output.as_record()) {
                Ok(()) => return Ok(()),
                // The local queue is full: let some of it out.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    self.flush_slice();
                }
                Err((error, _)) => {
                    tracing::warn!(%error, topic = %output.topic, "produce");
                    return match error.rdkafka_error_code() {
                        Some(RDKafkaErrorCode::Fatal) => Err(Stop::Fatal(RDKafkaErrorCode::Fatal)),
                        _ => Err(Stop::Abort("produce")),
                    };
                }
            }
        }
    }

    /// Waits until everything is acknowledged or something failed.
    fn flush(&self) -> Result<(), Stop> {
        // Within its lifetime librdkafka acknowledges a record or gives it up.
        let until = Instant::now() + self.producer.lifetime + FLUSH_GRACE;
        while self.producer.client.in_flight_count() > 0 {
            self.flush_slice();
            if Instant::now() > until {
                let left = self.producer.client.in_flight_count();
                tracing::warn!(left, "the client hangs with records that it neither delivers nor gives up");
                return Err(Stop::Fatal(RDKafkaErrorCode::OperationTimedOut));
            }
            if self.cancel.load(Ordering::Acquire) {
                return Err(Stop::Abort("partitions_lost"));
            }
        }
        match self.producer.failures.count.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(Stop::Abort("delivery")),
        }
    }

    /// rdkafka's own `flush` polls in steps of 100 ms, which would be the floor of every commit. The C
    /// function waits on a condition and overrides linger; delivery reports are served by the poll thread.
    #[expect(unsafe_code, reason = "rdkafka's flush costs 100 ms per commit")]
    fn flush_slice(&self) {
        // SAFETY: the handle belongs to `self.producer.client`, which outlives the call.
        unsafe {
            ffi::rd_kafka_flush(self.producer.client.client().native_ptr(), FLUSH_SLICE_MS);
        }
    }

    /// Calls again what librdkafka says may be called again with the same arguments.
    fn retried(&self, what: &'static str, call: impl Fn() -> Result<(), KafkaError>) -> Result<(), Stop> {
        loop {
            match call() {
                Ok(()) => return Ok(()),
                Err(error) if is_retriable(&error) => tracing::warn!(%error, what, "trying again"),
                Err(error) => return Err(sort(error, what)),
            }
        }
    }

    fn abort(&self) -> Result<(), RDKafkaErrorCode> {
        loop {
            match self.producer.client.abort_transaction(Timeout::Never) {
                Ok(()) => return Ok(()),
                Err(error) if is_retriable(&error) => tracing::warn!(%error, "trying to abort again"),
                Err(error) => {
                    tracing::warn!(%error, "abort");
                    return Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fatal));
                }
            }
        }
    }

    /// `age` is that of the transaction that was broken.
    fn rebuild(&mut self, code: RDKafkaErrorCode, age: Duration) -> Outcome {
        let cause = self.producer.client.client().fatal_error().map_or(code, |(cause, _)| cause);
        metrics::counter!(metric_names::PRODUCER_REBUILDS, "stage" => self.options.stage.clone())
            .increment(1);
        tracing::warn!(stage = self.options.stage, %cause, "building the producer anew");
        let fenced = matches!(
            cause,
            RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch
        );
        // The broker fences what outlives its time-out, too: with brokers away that happens again and again, and heals.
        if fenced && age < self.producer.lifetime {
            // Two processes with one id would fence each other for ever: the second time, this one yields.
            if self.fenced_at.is_some_and(|at| at.elapsed() < FENCED_TWICE) {
                return Outcome::Failed(Error::Fenced(self.options.transactional_id.clone()));
            }
            self.fenced_at = Some(Instant::now());
            pause(random_pause());
        }
        match build(&self.connection, &self.options) {
            Ok(producer) => {
                std::mem::replace(&mut self.producer, producer).leave();
                Outcome::Lost
            }
            Err(error) => Outcome::Failed(error),
        }
    }
}

fn build(connection: &Connection, options: &TransactorOptions) -> Result<Producer, Error> {
    let failures = Arc::new(Failures::default());
    let mut config = connection.producer_config(&options.stage, &options.transactional_id);
    let batch_bytes = config.get("batch.size").and_then(|bytes| bytes.parse().ok()).unwrap_or(BATCH_BYTES);
    let lifetime = config.get("transaction.timeout.ms").and_then(|ms| ms.parse().ok());
    let lifetime = lifetime.map_or(LIFETIME, Duration::from_millis);
    config.set("batch.size", options.max_batch_bytes.min(batch_bytes).to_string());
    loop {
        let client: ThreadedProducer<Deliveries> =
            config.create_with_context(Deliveries(failures.clone())).map_err(Error::Settings)?;
        let error = loop {
            match client.init_transactions(PATIENCE) {
                Ok(()) => return Ok(Producer::new(client, failures, lifetime)),
                Err(error) if is_retriable(&error) => {
                    tracing::warn!(%error, id = options.transactional_id, "waiting for the transaction coordinator");
                }
                Err(error) => break error,
            }
        };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if is_authorisation(code) {
            return Err(Error::Unauthorised {
                what: format!("use transactional id `{}`", options.transactional_id),
                code,
            });
        }
        if code == RDKafkaErrorCode::Fenced {
            return Err(Error::Fenced(options.transactional_id.clone()));
        }
        tracing::warn!(%error, "could not begin; building the producer anew");
        pause(Duration::from_millis(500));
    }
}

fn offsets(window: &Window<Outgoing>) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(window.runs.len());
    for run in &window.runs {
        list.add_partition_offset(
            &run.partition.topic,
            run.partition.partition,
            Offset::Offset(run.next_offset),
        )
        .expect("the ledger's offsets are valid");
    }
    list
}

fn sort(error: KafkaError, what: &'static str) -> Stop {
    match &error {
        KafkaError::Transaction(inner) if inner.txn_requires_abort() => {
            tracing::info!(%error, what, "the transaction must be aborted");
            Stop::Abort(what)
        }
        _ => {
            tracing::warn!(%error, what, "the producer cannot go on");
            Stop::Fatal(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fatal))
        }
    }
}

/// Whether sending the same record again would end the same.
fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(code, E::InvalidRecord | E::InvalidTimestamp | E::MessageSizeTooLarge)
}

fn is_retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(inner) => RDKafkaError::is_retriable(inner) && !inner.txn_requires_abort(),
        KafkaError::Flush(_) => true,
        _ => false,
    }
}

/// 100 to 600 ms, so that two that fenced each other do not meet again.
fn random_pause() -> Duration {
    use std::hash::{BuildHasher as _, Hasher as _};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    Duration::from_millis(100 + random % 500)
}
