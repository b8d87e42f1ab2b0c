//! The delivery of one stage: its ledger, the window that is out, and what a rebalance, an abort or a lost producer does
//! to them. Events go in, [`Order`]s come out; the stage that carries them out adds threads and Kafka, and no decision.
//!
//! ```text
//!                 Order::Commit                  Ended::Committed
//!   Settling ───────────────────────► Out ─────────────────────────► Settling
//!      ▲                               │ Ended::Aborted                  ▲
//!      │                               ├───► Again: the same window, as far as its epochs hold, in halves if that
//!      │                               │     fails too
//!      │  Order::Rewind … rewound      │ Ended::Lost
//!      └──────────── Rewinding ◄───────┘      (every partition, from its committed offset)
//!
//!   A partition:   assigned ─► read ─┬─ revoke ─► Out is awaited, one last window ─► Order::LetGo
//!                     ▲              ├─ lost ───► dropped at once, Order::Cancel for Out ─► Order::LetGo
//!                     │              ├─ halted ─► not read until it is assigned anew
//!                     └── rewound ◄──┴─ over the limit ─► Order::Hold ─ backoff ─► Order::Rewind
//! ```
//!
//! The rules that make it exactly once; `exploration` takes out the second and the third, and finds what they are for:
//! 1. one window is out at a time, and what it holds is read again only when its end is known;
//! 2. a revoke is over only when no window is out;
//! 3. what carries the epoch of an assignment that is over is in no window, and never comes back into one.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{Answer, Cadence, DeadLetterLimit, Epoch, Ledger, Refused, Ticket, TopicPartition, Window};

/// How a stage delivers.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Least time between the beginnings of two transactions.
    pub window_floor: Duration,
    /// The most bytes that one transaction holds.
    pub window_bytes: usize,
    /// When a partition's dead letters are too many.
    pub dead_letter_limit: Option<DeadLetterLimit>,
}

/// What the stage is to do now. Orders are carried out in the order in which they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order<O> {
    /// Commit this window in one transaction, and tell [`Delivery::ended`].
    Commit(Window<O>),
    /// Abort the window that is out, unless its offsets were sent already.
    Cancel,
    /// Move to the committed offsets of these partitions, then tell [`Delivery::rewound`].
    Rewind(Vec<TopicPartition>),
    /// Stop fetching this partition, until a rewind names it: its dead letters are past the limit.
    Hold(TopicPartition, Duration),
    /// The revoke is over: its partitions may have another owner now.
    LetGo,
    /// Assignments have changed: queued work whose ticket is not current is of no use.
    Forget,
}

/// How a window ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended<O> {
    /// Its outputs are visible and its offsets committed.
    Committed(Window<O>),
    /// Nothing of it is visible, for certain.
    Aborted(Window<O>),
    /// Whatever was pending is resolved, one way or the other.
    Lost,
}

/// How large windows may be: less after windows that failed, up to what the stage allows as commits succeed.
#[derive(Clone, Copy, Debug)]
struct WindowBytes {
    most: usize,
    now: usize,
}

/// No window is made smaller than this.
const LEAST_WINDOW_BYTES: usize = 64 << 10;

impl WindowBytes {
    fn shrink(&mut self, to: usize) {
        self.now = self.now.min(to.max(LEAST_WINDOW_BYTES));
    }

    fn grow(&mut self) {
        self.now = self.now.saturating_mul(2).min(self.most);
    }
}

/// A revoke that waits for the window that is out.
#[derive(Clone, Debug)]
struct Revoking {
    partitions: Vec<TopicPartition>,
    lost: bool,
    /// A window that had been aborted was produced once more.
    tried_again: bool,
    /// One last window was closed over what was settled of these partitions.
    closed: bool,
}

/// What an abort costs at least before the same window is tried again.
const ABORT_PAUSE: Duration = Duration::from_millis(100);

/// Owns everything that is in flight in one stage. `O` is what a settled record produces.
#[derive(Clone, Debug)]
pub struct Delivery<O> {
    ledger: Ledger<O>,
    cadence: Cadence,
    window_bytes: WindowBytes,
    /// What was aborted, to be produced again, in this order, as far as its epochs hold.
    again: VecDeque<Window<O>>,
    /// What the window that is out holds, or the last one held.
    out_bytes: usize,
    /// Windows since the last commit that were aborted or lost.
    failures: u32,
    /// After an abort: not before this instant.
    not_before: Option<Instant>,
    /// The budget is spent: what is settled leaves at once, however short ago the last window left.
    hurried: bool,
    /// Everything is to be read again once no window is out.
    reread: bool,
    revoking: Option<Revoking>,
    halted: Vec<TopicPartition>,
    /// Partitions over their limit, and when they are tried again.
    held: HashMap<TopicPartition, Instant>,
    orders: VecDeque<Order<O>>,
    /// For the exploration: what goes wrong without rule 3.
    #[cfg(test)]
    pub(crate) keeps_stale_windows: bool,
}

impl<O> Delivery<O> {
    /// Nothing assigned, nothing in flight.
    pub fn new(options: Options) -> Self {
        Self {
            ledger: Ledger::new().with_limit(options.dead_letter_limit),
            cadence: Cadence::new(options.window_floor),
            window_bytes: WindowBytes { most: options.window_bytes, now: options.window_bytes },
            again: VecDeque::new(),
            out_bytes: 0,
            failures: 0,
            not_before: None,
            hurried: false,
            reread: false,
            revoking: None,
            halted: Vec::new(),
            held: HashMap::new(),
            orders: VecDeque::new(),
            #[cfg(test)]
            keeps_stale_windows: false,
        }
    }

    /// These partitions are ours now; their records follow.
    pub fn assigned(&mut self, partitions: Vec<TopicPartition>) {
        for partition in partitions {
            self.ledger.assign(partition);
        }
    }

    /// A record arrived. The ticket is shown again when it is settled.
    pub fn arrive(
        &mut self,
        partition: &TopicPartition,
        offset: i64,
        bytes: usize,
    ) -> Result<Ticket, Refused> {
        self.ledger.arrive(partition, offset, bytes)
    }

    /// A record has its verdict.
    pub fn settle(&mut self, ticket: Ticket, answer: Answer<O>) -> Result<(), Refused> {
        self.ledger.settle(ticket, answer)
    }

    /// The group takes these partitions from us; `lost`: it has done so already, and the next owner may have begun.
    /// [`Order::LetGo`] answers.
    pub fn revoke(&mut self, partitions: Vec<TopicPartition>, lost: bool) {
        debug_assert!(self.revoking.is_none(), "one revoke at a time");
        if lost {
            // Nothing of these may be committed, whatever the broker thinks of our generation.
            if self.cadence.in_flight() {
                self.orders.push_back(Order::Cancel);
            }
            self.drop_partitions(&partitions);
        }
        self.revoking = Some(Revoking { partitions, lost, tried_again: false, closed: false });
    }

    /// The consumer has moved to the committed offsets of these partitions.
    pub fn rewound(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.ledger.rewound(partition);
        }
    }

    /// Where this partition should be read lies outside its log: it is not read until it is assigned anew.
    pub fn halt(&mut self, partition: TopicPartition) {
        // A window of the topic as it was must not say where to go on in the one that took its place.
        if self.cadence.in_flight() {
            self.orders.push_back(Order::Cancel);
        }
        self.drop_partitions(std::slice::from_ref(&partition));
        self.halted.push(partition);
    }

    /// Some position fell out of its log: read everything again, once no window is out.
    pub fn reread(&mut self) {
        self.reread = true;
    }

    /// Whether the budget is spent, so that windows should leave without waiting for their time.
    pub fn hurry(&mut self, hurried: bool) {
        self.hurried = hurried;
    }

    /// The window that was out has ended.
    pub fn ended(&mut self, ended: Ended<O>, now: Instant) {
        self.cadence.end(now);
        match ended {
            Ended::Committed(window) => {
                self.not_before = None;
                self.failures = 0;
                self.window_bytes.grow();
                if let Some(revoking) = &mut self.revoking {
                    revoking.tried_again = false;
                }
                self.ledger.confirm(&window);
            }
            Ended::Aborted(window) => {
                self.not_before = Some(now + ABORT_PAUSE);
                self.failed();
                self.put_back(window);
            }
            Ended::Lost => {
                self.failed();
                self.reread = true;
            }
        }
    }

    /// Once may be chance; a window that fails twice may be too large for its transaction's time.
    fn failed(&mut self) {
        self.failures += 1;
        if self.failures > 1 {
            self.window_bytes.shrink(self.out_bytes / 2);
        }
    }

    /// The next thing to do; ask until there is none.
    pub fn next(&mut self, now: Instant) -> Option<Order<O>> {
        if self.orders.is_empty() && !self.cadence.in_flight() {
            self.decide(now);
        }
        self.orders.pop_front()
    }

    /// When [`Delivery::next`] has something to do although nothing happened. `None`: not before the next event.
    pub fn wakes_at(&self, now: Instant) -> Option<Instant> {
        if self.cadence.in_flight() {
            return None;
        }
        self.held.values().copied().chain(self.window_opens_at(now)).min()
    }

    /// Whether records under this ticket still count.
    pub fn is_current(&self, ticket: Ticket) -> bool {
        self.ledger.is_current(ticket)
    }

    /// Records in flight: arrived under a current epoch and not confirmed.
    pub fn records(&self) -> usize {
        self.ledger.records()
    }

    /// Bytes in flight.
    pub fn bytes(&self) -> usize {
        self.ledger.bytes()
    }

    /// The assigned partitions that are in their log, with their epochs.
    pub fn assignment(&self) -> impl Iterator<Item = (&TopicPartition, Epoch)> {
        self.ledger.assignment()
    }

    /// Partitions that are not read because their position lies outside their log.
    pub fn halted(&self) -> &[TopicPartition] {
        &self.halted
    }

    /// Partitions that are not read for a while because their dead letters are past the limit.
    pub fn held(&self) -> impl Iterator<Item = &TopicPartition> {
        self.held.keys()
    }

    /// No window is out.
    fn decide(&mut self, now: Instant) {
        if std::mem::take(&mut self.reread) {
            self.again.clear();
            return self.rewind_all();
        }
        if let Some(revoking) = self.revoking.take() {
            return self.finish(revoking, now);
        }
        if self.held.values().any(|until| *until <= now) {
            let due =
                self.held.extract_if(|_, until| *until <= now).map(|(partition, _)| partition).collect();
            self.orders.push_back(Order::Rewind(due));
        }
        if self.window_opens_at(now).is_some_and(|at| at <= now) {
            let again = self.again.pop_front();
            let window = again.unwrap_or_else(|| self.ledger.take_settled(self.window_bytes.now, |_| true));
            self.commit(window, now);
        }
        if !self.cadence.in_flight() && self.again.is_empty() {
            self.hold_what_is_over_its_limit(now);
        }
    }

    fn window_opens_at(&self, now: Instant) -> Option<Instant> {
        if self.again.is_empty() && !self.ledger.has_settled() {
            return None;
        }
        let opens = self.cadence.opens_at(now, self.hurried);
        opens.map(|at| self.not_before.map_or(at, |pause| at.max(pause)))
    }

    /// It is tried again, after its second failure in halves.
    fn put_back(&mut self, mut window: Window<O>) {
        if self.failures > 1 {
            let rest = window.split_off_half();
            if !rest.is_empty() {
                self.again.push_front(rest);
            }
        }
        self.again.push_front(window);
        // Partitions may have gone while it was out.
        self.drop_stale_windows();
    }

    fn commit(&mut self, window: Window<O>, now: Instant) {
        if !window.is_empty() {
            self.cadence.begin(now);
            self.out_bytes = window.bytes();
            self.orders.push_back(Order::Commit(window));
        }
    }

    /// Only when no window is out or waits to be produced again: it may hold earlier records of these partitions, which
    /// a rewind would read before they are committed.
    fn hold_what_is_over_its_limit(&mut self, now: Instant) {
        let over: Vec<_> = self.ledger.over_limit().cloned().collect();
        for partition in over {
            let backoff = self.ledger.hold(&partition);
            self.held.insert(partition.clone(), now + backoff);
            self.orders.push_back(Order::Hold(partition, backoff));
            self.forget_stale();
        }
    }

    /// Commits what is settled of the partitions that go, never waiting for a model, then lets go.
    fn finish(&mut self, mut revoking: Revoking, now: Instant) {
        // An aborted window's records come before anything that was settled since.
        let window = match self.again.pop_front() {
            Some(window) if !revoking.lost && !revoking.tried_again => {
                revoking.tried_again = true;
                Some(window)
            }
            None if !revoking.lost && !revoking.closed => {
                revoking.closed = true;
                Some(self.ledger.take_settled(usize::MAX, |tp| revoking.partitions.contains(tp)))
            }
            again => {
                if let Some(window) = again {
                    self.again.push_front(window);
                }
                None
            }
        };
        if let Some(window) = window.filter(|window| !window.is_empty()) {
            self.revoking = Some(revoking);
            return self.commit(window, now);
        }
        self.drop_partitions(&revoking.partitions);
        self.orders.push_back(Order::LetGo);
    }

    /// Everything that is not committed is dropped and read again.
    fn rewind_all(&mut self) {
        if let Some(revoking) = &self.revoking {
            // Their next owner reads them.
            let going = revoking.partitions.clone();
            self.drop_partitions(&going);
        }
        let all: Vec<_> = self
            .ledger
            .assignment()
            .map(|(tp, _)| tp.clone())
            .filter(|tp| !self.held.contains_key(tp))
            .collect();
        for partition in &all {
            self.ledger.rewind(partition);
        }
        self.forget_stale();
        if !all.is_empty() {
            self.orders.push_back(Order::Rewind(all));
        }
    }

    fn drop_partitions(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.ledger.revoke(partition);
            self.held.remove(partition);
            self.halted.retain(|halted| halted != partition);
        }
        self.forget_stale();
    }

    fn drop_stale_windows(&mut self) {
        #[cfg(test)]
        if self.keeps_stale_windows {
            return;
        }
        self.again.iter_mut().for_each(|window| self.ledger.retain_current(window));
        self.again.retain(|window| !window.is_empty());
    }

    fn forget_stale(&mut self) {
        self.drop_stale_windows();
        if !matches!(self.orders.back(), Some(Order::Forget)) {
            self.orders.push_back(Order::Forget);
        }
    }
}

#[cfg(test)]
impl<O: std::hash::Hash> Delivery<O> {
    /// Everything but times and epochs, for telling apart the states of an exploration.
    pub(crate) fn hash_state(&self, to: &mut impl std::hash::Hasher) {
        use std::hash::Hash as _;
        debug_assert!(self.orders.is_empty(), "orders are carried out at once");
        self.ledger.hash_state(to);
        (self.cadence.in_flight(), self.not_before.is_some(), self.reread).hash(to);
        self.failures.min(2).hash(to);
        for window in &self.again {
            window.runs.len().hash(to);
            window.runs.iter().for_each(|run| {
                let current =
                    self.ledger.assignment().any(|(tp, epoch)| *tp == run.partition && epoch == run.epoch);
                (current, &run.partition, &run.records).hash(to);
            });
        }
        if let Some(revoking) = &self.revoking {
            (&revoking.partitions, revoking.lost, revoking.tried_again, revoking.closed).hash(to);
        }
    }

    /// Sets when the last transaction began, if one did.
    pub(crate) fn began_at(&mut self, at: Instant) {
        self.cadence.began_at(at);
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
