//! The transaction thread: takes one window at a time and makes it visible to `read_committed` readers
//! together with its offsets, or reports that it left nothing.
//!
//! What is asked in which order, and when the end is known, is [`Request`]'s to say; this thread asks librdkafka, sorts its
//! errors, and builds a new producer when one is broken.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use rdkafka::{
    Offset, TopicPartitionList, error::KafkaError, producer::Producer as _, types::RDKafkaErrorCode,
};
use twinlane_delivery::{Next, Reply, Request, TopicPartition, Window};

use crate::{
    Connection, Error, Membership, Outgoing,
    calls::{Call, Hung},
    error::{is_authorisation, is_fenced, is_missing, is_refusal, is_retriable},
    fail_point, metric_names, pause,
    producer::Producer,
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
    /// Every record says in the header [`TIMINGS`](twinlane_record::headers::TIMINGS) when it was produced.
    pub timings: bool,
}

/// Handle of the transaction thread.
pub struct Transactor {
    windows: Option<Sender<Window<Outgoing>>>,
    unstable: Sender<TopicPartition>,
    outcomes: Receiver<Outcome>,
    cancel: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Transactor {
    /// Starts the thread, which builds the producer and fences any former one with the same id. It tries until
    /// the brokers agree; windows wait meanwhile, and an error that does not heal is an [`Outcome::Failed`].
    pub fn start(
        connection: &Connection,
        options: TransactorOptions,
        membership: Membership,
    ) -> Result<Self, Error> {
        metric_names::begin(&options.stage);
        let (windows, jobs) = bounded(1);
        let (unstable, doubts) = bounded(1);
        let (reports, outcomes) = bounded(1);
        let cancel = Arc::new(AtomicBool::new(false));
        let stopping = Arc::new(AtomicBool::new(false));
        let mut handle = Self {
            windows: Some(windows),
            unstable,
            outcomes,
            cancel: cancel.clone(),
            stopping: stopping.clone(),
            thread: None,
        };
        let connection = connection.clone();
        let stage = options.stage.clone();
        let begin = move || match Producer::build(&connection, &options, &stopping) {
            Ok(Some(producer)) => Worker {
                seconds: metrics::histogram!(metric_names::TRANSACTION_SECONDS, "stage" => stage),
                connection,
                options,
                membership,
                producer,
                is_new: true,
                cancel,
                stopping,
                fenced_at: None,
                missing_since: None,
                patience: PATIENCE,
            }
            .run(&jobs, &doubts, &reports),
            Ok(None) => {}
            // Nobody receives it only when the stage is gone.
            Err(error) => drop(reports.send(Outcome::Failed(error))),
        };
        let thread = std::thread::Builder::new().name("kafka-transactions".into()).spawn(begin);
        handle.thread = Some(thread.expect("the system can start a thread"));
        Ok(handle)
    }

    /// Hands a window over. One at a time: the caller waits for its [`Outcome`] before the next.
    pub fn submit(&self, window: Window<Outgoing>) {
        if let Some(windows) = &self.windows {
            // The thread lives as long as this handle; if it panicked, `outcomes` is closed and says so.
            let _ = windows.send(window);
        }
    }

    /// The group's coordinator does not say where this partition stands, and the reason may be a transaction of our own that
    /// it takes for open: another is begun and aborted, which ends it. Never blocks; what is asked while the last is not done
    /// yet is not done twice.
    pub fn clear(&self, partition: TopicPartition) {
        let _ = self.unstable.try_send(partition);
    }

    /// Where outcomes arrive: one per window, or [`Outcome::Failed`] at any time, after which nothing comes.
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
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What stopped a transaction, by what to do next.
enum Stop {
    Abort(&'static str),
    Fatal(RDKafkaErrorCode),
}

/// How long offsets or an abort may be on their way before the producer is given up: a call that takes longer mostly
/// never comes back, and everything stands still meanwhile. Giving up early costs reading again, and nothing else; but with
/// brokers that really are slow it must not go on for ever, so each time in a row is twice as patient.
const PATIENCE: Duration = Duration::from_secs(1);
/// No call gets more.
const MOST_PATIENCE: Duration = Duration::from_secs(8);
/// Between two tries of a call that says that it may be made again.
const AGAIN: Duration = Duration::from_millis(20);
/// What giving up a record may take beyond its time.
const FLUSH_GRACE: Duration = Duration::from_secs(5);
/// Fenced again within this time, before its transaction could have timed out, means that another process runs under
/// the same id: two such take the place from each other every few seconds. What fences a process by itself takes longer to
/// happen again than that.
const FENCED_TWICE: Duration = Duration::from_secs(60);

struct Worker {
    connection: Connection,
    options: TransactorOptions,
    membership: Membership,
    producer: Producer,
    /// It has not ended a transaction yet.
    is_new: bool,
    cancel: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
    fenced_at: Option<Instant>,
    /// Since when the brokers have said of a topic that it is not there, with no commit in between.
    missing_since: Option<Instant>,
    /// See [`PATIENCE`].
    patience: Duration,
    seconds: metrics::Histogram,
}

impl Worker {
    fn run(
        mut self,
        jobs: &Receiver<Window<Outgoing>>,
        doubts: &Receiver<TopicPartition>,
        reports: &Sender<Outcome>,
    ) {
        loop {
            let outcome = select! {
                recv(jobs) -> window => match window {
                    Ok(window) => self.settle(window),
                    Err(_) => return,
                },
                recv(doubts) -> partition => {
                    let Ok(partition) = partition else { return };
                    let began = Instant::now();
                    let stands_at = self.membership.committed(&partition).unwrap_or(0);
                    match self.clear(&partition, stands_at) {
                        Err(Stop::Fatal(code)) => match self.rebuild(code, began.elapsed()) {
                            failed @ Outcome::Failed(_) => failed,
                            // No window was out.
                            _ => continue,
                        },
                        _ => continue,
                    }
                }
            };
            let failed = matches!(outcome, Outcome::Failed(_));
            if reports.send(outcome).is_err() || failed {
                break;
            }
        }
    }

    /// Begins a transaction with an offset of this partition in it, and aborts it. A coordinator of the group that has been
    /// loaded twice at once (Kafka 4.4, after several changes of leadership within seconds) takes a transaction of ours for
    /// open that the log has ended long ago: it refuses to say where the partition stands, and would count the old offset as
    /// committed with our next commit. The abort ends it for the coordinator, too. The offset is the one at which the partition
    /// `stands_at` anyway: should such a coordinator ever count this one as committed, nothing moves.
    fn clear(&mut self, partition: &TopicPartition, stands_at: i64) -> Result<(), Stop> {
        let Some(metadata) = self.membership.metadata() else { return Ok(()) };
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(stands_at))
            .expect("the ledger's offsets are valid");
        tracing::debug!(stage = self.options.stage, %partition, "ending what the group may take for open");
        self.call(&Call::Begin, self.patience, "begin")?;
        match self.call(&Call::Offsets(Arc::new((list, metadata))), self.patience, "offsets") {
            Ok(()) | Err(Stop::Abort(_)) => {}
            Err(fatal) => return Err(fatal),
        }
        self.call(&Call::Abort, self.patience, "abort")?;
        self.is_new = false;
        Ok(())
    }

    /// Asks what [`Request`] says comes next, until the window's end is known.
    fn settle(&mut self, window: Window<Outgoing>) -> Outcome {
        let began = Instant::now();
        if self.is_new
            && let Some(run) = window.runs.first()
            && let Err(Stop::Fatal(code)) = self.clear(&run.partition, run.first_offset())
        {
            return self.rebuild(code, began.elapsed());
        }
        let mut request = Request::FIRST;
        let (mut beyond_repair, mut broken) = (None, RDKafkaErrorCode::Fatal);
        loop {
            let reply = match self.ask(request, &window) {
                Ok(()) => Reply::Done,
                Err(Stop::Abort(cause)) => {
                    self.tell_of_abort(cause, &window);
                    // Asked now: with the abort librdkafka forgets why.
                    beyond_repair = beyond_repair.or(self.beyond_repair(cause, &window));
                    Reply::MustAbort
                }
                Err(Stop::Fatal(code)) => {
                    broken = code;
                    Reply::Broken
                }
            };
            match request.after(reply) {
                Next::Ask(next) => request = next,
                Next::Committed => {
                    self.missing_since = None;
                    self.patience = PATIENCE;
                    self.membership.note_committed(&window);
                    self.seconds.record(began.elapsed().as_secs_f64());
                    return Outcome::Committed(window);
                }
                Next::Aborted => return beyond_repair.map_or(Outcome::Aborted(window), Outcome::Failed),
                Next::Lost => {
                    if broken == RDKafkaErrorCode::OperationTimedOut {
                        self.patience = (self.patience * 2).min(MOST_PATIENCE);
                    }
                    return beyond_repair
                        .map_or_else(|| self.rebuild(broken, began.elapsed()), Outcome::Failed);
                }
            }
        }
    }

    fn ask(&mut self, request: Request, window: &Window<Outgoing>) -> Result<(), Stop> {
        match request {
            Request::Produce => {
                self.producer.failures.forget();
                self.call(&Call::Begin, self.patience, "begin")?;
                self.produce(window)
            }
            // From here on the broker decides whether we still own the partitions, by generation. It cannot know that
            // one was lost and came back, so nothing of a cancelled window gets that far.
            Request::SendOffsets => {
                if self.cancel.load(Ordering::Acquire) {
                    return Err(Stop::Abort("partitions_lost"));
                }
                let metadata = self.membership.metadata().ok_or(Stop::Abort("no_membership"))?;
                fail_point::pass("before_offsets");
                // However often it is tried, it is the same claim of the same member: a later generation may have lost
                // partitions and won them back.
                let claim = Call::Offsets(Arc::new((offsets(window), metadata)));
                self.call(&claim, self.patience, "offsets")
            }
            Request::End => {
                fail_point::pass("before_end");
                // Later than that the brokers have ended it themselves.
                self.call(&Call::Commit, self.producer.lifetime, "commit")
            }
            Request::Abort => self.call(&Call::Abort, self.patience, "abort"),
        }
    }

    /// Makes a call until it is answered, for so long. What came of one that is given up, a new producer will know.
    fn call(&self, call: &Call, patience: Duration, what: &'static str) -> Result<(), Stop> {
        let until = Instant::now() + patience.min(self.producer.lifetime);
        loop {
            match self.producer.calls.make(call, until.saturating_duration_since(Instant::now())) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if is_retriable(&error) => {
                    tracing::warn!(%error, what, "asking again");
                    if Instant::now() >= until {
                        let code = error.rdkafka_error_code();
                        return Err(Stop::Fatal(code.unwrap_or(RDKafkaErrorCode::OperationTimedOut)));
                    }
                    pause(AGAIN);
                }
                Ok(Err(error)) => return Err(sort(error, what)),
                Err(Hung) => {
                    tracing::warn!(what, "the client hangs in a call");
                    return Err(Stop::Fatal(RDKafkaErrorCode::OperationTimedOut));
                }
            }
        }
    }

    fn tell_of_abort(&self, cause: &'static str, window: &Window<Outgoing>) {
        let stage = &self.options.stage;
        metrics::counter!(metric_names::ABORTS, "stage" => stage.clone(), "cause" => cause).increment(1);
        tracing::info!(stage, cause, records = window.records(), "window aborted");
    }

    /// Sends every output and waits until the brokers have them: a batch of every partition, then the next of each.
    fn produce(&mut self, window: &Window<Outgoing>) -> Result<(), Stop> {
        let mut runs: Vec<_> = window.runs.iter().map(|run| run.outputs().peekable()).collect();
        while runs.iter_mut().any(|run| run.peek().is_some()) {
            self.producer.emptied();
            for run in &mut runs {
                // What cannot be counted cannot be sent either, which says why.
                while let Some(output) = run.next_if(|next| self.producer.fill(next).unwrap_or(true)) {
                    self.send(output)?;
                }
            }
            self.flush()?;
        }
        Ok(())
    }

    fn send(&mut self, output: &Outgoing) -> Result<(), Stop> {
        loop {
            let headers = match self.options.timings {
                true => output.timed_headers(SystemTime::now()),
                false => Cow::Borrowed(&output.headers),
            };
            match self.producer.send(output, &headers) {
                Ok(()) => return Ok(()),
                // The local queue is full: let some of it out.
                Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => {
                    self.producer.flush_slice();
                    if self.cancel.load(Ordering::Acquire) {
                        return Err(Stop::Abort("partitions_lost"));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, topic = %output.topic, "produce");
                    self.producer.failures.note(&output.topic, &error);
                    return match error.rdkafka_error_code() {
                        Some(RDKafkaErrorCode::Fatal) => Err(Stop::Fatal(RDKafkaErrorCode::Fatal)),
                        _ => Err(Stop::Abort("produce")),
                    };
                }
            }
        }
    }

    /// Waits until everything is acknowledged or something failed.
    fn flush(&mut self) -> Result<(), Stop> {
        // Within its lifetime librdkafka acknowledges a record or gives it up.
        let until = Instant::now() + self.producer.lifetime + FLUSH_GRACE;
        while self.producer.client.in_flight_count() > 0 {
            self.producer.flush_slice();
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

    /// What ends the stage instead of an abort that would be repeated for ever.
    fn beyond_repair(&mut self, doing: &'static str, window: &Window<Outgoing>) -> Option<Error> {
        let noted = self.producer.failures.beyond_repair().take();
        let (topic, code) = match noted {
            Some((topic, code)) => (Some(topic), code),
            None => (None, self.producer.transaction_error()?),
        };
        let is_about_offsets = topic.is_none() && doing == "offsets";
        let topics = topic.unwrap_or_else(|| match is_about_offsets {
            true => listed(window.runs.iter().map(|run| &run.partition.topic)),
            false => listed(window.outputs().map(|output| &output.topic)),
        });
        if is_authorisation(code) {
            return Some(Error::Unauthorised {
                what: self.not_allowed(code, is_about_offsets, &topics),
                code,
            });
        }
        if is_refusal(code) {
            return Some(Error::Refused { topic: topics, code });
        }
        if is_missing(code) {
            // A broker that was just restarted, or a topic that was just made, may say so for a moment.
            let since = *self.missing_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= self.connection.metadata_propagation() {
                return Some(Error::MissingTopic(topics));
            }
        }
        None
    }

    fn not_allowed(&self, code: RDKafkaErrorCode, is_about_offsets: bool, topics: &str) -> String {
        match code {
            RDKafkaErrorCode::GroupAuthorizationFailed => {
                format!("commit offsets of group `{}`", self.membership.group())
            }
            RDKafkaErrorCode::TopicAuthorizationFailed if is_about_offsets => {
                format!("commit offsets of topic `{topics}`")
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => format!("write to topic `{topics}`"),
            _ => format!("use transactional id `{}`", self.options.transactional_id),
        }
    }

    /// `age` is that of the transaction that was broken.
    fn rebuild(&mut self, code: RDKafkaErrorCode, age: Duration) -> Outcome {
        let cause = self.producer.fatal_error().unwrap_or(code);
        if is_authorisation(cause) {
            let what = self.not_allowed(cause, false, "");
            return Outcome::Failed(Error::Unauthorised { what, code: cause });
        }
        metrics::counter!(metric_names::PRODUCER_REBUILDS, "stage" => self.options.stage.clone())
            .increment(1);
        tracing::warn!(stage = self.options.stage, %cause, "building the producer anew");
        // The broker fences what outlives its time-out, too: with brokers away that happens again and again, and heals.
        if is_fenced(cause) && age < self.producer.lifetime {
            // Two processes with one id would fence each other for ever: the second time, this one yields.
            if self.fenced_at.is_some_and(|at| at.elapsed() < FENCED_TWICE) {
                return Outcome::Failed(Error::Fenced(self.options.transactional_id.clone()));
            }
            self.fenced_at = Some(Instant::now());
            pause(random_pause());
        }
        match Producer::build(&self.connection, &self.options, &self.stopping) {
            Ok(Some(producer)) => {
                self.producer = producer;
                self.is_new = true;
                Outcome::Lost
            }
            // Nobody waits for this outcome any more.
            Ok(None) => Outcome::Lost,
            Err(error) => Outcome::Failed(error),
        }
    }
}

fn offsets(window: &Window<Outgoing>) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(window.runs.len());
    for run in &window.runs {
        list.add_partition_offset(
            &run.partition.topic,
            run.partition.partition,
            Offset::Offset(run.next_offset()),
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

/// Different topics as they appear in a sentence between backquotes.
fn listed<'t>(topics: impl Iterator<Item = &'t Arc<str>>) -> String {
    let topics: std::collections::BTreeSet<&str> = topics.map(|topic| &**topic).collect();
    topics.into_iter().collect::<Vec<_>>().join("`, `")
}

/// 100 to 600 ms, so that two that fenced each other do not meet again.
fn random_pause() -> Duration {
    use std::hash::{BuildHasher as _, Hasher as _};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    Duration::from_millis(100 + random % 500)
}
