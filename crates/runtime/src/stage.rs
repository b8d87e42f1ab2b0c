//! The stage loop: one thread that owns the ledger and is advanced by events. It never blocks on another
//! thread: it waits for whichever event comes first, takes what has come, lets its [`Work`] hand on, and
//! closes a window when the cadence allows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, tick};
use twinlane_delivery::{Budget, Cadence, Ledger, Limits, Pressure, Refused, TopicPartition, Window};
use twinlane_kafka::{
    Connection, Consumer, ConsumerOptions, Inbound, Outcome, Outgoing, Transactor, TransactorOptions,
};

use crate::{Error, Settled, Verdicts, Work, tally::Tally};

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
    /// Least time between the beginnings of two transactions.
    pub window_floor: Duration,
    /// The most bytes that one transaction holds.
    pub window_bytes: usize,
    /// The most that may be in flight.
    pub limits: Limits,
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
        let transactor = Transactor::start(
            &self.connection,
            TransactorOptions {
                stage: self.options.stage.clone(),
                transactional_id: self.options.transactional_id.clone(),
                max_batch_bytes: self.options.max_batch_bytes,
            },
            consumer.membership(),
        )?;
        let mut turn = Loop {
            tally: Tally::new(&self.options.stage),
            budget: Budget::new(self.options.limits),
            cadence: Cadence::new(self.options.window_floor),
            options: self.options,
            work: self.work,
            ledger: Ledger::new(),
            consumer: &consumer,
            transactor: &transactor,
            state: self.state,
            verdicts: Vec::new(),
            again: None,
            not_before: None,
            reread: false,
            revoking: None,
            halted: Vec::new(),
            closed: false,
        };
        turn.run(&inbound, &self.stop)
        // `transactor` drops before `consumer`: the membership it holds must not outlive the group.
    }
}

/// A revoke that waits for its last transaction.
struct Revoking {
    partitions: Vec<TopicPartition>,
    lost: bool,
    /// One last window over the settled prefix of these partitions was closed.
    last_window: bool,
    _done: Sender<()>,
}

struct Loop<'a, W: Work> {
    options: StageOptions,
    work: W,
    ledger: Ledger<Outgoing>,
    budget: Budget,
    cadence: Cadence,
    consumer: &'a Consumer,
    transactor: &'a Transactor,
    state: Arc<StageState>,
    tally: Tally,
    verdicts: Verdicts,
    /// A window that was aborted, to be produced again as far as its epochs hold.
    again: Option<Window<Outgoing>>,
    /// After an abort: not before this instant.
    not_before: Option<Instant>,
    /// Everything is to be read again once no transaction is out.
    reread: bool,
    revoking: Option<Revoking>,
    halted: Vec<TopicPartition>,
    closed: bool,
}

/// What an abort costs at least before the same window is tried again.
const ABORT_PAUSE: Duration = Duration::from_millis(100);
const GAUGES: Duration = Duration::from_millis(500);

impl<W: Work> Loop<'_, W> {
    fn run(&mut self, inbound: &Receiver<Inbound>, stop: &Receiver<()>) -> Result<(), Error> {
        let gauges = tick(GAUGES);
        while !self.closed {
            let wake = self.next_window(Instant::now()).map_or_else(never, crossbeam_channel::at);
            select! {
                recv(inbound) -> event => self.inbound(event.map_err(|_| Error::ThreadDied("consumer"))?)?,
                recv(self.work.done()) -> done =>
                    self.work.finish(done.map_err(|_| Error::ThreadDied("model"))?, &mut self.verdicts)?,
                recv(self.transactor.outcomes()) -> outcome =>
                    self.outcome(outcome.map_err(|_| Error::ThreadDied("transaction"))?)?,
                recv(stop) -> _ => self.consumer.stop(),
                recv(gauges) -> _ => self.measure(),
                recv(wake) -> _ => {}
            }
            // Take what else has come before closing a window, so that batches form from the backlog.
            while let Ok(done) = self.work.done().try_recv() {
                self.work.finish(done, &mut self.verdicts)?;
            }
            self.settle();
            self.reread_if_due();
            self.work.dispatch();
            self.close_window();
            self.press();
        }
        Ok(())
    }

    fn inbound(&mut self, event: Inbound) -> Result<(), Error> {
        match event {
            Inbound::Records(records) => {
                for record in records {
                    self.tally.events_in.increment(1);
                    let partition =
                        TopicPartition { topic: record.at.topic.clone(), partition: record.at.partition };
                    match self.ledger.arrive(&partition, record.at.offset, record.size()) {
                        Ok(ticket) => self.work.receive(ticket, record, &mut self.verdicts),
                        // Left over from before a rewind or revoke: it will be read again, by us or another.
                        Err(Refused::Stale | Refused::NotAssigned) => {}
                        Err(refused) => tracing::error!(at = %record.at, %refused, "a record came twice"),
                    }
                }
            }
            Inbound::Assigned(partitions) => {
                tracing::info!(stage = self.options.stage, ?partitions, "assigned");
                self.tally.assigned.increment(1);
                for partition in partitions {
                    self.ledger.assign(partition);
                }
                self.state.joined.store(true, Ordering::Release);
                self.count_partitions();
            }
            Inbound::Revoked { partitions, lost, done } => self.revoke(partitions, lost, done),
            Inbound::Rewound(partitions) => {
                for partition in &partitions {
                    self.ledger.rewound(partition);
                }
            }
            Inbound::Halted { partition, committed, log } => {
                tracing::error!(
                    stage = self.options.stage, %partition, committed, log_start = log.0, log_end = log.1,
                    "the committed offset lies outside the log: records were deleted before they were answered, \
                     or the topic was made anew. The partition is not read until its committed offset is moved; \
                     for deleted records, the source can say `when_below_start: earliest`"
                );
                self.ledger.revoke(&partition);
                self.forget_stale();
                if !self.halted.contains(&partition) {
                    self.halted.push(partition);
                }
                self.count_partitions();
            }
            Inbound::Reread => self.reread = true,
            Inbound::Failed(error) => return Err(error.into()),
            Inbound::Closed => self.closed = true,
        }
        Ok(())
    }

    fn settle(&mut self) {
        for Settled { ticket, verdict, output } in self.verdicts.drain(..) {
            let bytes = output.as_ref().map_or(0, Outgoing::size);
            match self.ledger.settle(ticket, output, bytes) {
                Ok(()) => self.tally.verdict(verdict),
                Err(Refused::Stale) => {}
                Err(refused) => tracing::error!(%refused, ?ticket, "a verdict was refused"),
            }
        }
    }

    /// When the next window may close: `None` if there is nothing to close or a transaction is out.
    fn next_window(&self, now: Instant) -> Option<Instant> {
        if self.again.is_none() && !self.ledger.has_settled() {
            return None;
        }
        self.cadence.opens_at(now).map(|at| self.not_before.map_or(at, |pause| at.max(pause)))
    }

    fn close_window(&mut self) {
        if self.revoking.is_some() {
            return self.close_last_window();
        }
        let now = Instant::now();
        if self.next_window(now).is_none_or(|at| at > now) {
            return;
        }
        let window = match self.again.take() {
            Some(mut window) => {
                self.ledger.retain_current(&mut window);
                window
            }
            None => self.ledger.take_settled(self.options.window_bytes, |_| true),
        };
        self.submit(window, now);
    }

    fn submit(&mut self, window: Window<Outgoing>, now: Instant) {
        if !window.is_empty() {
            self.tally.window_records.record(window.records() as f64);
            self.cadence.begin(now);
            self.transactor.submit(window);
        }
    }

    fn outcome(&mut self, outcome: Outcome) -> Result<(), Error> {
        self.cadence.end();
        self.transactor.uncancel();
        match outcome {
            Outcome::Committed(window) => {
                self.not_before = None;
                self.ledger.confirm(&window);
            }
            Outcome::Aborted(window) => {
                self.not_before = Some(Instant::now() + ABORT_PAUSE);
                self.again = Some(window);
            }
            Outcome::Lost => {
                self.again = None;
                self.rewind_all();
            }
            Outcome::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Waits for the transaction that is out: what it holds would be read again before its commit, and answered
    /// twice.
    fn reread_if_due(&mut self) {
        if self.reread && !self.cadence.in_flight() {
            self.reread = false;
            self.again = None;
            self.rewind_all();
        }
    }

    /// Everything that is not committed is dropped and read again. No transaction may be out.
    fn rewind_all(&mut self) {
        let going: Vec<_> = self.revoking.iter().flat_map(|r| r.partitions.clone()).collect();
        let all: Vec<_> =
            self.ledger.assignment().map(|(tp, _)| tp.clone()).filter(|tp| !going.contains(tp)).collect();
        for partition in &going {
            self.ledger.revoke(partition);
        }
        for partition in &all {
            self.ledger.rewind(partition);
        }
        self.forget_stale();
        if !all.is_empty() {
            self.consumer.rewind(all);
        }
    }

    /// The consumer's callback waits, and with it the group, until `done` is dropped.
    fn revoke(&mut self, partitions: Vec<TopicPartition>, lost: bool, done: Sender<()>) {
        tracing::info!(stage = self.options.stage, ?partitions, lost, "revoked");
        if lost {
            self.tally.lost.increment(1);
            // The new owner may have begun: nothing of these may be committed, whatever the broker thinks
            // of our generation.
            if self.cadence.in_flight() {
                self.transactor.cancel();
            }
            for partition in &partitions {
                self.ledger.revoke(partition);
            }
            self.forget_stale();
        } else {
            self.tally.revoked.increment(1);
        }
        self.revoking = Some(Revoking { partitions, lost, last_window: false, _done: done });
    }

    /// During a revoke: wait for the transaction that is out, then commit what is settled of the partitions
    /// that go (never waiting for a model), then let go.
    fn close_last_window(&mut self) {
        if self.cadence.in_flight() {
            return;
        }
        let Some(revoking) = &mut self.revoking else { return };
        if !revoking.lost && !revoking.last_window {
            revoking.last_window = true;
            // An aborted window's records come before anything that was settled since: of the partitions
            // that go they are dropped with all the rest, for their next owner to read again.
            let going = revoking.partitions.clone();
            let pending = self.again.is_some();
            if !pending {
                let window = self.ledger.take_settled(usize::MAX, |tp| going.contains(tp));
                if !window.is_empty() {
                    return self.submit(window, Instant::now());
                }
            }
        }
        let Some(revoking) = self.revoking.take() else { return };
        for partition in &revoking.partitions {
            self.ledger.revoke(partition);
        }
        self.halted.retain(|h| !revoking.partitions.contains(h));
        self.forget_stale();
        self.count_partitions();
    }

    fn forget_stale(&mut self) {
        let ledger = &self.ledger;
        self.work.forget_stale(&|ticket| ledger.is_current(ticket));
        if let Some(window) = &mut self.again {
            ledger.retain_current(window);
        }
        if self.again.as_ref().is_some_and(Window::is_empty) {
            self.again = None;
        }
    }

    fn press(&mut self) {
        match self.budget.observe(self.ledger.records(), self.ledger.bytes()) {
            Some(Pressure::Pause) => self.consumer.pause(),
            Some(Pressure::Resume) => self.consumer.resume(&self.halted),
            None => {}
        }
    }

    fn measure(&self) {
        self.tally.records.set(self.ledger.records() as f64);
        self.tally.bytes.set(self.ledger.bytes() as f64);
    }

    fn count_partitions(&self) {
        let assigned = self.ledger.assignment().count();
        self.state.partitions.store(assigned, Ordering::Release);
        self.state.halted.store(self.halted.len(), Ordering::Release);
        self.tally.partitions.set(assigned as f64);
        self.tally.halted.set(self.halted.len() as f64);
    }
}
