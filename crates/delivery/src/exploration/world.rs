//! Two workers and a broker, and every step that one of them can take.

use std::{fmt, time::Instant};

use super::{
    broker::{Broker, Open, Partition, Record},
    worker::{Callback, Out, Worker, named, number},
};
use crate::{Answer, Ended, Next, Reply, Request, Sign};

/// Rules of the delivery argument that can be taken out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// A revoke is over only when no window is out; else it returns at once.
    pub(super) revoke_waits: bool,
    /// An aborted window comes back only as far as its epochs hold; else as it is.
    pub(super) epochs: bool,
    /// A window of a partition that is lost is cancelled; else it goes on as far as the broker lets it.
    pub(super) cancel: bool,
    /// Offsets are sent as a valid member only; else also as none, which the broker lets pass.
    pub(super) valid_member: bool,
    /// Offsets are sent as the member that was given the partitions only, and one that comes back as another drops them;
    /// else a member that was expelled and joined anew without noticing goes on as if nothing had happened.
    pub(super) same_member: bool,
}

/// How often each may still happen.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Faults {
    pub(super) crashes: u8,
    pub(super) expulsions: u8,
    pub(super) moves: u8,
    pub(super) timeouts: u8,
}

/// What can happen next. The first number is the worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// A record is read.
    Fetch(usize, Partition),
    /// The model answers.
    Settle(usize, Record),
    /// The floor between two transactions, or the pause after an abort, is over.
    Tick(usize),
    /// The window that is out goes on: produce, check, send offsets, end.
    Transact(usize),
    /// The stage hears how it ended.
    Hear(usize),
    /// The consumer moves to the committed offsets.
    Rewind(usize),
    /// It joins the group.
    Join(usize),
    /// It learns the new generation and what it has to give back or may take.
    Sync(usize),
    /// The group expels it; it does not know yet.
    Expel(usize),
    /// It learns that it was expelled.
    Notice(usize),
    /// It joins again as another member and is not told that it was expelled.
    Reappear(usize),
    /// The rebalance callback returns.
    Return(usize),
    /// The group wants a partition to go to this member.
    Move(Partition, usize),
    /// Its open transaction times out.
    TimeOut(usize),
    /// It dies.
    Crash(usize),
    /// It is started again.
    Restart(usize),
}

/// On one line: a history is read from top to bottom.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Step::Fetch(id, partition) => write!(f, "{id} fetches of {partition}"),
            Step::Settle(id, (partition, offset)) => write!(f, "{id} settles {partition}/{offset}"),
            Step::Tick(id) => write!(f, "{id} ticks"),
            Step::Transact(id) => write!(f, "{id} goes on with its transaction"),
            Step::Hear(id) => write!(f, "{id} hears how its window ended"),
            Step::Rewind(id) => write!(f, "{id} rewinds"),
            Step::Join(id) => write!(f, "{id} joins"),
            Step::Sync(id) => write!(f, "{id} learns the generation"),
            Step::Expel(id) => write!(f, "{id} is expelled"),
            Step::Notice(id) => write!(f, "{id} learns that it was expelled"),
            Step::Reappear(id) => write!(f, "{id} joins again and does not know that it was expelled"),
            Step::Return(id) => write!(f, "{id} returns from its callback"),
            Step::Move(partition, to) => write!(f, "{partition} is to go to {to}"),
            Step::TimeOut(id) => write!(f, "{id}'s transaction times out"),
            Step::Crash(id) => write!(f, "{id} dies"),
            Step::Restart(id) => write!(f, "{id} is started again"),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) broker: Broker,
    /// `None`: dead.
    pub(super) workers: [Option<Worker>; 2],
    pub(super) faults: Faults,
    records: i64,
    rules: Rules,
    start: Instant,
}

impl World {
    /// So many partitions with so many records each.
    pub(super) fn new(partitions: usize, records: i64, rules: Rules, faults: Faults) -> Self {
        let mut broker = Broker::new(partitions);
        let workers = [0, 1].map(|id| Some(Worker::new(partitions, broker.init(id), rules)));
        Self { broker, workers, faults, records, rules, start: Instant::now() }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.broker.committed.iter().all(|&committed| committed == self.records)
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (id, worker) in self.workers.iter().enumerate() {
            match worker {
                Some(worker) => self.steps_of(id, worker, &mut steps),
                None => steps.push(Step::Restart(id)),
            }
            if self.broker.member[id] && (self.faults.expulsions > 0 || worker.is_none()) {
                steps.push(Step::Expel(id));
            }
            if self.broker.open[id].is_some() && (self.faults.timeouts > 0 || worker.is_none()) {
                steps.push(Step::TimeOut(id));
            }
        }
        if self.faults.moves > 0 {
            for (partition, target) in self.broker.target.iter().enumerate() {
                let others = (0..2).filter(|&to| self.broker.member[to] && *target != Some(to));
                steps.extend(others.map(|to| Step::Move(partition, to)));
            }
        }
        steps
    }

    fn steps_of(&self, id: usize, worker: &Worker, steps: &mut Vec<Step>) {
        let free = worker.callback.is_none();
        for (partition, position) in worker.position.iter().enumerate() {
            if free && position.is_some_and(|at| at < self.records) {
                steps.push(Step::Fetch(id, partition));
            }
        }
        steps.extend(worker.tickets.iter().map(|(_, record)| Step::Settle(id, *record)));
        let later = self.start + std::time::Duration::from_secs(7200);
        if worker.delivery.wakes_at(self.start).is_some_and(|at| at <= later) {
            steps.push(Step::Tick(id));
        }
        if worker.out.is_some() {
            steps.push(Step::Transact(id));
        }
        if worker.ended.is_some() {
            steps.push(Step::Hear(id));
        }
        let stable = |partitions: &Vec<Partition>| !partitions.iter().any(|p| self.broker.is_unstable(*p));
        if free && worker.rewinds.front().is_some_and(stable) {
            steps.push(Step::Rewind(id));
        }
        let member = self.broker.member[id];
        if free && !member && worker.generation.is_none() {
            steps.push(Step::Join(id));
        }
        if free && member && self.news(id, worker) && !(worker.revoking && self.takes_something(id, worker)) {
            steps.push(Step::Sync(id));
        }
        if free && !member && worker.generation.is_some() && !worker.revoking {
            steps.push(Step::Notice(id));
            steps.push(Step::Reappear(id));
        }
        if !free && (!worker.revoking || !self.rules.revoke_waits) {
            steps.push(Step::Return(id));
        }
        if self.faults.crashes > 0 {
            steps.push(Step::Crash(id));
        }
    }

    fn takes_something(&self, id: usize, worker: &Worker) -> bool {
        (0..worker.position.len()).any(|p| worker.position[p].is_some() && self.broker.target[p] != Some(id))
    }

    /// Whether the group has something to tell this member.
    fn news(&self, id: usize, worker: &Worker) -> bool {
        worker.generation != Some(self.broker.generation) || !self.gains(id).is_empty() || worker.is_another()
    }

    /// Partitions that this member is to have, that nobody has, and whose committed offset is known.
    fn gains(&self, id: usize) -> Vec<Partition> {
        let broker = &self.broker;
        let free = |p: &Partition| broker.owner[*p].is_none() && !broker.is_unstable(*p);
        (0..broker.target.len()).filter(|&p| broker.target[p] == Some(id)).filter(free).collect()
    }

    /// Takes a step; the error says what went wrong for a reader of the answers.
    pub(super) fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Expel(id) => {
                self.faults.expulsions =
                    self.faults.expulsions.saturating_sub(u8::from(self.workers[id].is_some()));
                self.broker.expel(id);
            }
            Step::TimeOut(id) => {
                self.faults.timeouts =
                    self.faults.timeouts.saturating_sub(u8::from(self.workers[id].is_some()));
                self.broker.init(id);
            }
            Step::Move(partition, to) => {
                self.faults.moves -= 1;
                self.broker.target[partition] = Some(to);
                self.broker.next_generation();
            }
            Step::Crash(id) => {
                self.faults.crashes -= 1;
                self.workers[id] = None;
            }
            Step::Restart(id) => {
                let epoch = self.broker.init(id);
                // The former member is expelled when its session times out; a restarted process joins as another. That
                // both are in the group for a while changes nothing for the partitions.
                if self.broker.member[id] {
                    self.broker.expel(id);
                }
                self.workers[id] = Some(Worker::new(self.broker.committed.len(), epoch, self.rules));
            }
            Step::Fetch(id, _)
            | Step::Settle(id, _)
            | Step::Tick(id)
            | Step::Transact(id)
            | Step::Hear(id)
            | Step::Rewind(id)
            | Step::Join(id)
            | Step::Sync(id)
            | Step::Notice(id)
            | Step::Reappear(id)
            | Step::Return(id) => {
                let mut worker = self.workers[id].take().expect("only the living take these steps");
                let outcome = self.step_of(id, &mut worker, step);
                worker.obey(self.start, matches!(step, Step::Tick(_)));
                self.workers[id] = Some(worker);
                return outcome;
            }
        }
        Ok(())
    }

    fn step_of(&mut self, id: usize, worker: &mut Worker, step: Step) -> Result<(), String> {
        match step {
            Step::Fetch(_, partition) => {
                let offset = worker.position[partition].expect("only what is assigned is read");
                worker.position[partition] = Some(offset + 1);
                // A record that the ledger refuses is gone, as it is in the consumer.
                if let Ok(ticket) = worker.delivery.arrive(&named(partition), offset, 1) {
                    worker.tickets.push((ticket, (partition, offset)));
                }
            }
            Step::Settle(_, record) => {
                let at = worker.tickets.iter().position(|(_, of)| *of == record).expect("it has a ticket");
                let (ticket, record) = worker.tickets.remove(at);
                let answer = Answer { output: Some(record), bytes: 0, sign: Sign::Good };
                worker.delivery.settle(ticket, answer).expect("stale tickets were forgotten");
            }
            Step::Tick(_) => {}
            Step::Transact(_) => return self.transact(id, worker),
            Step::Hear(_) => self.hear(worker),
            Step::Rewind(_) => {
                let mut partitions = worker.rewinds.pop_front().expect("there is one");
                partitions.retain(|&p| worker.position[p].is_some());
                for &partition in &partitions {
                    worker.position[partition] = Some(self.broker.committed[partition]);
                }
                worker.delivery.rewound(&partitions.into_iter().map(named).collect::<Vec<_>>());
            }
            Step::Join(_) => {
                self.broker.join(id);
                worker.member += 1;
            }
            Step::Reappear(_) => {
                self.broker.join(id);
                worker.member += 1;
                worker.generation = Some(self.broker.generation);
                // The group believes what a member says that it has.
                for partition in 0..worker.position.len() {
                    let broker = &mut self.broker;
                    let is_claimed =
                        worker.position[partition].is_some() && broker.target[partition] == Some(id);
                    if is_claimed && broker.owner[partition].is_none() {
                        broker.owner[partition] = Some(id);
                    }
                }
            }
            Step::Sync(_) => self.sync(id, worker),
            Step::Notice(_) => {
                worker.generation = None;
                self.revoke(worker, worker.held(), true);
            }
            Step::Return(_) => {
                let Callback { partitions, lost } = worker.callback.take().expect("it runs");
                for partition in partitions {
                    worker.position[partition] = None;
                    // What a member lost is free already, unless it is in the group again and may take it anew.
                    if self.broker.owner[partition] == Some(id) {
                        self.broker.owner[partition] = None;
                    }
                }
                worker.holds_as = worker.member;
                // A member that gave something back joins again, and so does the whole group.
                if !lost && self.broker.member[id] {
                    self.broker.next_generation();
                }
            }
            _ => unreachable!("not a worker's step"),
        }
        Ok(())
    }

    fn sync(&mut self, id: usize, worker: &mut Worker) {
        worker.generation = Some(self.broker.generation);
        if worker.is_another() && self.rules.same_member {
            return self.revoke(worker, worker.held(), true);
        }
        worker.holds_as = worker.member;
        let had = worker.held();
        let gone: Vec<_> = (0..worker.position.len())
            .filter(|&p| worker.position[p].is_some() && self.broker.target[p] != Some(id))
            .collect();
        if !gone.is_empty() {
            return self.revoke(worker, gone, false);
        }
        let mut gains = self.gains(id);
        for &partition in &gains {
            self.broker.owner[partition] = Some(id);
        }
        // The client says nothing of what it had all the time, as far as it knows.
        gains.retain(|partition| !had.contains(partition));
        for &partition in &gains {
            worker.position[partition] = Some(self.broker.committed[partition]);
        }
        worker.delivery.assigned(gains.into_iter().map(named).collect());
    }

    fn revoke(&mut self, worker: &mut Worker, partitions: Vec<Partition>, lost: bool) {
        worker.delivery.revoke(partitions.iter().copied().map(named).collect(), lost);
        worker.callback = Some(Callback { partitions, lost });
        worker.revoking = true;
    }

    fn hear(&mut self, worker: &mut Worker) {
        worker.cancelled = false;
        worker.delivery.ended(worker.ended.take().expect("it ended"), self.start);
    }

    /// The next request of the transaction thread, and what the broker answers.
    fn transact(&mut self, id: usize, worker: &mut Worker) -> Result<(), String> {
        let Out { window, request, checked } = worker.out.take().expect("a window is out");
        let mut wrong = Ok(());
        let reply = match request {
            _ if self.broker.producer_epoch[id] != worker.producer_epoch => Reply::Broken,
            Request::Produce => {
                let answers = window.outputs().copied().collect();
                self.broker.open[id] = Some(Open { answers, offsets: None });
                Reply::Done
            }
            Request::SendOffsets if !checked => {
                if worker.cancelled && self.rules.cancel {
                    Reply::MustAbort
                } else {
                    // Whatever happens between this look and the request is a step of its own.
                    worker.out = Some(Out { window, request, checked: true });
                    return Ok(());
                }
            }
            Request::SendOffsets => {
                let accepted = match worker.generation {
                    // We do not even ask.
                    Some(_) if worker.is_another() && self.rules.same_member => false,
                    Some(generation) => self.broker.member[id] && generation == self.broker.generation,
                    // The broker lets generation -1 without a member pass.
                    None => !self.rules.valid_member,
                };
                let offsets = window.runs.iter().map(|run| (number(&run.partition), run.next_offset()));
                let open = self.broker.open[id].as_mut().expect("whoever aborts it fences the producer");
                open.offsets = accepted.then(|| offsets.collect());
                if accepted { Reply::Done } else { Reply::MustAbort }
            }
            Request::End => {
                wrong = self.broker.commit(id);
                Reply::Done
            }
            Request::Abort => {
                self.broker.open[id] = None;
                Reply::Done
            }
        };
        match request.after(reply) {
            Next::Ask(request) => worker.out = Some(Out { window, request, checked: false }),
            Next::Committed => worker.ended = Some(Ended::Committed(window)),
            Next::Aborted => worker.ended = Some(Ended::Aborted(window)),
            Next::Lost => {
                // A new producer resolves what was pending.
                worker.producer_epoch = self.broker.init(id);
                worker.ended = Some(Ended::Lost);
            }
        }
        wrong
    }
}
