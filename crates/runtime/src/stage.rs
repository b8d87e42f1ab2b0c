//! The stage loop: one thread that carries events to the [`Delivery`] and its orders to the consumer and the
//! transaction thread. It never blocks on another thread: it waits for whichever event comes first, takes what has
//! come, lets its [`Work`] hand on, and does what the delivery orders. Every decision about offsets is the delivery's.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, tick};
use twinlane_delivery::{
    Answer, Budget, Delivery, Ended, Limits, Order, Pressure, Refused, Sign, TopicPartition,
};
use twinlane_kafka::{
    Connection, Consumer, ConsumerOptions, Inbound, Outcome, Outgoing, Progress, Pulse, Transactor,
    TransactorOptions,
};
use twinlane_record::{Envelope, Verdict};

use crate::{
    Error, Finding, SchemaLookup, Settled, Unread, Verdicts, Work,
    lookups::Lookups,
    spans::{Sampling, Spans},
    tally::Tally,
};

/// How a stage is set up.
#[derive(Clone, Debug)]
pub struct StageOptions {
    /// Name for logs and metrics (`precision`, `router.throughput`).
    pub stage: String,
    /// What it reads.
    pub consumer: ConsumerOptions,
    /// Stable per replica.
    pub transactional_id: String,
    /// The least `max.message.bytes` of the topics it writes.
    pub max_batch_bytes: usize,
    /// When windows close, and when dead letters are too many.
    pub delivery: twinlane_delivery::Options,
    /// The most that may be in flight.
    pub limits: Limits,
    /// Note on every record when it was read, and on every output when it was produced.
    pub timings: bool,
    /// Which events are traced, with OpenTelemetry's global tracer; nothing is asked of it without this.
    pub traces: Option<Sampling>,
    /// Who is asked for schemas that the work does not know.
    pub schemas: Option<SchemaLookup>,
}

/// What others may know of a running stage; read by health checks.
#[derive(Debug, Default)]
pub struct StageState {
    /// The group has given us an assignment, be it of zero partitions.
    pub joined: AtomicBool,
    /// Partitions assigned now.
    pub partitions: AtomicUsize,
    /// Partitions that are not read because their committed offset lies outside their log.
    pub halted: AtomicUsize,
    /// Partitions that are not read for a while because their dead letters are past the limit.
    pub held: AtomicUsize,
    /// Beats while the stage's Kafka client answers.
    pub pulse: Pulse,
    /// How far it is on each partition, and whether brokers answer.
    pub progress: Progress,
}

/// Asks a stage to stop cleanly.
#[derive(Clone)]
pub struct StopHandle(Sender<()>);

impl StopHandle {
    /// Commits what is settled, leaves the group, ends the loop. May be called more than once.
    pub fn stop(&self) {
        // Full means that it was asked already.
        let _ = self.0.try_send(());
    }
}

/// A stage: its loop runs on the thread that calls [`Stage::run`].
pub struct Stage<W: Work> {
    connection: Connection,
    options: StageOptions,
    work: W,
    state: Arc<StageState>,
    stop: Receiver<()>,
}

impl<W: Work> Stage<W> {
    /// Puts a stage together; nothing starts yet.
    pub fn new(
        connection: Connection,
        options: StageOptions,
        work: W,
    ) -> (Self, StopHandle, Arc<StageState>) {
        let (asked, stop) = bounded(1);
        let state = Arc::new(StageState::default());
        (Self { connection, options, work, state: state.clone(), stop }, StopHandle(asked), state)
    }

    /// Joins the group and runs until stopped or broken. Membership begins only here, after the caller has
    /// loaded and warmed up whatever the work needs.
    pub fn run(self) -> Result<(), Error> {
        let (consumer, inbound) = Consumer::start(&self.connection, self.options.consumer.clone())?;
        consumer.beat(self.state.pulse.clone());
        consumer.report(self.state.progress.clone());
        let transactor = Transactor::start(
            &self.connection,
            TransactorOptions {
                stage: self.options.stage.clone(),
                transactional_id: self.options.transactional_id.clone(),
                max_batch_bytes: self.options.max_batch_bytes,
                timings: self.options.timings,
            },
            consumer.membership(),
        )?;
        let mut turn = Loop {
            tally: Tally::new(&self.options.stage, self.options.limits),
            spans: self.options.traces.clone().map(|sampling| {
                let tracer = opentelemetry::global::tracer("twinlane");
                Spans::new(tracer, W::NAME, &self.options.consumer.group, sampling)
            }),
            budget: Budget::new(self.options.limits),
            lookups: Lookups::new(self.options.schemas.clone()),
            delivery: Delivery::new(self.options.delivery),
            options: self.options,
            work: self.work,
            consumer: &consumer,
            transactor: &transactor,
            state: self.state,
            verdicts: Vec::new(),
            revoke: None,
            holding: HashSet::new(),
            settled_since: None,
            closed: false,
        };
        turn.run(&inbound, &self.stop)
        // `transactor` drops before `consumer`: the membership it holds must not outlive the group.
    }
}

struct Loop<'a, W: Work> {
    options: StageOptions,
    work: W,
    delivery: Delivery<Outgoing>,
    budget: Budget,
    lookups: Lookups,
    consumer: &'a Consumer,
    transactor: &'a Transactor,
    state: Arc<StageState>,
    tally: Tally,
    /// Where traces are asked for.
    spans: Option<Spans>,
    verdicts: Verdicts,
    /// The consumer's callback waits, and with it the group, until this is dropped.
    revoke: Option<Sender<()>>,
    /// Partitions that the consumer was told to hold.
    holding: HashSet<TopicPartition>,
    /// The first record since the last window was settled then.
    settled_since: Option<Instant>,
    closed: bool,
}

/// What a record costs in memory from its arrival until it is settled: itself, the row of tensors made from it, which is
/// about as large, and, however small it is, a dozen allocations (measured: 1 KiB for a record of 130 bytes).
fn memory(record: &Envelope) -> usize {
    2 * record.size() + 1024
}

const GAUGES: Duration = Duration::from_millis(500);

impl<W: Work> Loop<'_, W> {
    fn run(&mut self, inbound: &Receiver<Inbound>, stop: &Receiver<()>) -> Result<(), Error> {
        let gauges = tick(GAUGES);
        while !self.closed {
            let due = [
                self.delivery.wakes_at(Instant::now()),
                self.work.overdue_at(),
                self.work.expires_at(),
                self.lookups.wakes_at(),
            ]
            .into_iter()
            .flatten()
            .min();
            let wake = due.map_or_else(never, crossbeam_channel::at);
            select! {
                recv(inbound) -> event => self.inbound(event.map_err(|_| Error::ThreadDied("consumer"))?)?,
                recv(self.work.done()) -> done => self.finish(done.map_err(|_| Error::ThreadDied("model"))?)?,
                recv(self.transactor.outcomes()) -> outcome =>
                    self.outcome(outcome.map_err(|_| Error::ThreadDied("transaction"))?)?,
                recv(self.lookups.findings()) -> found =>
                    self.found(found.map_err(|_| Error::ThreadDied("schema registry"))?),
                recv(stop) -> _ => self.consumer.stop(),
                recv(gauges) -> _ => self.measure(),
                recv(wake) -> _ => {}
            }
            // Take what else has come before closing a window, so that batches form from the backlog.
            while let Ok(done) = self.work.done().try_recv() {
                self.finish(done)?;
            }
            if self.work.overdue_at().is_some_and(|at| at <= Instant::now()) {
                return Err(self.work.overdue());
            }
            if self.work.expires_at().is_some_and(|at| at <= Instant::now()) {
                self.work.expire(&mut self.verdicts);
            }
            self.look_up();
            self.settle();
            self.work.dispatch();
            self.obey();
            self.press();
            self.let_go();
        }
        Ok(())
    }

    fn finish(&mut self, done: W::Done) -> Result<(), Error> {
        if let Some(spans) = &mut self.spans {
            self.work.runs(&done).iter().for_each(|run| spans.ran(run));
        }
        self.work.finish(done, &mut self.verdicts)
    }

    fn inbound(&mut self, event: Inbound) -> Result<(), Error> {
        match event {
            Inbound::Records(records) => {
                let began = Instant::now();
                self.tally.read(records.first().and_then(|record| record.timestamp_ms));
                let (count, mut traced) = (records.len(), Vec::new());
                self.tally.events_in.increment(count as u64);
                // Records come in rows of one partition.
                let mut partition = TopicPartition { topic: "".into(), partition: 0 };
                for mut record in records {
                    if self.options.timings {
                        record.headers.note_moment("read", SystemTime::now());
                    }
                    if (partition.partition, &partition.topic) != (record.at.partition, &record.at.topic) {
                        partition =
                            TopicPartition { topic: record.at.topic.clone(), partition: record.at.partition };
                    }
                    match self.delivery.arrive(&partition, record.at.offset, memory(&record)) {
                        Ok(ticket) => {
                            if let Some(spans) = &mut self.spans
                                && spans.arrives(ticket, &record)
                            {
                                traced.push(ticket);
                            }
                            let verdicts = &mut self.verdicts;
                            if let Some(unread) = self.work.receive(ticket, record, began, verdicts) {
                                self.wait(*unread);
                            }
                        }
                        // Left over from before a rewind or revoke: it will be read again, by us or another.
                        Err(Refused::Stale | Refused::NotAssigned) => {}
                        Err(refused) => tracing::error!(at = %record.at, %refused, "a record came twice"),
                    }
                }
                self.tally.prepare.record(began.elapsed().as_secs_f64());
                if let Some(spans) = &mut self.spans
                    && !traced.is_empty()
                {
                    spans.received(SystemTime::now() - began.elapsed(), count, traced);
                }
            }
            Inbound::Assigned(partitions) => {
                tracing::info!(stage = self.options.stage, ?partitions, "assigned");
                self.tally.assigned.increment(1);
                self.delivery.assigned(partitions);
                self.state.joined.store(true, Ordering::Release);
                self.count_partitions();
            }
            Inbound::Revoked { partitions, lost, done } => {
                tracing::info!(stage = self.options.stage, ?partitions, lost, "revoked");
                if lost { &self.tally.lost } else { &self.tally.revoked }.increment(1);
                self.delivery.revoke(partitions, lost);
                self.revoke = Some(done);
            }
            Inbound::Rewound(partitions) => self.delivery.rewound(&partitions),
            // The consumer has told the log what is gone.
            Inbound::Halted(partition) => {
                self.delivery.halt(partition);
                self.count_partitions();
            }
            Inbound::Unstable(partition) => self.transactor.clear(partition),
            Inbound::Reread => self.delivery.reread(),
            Inbound::Failed(error) => return Err(error.into()),
            Inbound::Closed => self.closed = true,
        }
        Ok(())
    }

    /// Keeps a record until its schema is known, and has no more fetched of its partition.
    fn wait(&mut self, unread: Unread) {
        if let Some(partition) = self.lookups.wait(unread, Instant::now()) {
            self.consumer.hold(&partition);
        }
    }

    fn found(&mut self, (id, finding): (u32, Finding)) {
        let records = self.lookups.answered(id, &finding, Instant::now());
        self.learned(id, &finding, records);
    }

    /// Settles what has waited long enough, and allows ids to be asked for again.
    fn look_up(&mut self) {
        let now = Instant::now();
        while let Some((id, finding, records)) = self.lookups.overdue(now) {
            self.learned(id, &finding, records);
        }
        while let Some(id) = self.lookups.forgotten(now) {
            self.work.forget(id);
        }
    }

    fn learned(&mut self, id: u32, finding: &Finding, records: Vec<Unread>) {
        self.work.learn(id, finding);
        let now = Instant::now();
        for Unread { ticket, event, .. } in records {
            if let Some(unread) = self.work.receive(ticket, event, now, &mut self.verdicts) {
                self.wait(*unread);
            }
        }
    }

    /// Has partitions fetched again of which nothing waits for a schema any more.
    fn let_go(&mut self) {
        if self.lookups.let_go() && !self.budget.is_paused() {
            self.consumer.resume(&self.unread());
        }
    }

    fn settle(&mut self) {
        for Settled { ticket, verdict, mut output } in self.verdicts.drain(..) {
            if let Some(spans) = &mut self.spans {
                spans.settled(ticket, verdict, output.as_mut());
            }
            let bytes = output.as_ref().map_or(0, Outgoing::size);
            let sign = match verdict {
                Verdict::DeadLettered(_) => Sign::Dead,
                Verdict::Elsewhere => Sign::None,
                Verdict::Routed | Verdict::Scored | Verdict::Expired | Verdict::Skipped => Sign::Good,
            };
            match self.delivery.settle(ticket, Answer { output, bytes, sign }) {
                Ok(()) => {
                    self.settled_since.get_or_insert_with(Instant::now);
                    self.tally.verdict(verdict);
                }
                Err(Refused::Stale) => {}
                Err(refused) => tracing::error!(%refused, ?ticket, "a verdict was refused"),
            }
        }
        if let Some(spans) = &mut self.spans {
            spans.turn();
        }
    }

    fn outcome(&mut self, outcome: Outcome) -> Result<(), Error> {
        self.transactor.uncancel();
        let ended = match outcome {
            Outcome::Committed(window) => {
                self.tally.committed(&window);
                if let Some(spans) = &mut self.spans {
                    spans.committed(&window);
                }
                Ended::Committed(window)
            }
            Outcome::Aborted(window) => {
                self.spans.iter_mut().for_each(|spans| spans.failed("aborted"));
                Ended::Aborted(window)
            }
            Outcome::Lost => {
                self.spans.iter_mut().for_each(|spans| spans.failed("its end is not known"));
                Ended::Lost
            }
            Outcome::Failed(error) => return Err(error.into()),
        };
        self.delivery.ended(ended, Instant::now());
        Ok(())
    }

    /// Carries out what the delivery orders.
    fn obey(&mut self) {
        while let Some(order) = self.delivery.next(Instant::now()) {
            match order {
                Order::Commit(window) => {
                    self.tally.window_records.record(window.records() as f64);
                    if let Some(since) = self.settled_since.take() {
                        self.tally.window.record(since.elapsed().as_secs_f64());
                    }
                    if let Some(spans) = &mut self.spans {
                        spans.sends(&window);
                    }
                    self.transactor.submit(window);
                }
                Order::Cancel => self.transactor.cancel(),
                Order::Rewind(partitions) => {
                    // What was settled of them is dropped.
                    self.settled_since = None;
                    let were_held =
                        partitions.iter().filter(|partition| self.holding.remove(*partition)).count();
                    self.consumer.rewind(partitions);
                    // What still comes of their old position is refused.
                    if were_held > 0 && !self.budget.is_paused() {
                        self.consumer.resume(&self.unread());
                    }
                    self.count_partitions();
                }
                Order::Hold(partition, retry) => {
                    tracing::error!(
                        stage = self.options.stage, %partition, retry_s = retry.as_secs(),
                        "nearly every record of this partition becomes a dead letter, more than the pipeline's \
                         `dead_letters.limit` allows: the partition is held and tried again. See what its dead letters \
                         say (`twinlane dead-letters list`); if they are right, raise the limit"
                    );
                    self.tally.holds.increment(1);
                    self.consumer.hold(&partition);
                    self.holding.insert(partition);
                    self.count_partitions();
                }
                Order::LetGo => {
                    self.revoke = None;
                    self.settled_since = None;
                    self.count_partitions();
                }
                Order::Forget => {
                    let delivery = &self.delivery;
                    self.work.forget_stale(&|ticket| delivery.is_current(ticket));
                    if let Some(spans) = &mut self.spans {
                        spans.forget_stale(&|ticket| delivery.is_current(ticket));
                    }
                    self.lookups.forget_stale(&|ticket| delivery.is_current(ticket));
                }
            }
        }
    }

    fn press(&mut self) {
        match self.budget.observe(self.delivery.records(), self.delivery.bytes(), Instant::now()) {
            Some(Pressure::Pause) => {
                self.consumer.pause();
                self.delivery.hurry(true);
                self.tally.budget_spent.set(1.0);
            }
            Some(Pressure::Resume) => {
                self.consumer.resume(&self.unread());
                self.delivery.hurry(false);
                self.tally.budget_spent.set(0.0);
            }
            None => {}
        }
    }

    /// Partitions that are not to be fetched, whatever the budget says.
    fn unread(&self) -> Vec<TopicPartition> {
        self.delivery
            .halted()
            .iter()
            .chain(self.delivery.held())
            .chain(self.lookups.held())
            .cloned()
            .collect()
    }

    fn measure(&self) {
        self.work.measure();
        self.tally.records.set(self.delivery.records() as f64);
        self.tally.bytes.set(self.delivery.bytes() as f64);
    }

    fn count_partitions(&self) {
        let (assigned, halted, held) =
            (self.delivery.assignment().count(), self.delivery.halted().len(), self.delivery.held().count());
        self.state.partitions.store(assigned, Ordering::Release);
        self.state.halted.store(halted, Ordering::Release);
        self.state.held.store(held, Ordering::Release);
        self.tally.partitions.set(assigned as f64);
        self.tally.halted.set(halted as f64);
        self.tally.held.set(held as f64);
    }
}
