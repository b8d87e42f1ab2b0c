//! The ledger: the only owner of offsets. It knows every record that arrived and is not yet committed, and
//! hands out windows.
//!
//! ```text
//!            arrive             settle (any order)          take_settled
//!  (absent) ───────► Pending ─────────────────► Settled ──────────────► in a window ──► confirmed
//!                       │                          │                        │
//!                       └────────── revoke / rewind: dropped by epoch ──────┘
//! ```
//!
//! "Earlier" means earlier in arrival: offsets have gaps (commit markers, aborted and compacted records), so
//! nothing here waits for offset + 1.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{DeadLetterLimit, Epoch, Run, Sign, Taken, Ticket, TopicPartition, Window, diversion::Diversion};

/// Why the ledger did not take something. None of these is a failure: stale work is dropped and goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The partition is not assigned, or waits for its rewind.
    #[error("the partition is not assigned")]
    NotAssigned,
    /// The record belongs to an assignment that is over.
    #[error("the record's epoch is over")]
    Stale,
    /// The record has its verdict already; a second one is a defect of the caller.
    #[error("the record is settled already")]
    SettledTwice,
    /// The offset is not above the last one that arrived.
    #[error("the offset does not follow the last one")]
    OutOfOrder,
}

/// What a record came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<O> {
    /// What it produces, if anything.
    pub output: Option<O>,
    /// Bytes that this adds to the record's share of the budget.
    pub bytes: usize,
    /// Whether it produces a dead letter; see [`DeadLetterLimit`].
    pub sign: Sign,
}

#[derive(Clone, Debug)]
struct Entry<O> {
    offset: i64,
    bytes: usize,
    settled: bool,
    sign: Sign,
    output: Option<O>,
}

#[derive(Clone, Debug)]
struct Slot<O> {
    partition: TopicPartition,
    epoch: Epoch,
    /// False while a rewind is under way: records of the old position may still be on their way.
    reading: bool,
    last_offset: Option<i64>,
    /// Arrival number of the front entry.
    front: u64,
    entries: VecDeque<Entry<O>>,
    /// Taken into a window whose outcome is not known yet.
    out_records: usize,
    out_bytes: usize,
    diversion: Diversion,
    /// As it will be when the window that is out is confirmed.
    diversion_out: Option<Diversion>,
    /// Its oldest record is a dead letter past the limit: it leaves in no window.
    over_limit: bool,
}

/// The part of one partition in a window that is being closed.
struct Taking<'l, O> {
    slot: &'l mut Slot<O>,
    records: Vec<Taken<O>>,
    /// As it will be after these records.
    diversion: Diversion,
}

impl<'l, O> Taking<'l, O> {
    fn of(slot: &'l mut Slot<O>) -> Self {
        let diversion = slot.diversion.clone();
        Self { slot, records: Vec::new(), diversion }
    }

    /// Takes settled records of about `room` bytes, `always` one at least, and says how many bytes they have.
    fn take(&mut self, room: usize, always: bool, limit: Option<&DeadLetterLimit>) -> usize {
        let Self { slot, records, diversion } = self;
        let mut taken = 0;
        while !slot.over_limit
            && let Some(entry) = slot.entries.front().filter(|entry| entry.settled)
        {
            if !(always && taken == 0) && taken + entry.bytes > room {
                break;
            }
            if limit.is_some_and(|limit| !diversion.admit(entry.sign, limit)) {
                slot.over_limit = true;
                break;
            }
            taken += entry.bytes.max(1);
            let entry = slot.entries.pop_front().expect("looked at above");
            slot.front += 1;
            let (next_offset, bytes, output) = (entry.offset + 1, entry.bytes, entry.output);
            records.push(Taken { next_offset, bytes, output });
        }
        taken
    }

    /// What was taken, if anything.
    fn run(self) -> Option<Run<O>> {
        let Self { slot, records, diversion } = self;
        let run = Run { partition: slot.partition.clone(), epoch: slot.epoch, records };
        (!run.records.is_empty()).then(|| {
            slot.out_records += run.records.len();
            slot.out_bytes += run.bytes();
            slot.diversion_out = Some(diversion);
            run
        })
    }
}

/// Accounts for every record of every assigned partition. `O` is what a settled record produces.
#[derive(Clone, Debug)]
pub struct Ledger<O> {
    index: HashMap<TopicPartition, u32>,
    /// Where the last record arrived: records come in long rows of one partition.
    recent: u32,
    slots: Vec<Option<Slot<O>>>,
    next_epoch: u64,
    records: usize,
    bytes: usize,
    limit: Option<DeadLetterLimit>,
}

impl<O> Default for Ledger<O> {
    fn default() -> Self {
        Self {
            index: HashMap::new(),
            recent: 0,
            slots: Vec::new(),
            next_epoch: 0,
            records: 0,
            bytes: 0,
            limit: None,
        }
    }
}

impl<O> Ledger<O> {
    /// An empty ledger, no partition assigned.
    pub fn new() -> Self {
        Self::default()
    }

    /// Past this limit a partition's dead letters leave in no window; without one, however many there are.
    #[must_use]
    pub fn with_limit(self, limit: Option<DeadLetterLimit>) -> Self {
        Self { limit, ..self }
    }

    /// Records in flight: arrived under a current epoch and not confirmed.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Bytes in flight.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The assigned partitions with their epochs.
    pub fn assignment(&self) -> impl Iterator<Item = (&TopicPartition, Epoch)> {
        self.slots.iter().flatten().map(|s| (&s.partition, s.epoch))
    }

    /// Whether records under this ticket still count.
    pub fn is_current(&self, ticket: Ticket) -> bool {
        self.slot(ticket.slot).is_some_and(|s| s.epoch == ticket.epoch)
    }

    /// A partition came to us: a new epoch begins. Assigning one that is already here starts it afresh.
    pub fn assign(&mut self, partition: TopicPartition) -> Epoch {
        self.revoke(&partition);
        let epoch = self.new_epoch();
        let slot = Slot {
            partition: partition.clone(),
            epoch,
            reading: true,
            last_offset: None,
            front: 0,
            entries: VecDeque::new(),
            out_records: 0,
            out_bytes: 0,
            diversion: Diversion::default(),
            diversion_out: None,
            over_limit: false,
        };
        let free = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[free] = Some(slot);
        self.index.insert(partition, free as u32);
        epoch
    }

    /// A partition went away: everything of it that is not committed is forgotten.
    pub fn revoke(&mut self, partition: &TopicPartition) {
        if let Some(id) = self.index.remove(partition) {
            self.empty(id);
            self.slots[id as usize] = None;
        }
    }

    /// A partition will be read again from its committed offset: a new epoch begins now, and records are
    /// refused until [`Ledger::rewound`], because those of the old position may still be on their way.
    pub fn rewind(&mut self, partition: &TopicPartition) {
        let epoch = self.new_epoch();
        if let Some(&id) = self.index.get(partition) {
            self.empty(id);
            let slot = self.slots[id as usize].as_mut().expect("an indexed slot is filled");
            slot.epoch = epoch;
            slot.reading = false;
            slot.last_offset = None;
        }
    }

    /// Partitions whose oldest record is a dead letter past the limit.
    pub fn over_limit(&self) -> impl Iterator<Item = &TopicPartition> {
        self.slots.iter().flatten().filter(|s| s.over_limit).map(|s| &s.partition)
    }

    /// As [`Ledger::rewind`], because the partition is over its limit; gives the time to wait before it is read again.
    pub fn hold(&mut self, partition: &TopicPartition) -> Duration {
        self.rewind(partition);
        let slot = self.index.get(partition).and_then(|&id| self.slots[id as usize].as_mut());
        slot.map_or(Duration::ZERO, |slot| slot.diversion.trip())
    }

    /// The consumer has moved to the committed offset: what arrives from now on counts.
    pub fn rewound(&mut self, partition: &TopicPartition) {
        if let Some(&id) = self.index.get(partition) {
            let slot = self.slots[id as usize].as_mut().expect("an indexed slot is filled");
            slot.reading = true;
        }
    }

    /// A record arrived. The ticket is shown again when it is settled.
    pub fn arrive(
        &mut self,
        partition: &TopicPartition,
        offset: i64,
        bytes: usize,
    ) -> Result<Ticket, Refused> {
        let id = match self.slot(self.recent) {
            Some(slot) if slot.partition == *partition => self.recent,
            _ => *self.index.get(partition).ok_or(Refused::NotAssigned)?,
        };
        self.recent = id;
        let slot = self.slots[id as usize].as_mut().expect("an indexed slot is filled");
        if !slot.reading {
            return Err(Refused::Stale);
        }
        if slot.last_offset.is_some_and(|last| offset <= last) {
            return Err(Refused::OutOfOrder);
        }
        slot.last_offset = Some(offset);
        let arrival = slot.front + slot.entries.len() as u64;
        slot.entries.push_back(Entry { offset, bytes, settled: false, sign: Sign::None, output: None });
        self.records += 1;
        self.bytes += bytes;
        Ok(Ticket { slot: id, epoch: slot.epoch, arrival })
    }

    /// A record has its verdict.
    pub fn settle(&mut self, ticket: Ticket, answer: Answer<O>) -> Result<(), Refused> {
        let slot = self.slots.get_mut(ticket.slot as usize).and_then(Option::as_mut).ok_or(Refused::Stale)?;
        if slot.epoch != ticket.epoch {
            return Err(Refused::Stale);
        }
        let at = ticket.arrival.checked_sub(slot.front).ok_or(Refused::SettledTwice)?;
        let entry = slot.entries.get_mut(at as usize).ok_or(Refused::Stale)?;
        if entry.settled {
            return Err(Refused::SettledTwice);
        }
        entry.settled = true;
        entry.sign = answer.sign;
        entry.output = answer.output;
        entry.bytes += answer.bytes;
        self.bytes += answer.bytes;
        Ok(())
    }

    /// Whether some partition's oldest record is settled, so that a window would not be empty.
    pub fn has_settled(&self) -> bool {
        self.slots.iter().flatten().any(|s| !s.over_limit && s.entries.front().is_some_and(|e| e.settled))
    }

    /// Closes a window over the settled prefix of every partition for which `wanted` holds, of at most about `max_bytes` (the
    /// first record of a window is always taken). Where that is not enough for all, each partition gets its share, and what
    /// some leave of theirs is for those that have more.
    pub fn take_settled(&mut self, max_bytes: usize, wanted: impl Fn(&TopicPartition) -> bool) -> Window<O> {
        let slots = self.slots.iter_mut().flatten();
        let has_some = |slot: &Slot<O>| !slot.over_limit && slot.entries.front().is_some_and(|e| e.settled);
        let slots = slots.filter(|slot| has_some(slot) && wanted(&slot.partition));
        let mut taking: Vec<_> = slots.map(Taking::of).collect();
        let share = max_bytes / taking.len().max(1);
        let mut taken = 0;
        for most in [share, max_bytes] {
            for partition in &mut taking {
                let room = most.min(max_bytes.saturating_sub(taken));
                taken += partition.take(room, taken == 0, self.limit.as_ref());
            }
        }
        Window { runs: taking.into_iter().filter_map(Taking::run).collect() }
    }

    /// The window's commit is confirmed: what it held leaves the budget.
    pub fn confirm(&mut self, window: &Window<O>) {
        for run in &window.runs {
            let Some(&id) = self.index.get(&run.partition) else { continue };
            let slot = self.slots[id as usize].as_mut().expect("an indexed slot is filled");
            if slot.epoch == run.epoch {
                let (records, bytes) = (run.records.len(), run.bytes());
                slot.out_records -= records;
                slot.out_bytes -= bytes;
                // With the first of a window's pieces; the others were counted with it.
                if let Some(diversion) = slot.diversion_out.take() {
                    slot.diversion = diversion;
                }
                self.records -= records;
                self.bytes -= bytes;
            }
        }
    }

    /// Drops the runs whose epoch is over. What remains may be produced again.
    pub fn retain_current(&self, window: &mut Window<O>) {
        window.runs.retain(|run| {
            self.index.get(&run.partition).and_then(|&id| self.slot(id)).is_some_and(|s| s.epoch == run.epoch)
        });
    }

    fn slot(&self, id: u32) -> Option<&Slot<O>> {
        self.slots.get(id as usize).and_then(Option::as_ref)
    }

    fn new_epoch(&mut self) -> Epoch {
        self.next_epoch += 1;
        Epoch(self.next_epoch)
    }

    fn empty(&mut self, id: u32) {
        let slot = self.slots[id as usize].as_mut().expect("only filled slots are emptied");
        self.records -= slot.entries.len() + slot.out_records;
        self.bytes -= slot.entries.iter().map(|e| e.bytes).sum::<usize>() + slot.out_bytes;
        slot.front += slot.entries.len() as u64;
        slot.entries.clear();
        slot.out_records = 0;
        slot.out_bytes = 0;
        slot.diversion_out = None;
        slot.over_limit = false;
    }
}

#[cfg(test)]
impl<O: std::hash::Hash> Ledger<O> {
    /// Everything but epochs and arrival numbers.
    pub(crate) fn hash_state(&self, to: &mut impl std::hash::Hasher) {
        use std::hash::Hash as _;
        let mut slots: Vec<_> = self.slots.iter().flatten().collect();
        slots.sort_by(|a, b| a.partition.cmp(&b.partition));
        for slot in slots {
            (&slot.partition, slot.reading, slot.last_offset, slot.out_records).hash(to);
            slot.entries.iter().for_each(|e| (e.offset, e.settled, &e.output).hash(to));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: number }
    }

    fn answer(output: Option<i64>, bytes: usize) -> Answer<i64> {
        Answer { output, bytes, sign: Sign::Good }
    }

    fn everything(ledger: &mut Ledger<i64>) -> Window<i64> {
        ledger.take_settled(usize::MAX, |_| true)
    }

    #[test]
    fn a_window_holds_the_settled_prefix_in_arrival_order_across_gaps_in_the_offsets() {
        let mut ledger = Ledger::new();
        ledger.assign(partition(0));
        let tickets: Vec<_> =
            [3, 4, 9, 12].iter().map(|&o| ledger.arrive(&partition(0), o, 10).expect("assigned")).collect();
        ledger.settle(tickets[2], answer(Some(9), 1)).expect("first verdict");
        assert!(!ledger.has_settled(), "the oldest record is still pending");
        ledger.settle(tickets[0], answer(Some(3), 1)).expect("first verdict");
        ledger.settle(tickets[1], answer(None, 0)).expect("first verdict");
        let window = everything(&mut ledger);
        assert_eq!(window.outputs().copied().collect::<Vec<_>>(), [3, 9]);
        assert_eq!(window.runs[0].next_offset(), 10);
        assert_eq!(window.records(), 3);
        assert_eq!((ledger.records(), ledger.bytes()), (4, 42), "in flight until confirmed");
        ledger.confirm(&window);
        assert_eq!((ledger.records(), ledger.bytes()), (1, 10));
    }

    #[test]
    fn a_window_that_is_too_small_for_all_takes_a_share_of_each_partition_and_leaves_no_room() {
        let window = |settled: &[(usize, usize)], max_bytes| {
            let mut ledger = Ledger::new();
            for (number, &(count, bytes)) in settled.iter().enumerate() {
                let partition = partition(number as i32);
                ledger.assign(partition.clone());
                for offset in 0..count {
                    let ticket = ledger.arrive(&partition, offset as i64, bytes).expect("assigned");
                    ledger.settle(ticket, answer(None, 0)).expect("first verdict");
                }
            }
            let window = ledger.take_settled(max_bytes, |_| true);
            let of = |number| window.runs.iter().find(|run| run.partition == partition(number));
            let counts =
                (0..settled.len() as i32).map(|number| of(number).map_or(0, |run| run.records.len()));
            counts.collect::<Vec<_>>()
        };
        assert_eq!(window(&[(100, 1), (100, 1), (100, 1)], 90), [30, 30, 30]);
        assert_eq!(window(&[(100, 1), (10, 1), (0, 1), (100, 1)], 90), [50, 10, 0, 30]);
        assert_eq!(window(&[(1, 100), (10, 1)], 20), [1, 0], "the first is taken whatever its size");
        assert_eq!(window(&[(10, 15), (10, 1)], 20), [1, 5], "a share may hold less than one");
        assert_eq!(window(&[(3, 1), (5, 1)], usize::MAX), [3, 5]);
    }

    #[test]
    fn a_second_verdict_is_refused() {
        let mut ledger = Ledger::new();
        ledger.assign(partition(0));
        let ticket = ledger.arrive(&partition(0), 0, 1).expect("assigned");
        assert_eq!(ledger.settle(ticket, answer(Some(1), 0)), Ok(()));
        assert_eq!(ledger.settle(ticket, answer(Some(1), 0)), Err(Refused::SettledTwice));
        everything(&mut ledger);
        assert_eq!(
            ledger.settle(ticket, answer(Some(1), 0)),
            Err(Refused::SettledTwice),
            "also once it was taken"
        );
    }

    #[test]
    fn results_of_an_earlier_assignment_are_refused_after_the_partition_came_back() {
        let mut ledger = Ledger::new();
        ledger.assign(partition(0));
        let old = ledger.arrive(&partition(0), 0, 1).expect("assigned");
        ledger.revoke(&partition(0));
        ledger.assign(partition(0));
        let new = ledger.arrive(&partition(0), 0, 1).expect("assigned");
        assert_eq!(ledger.settle(old, answer(Some(0), 0)), Err(Refused::Stale));
        assert_eq!(ledger.settle(new, answer(Some(0), 0)), Ok(()));
    }

    #[test]
    fn an_aborted_window_keeps_only_the_runs_whose_epochs_still_hold() {
        let mut ledger = Ledger::new();
        for p in 0..2 {
            ledger.assign(partition(p));
            let ticket = ledger.arrive(&partition(p), 7, 1).expect("assigned");
            ledger.settle(ticket, answer(Some(i64::from(p)), 0)).expect("first verdict");
        }
        let mut window = everything(&mut ledger);
        ledger.revoke(&partition(0));
        ledger.retain_current(&mut window);
        assert_eq!(window.outputs().copied().collect::<Vec<_>>(), [1]);
        ledger.confirm(&window);
        assert_eq!((ledger.records(), ledger.bytes()), (0, 0));
    }

    #[test]
    fn while_a_partition_rewinds_records_of_the_old_position_are_refused() {
        let mut ledger = Ledger::<i64>::new();
        ledger.assign(partition(0));
        ledger.arrive(&partition(0), 5, 1).expect("assigned");
        ledger.rewind(&partition(0));
        assert_eq!(ledger.arrive(&partition(0), 6, 1), Err(Refused::Stale));
        ledger.rewound(&partition(0));
        assert!(ledger.arrive(&partition(0), 5, 1).is_ok());
        assert_eq!(ledger.records(), 1);
    }

    #[test]
    fn an_offset_that_came_already_is_refused() {
        let mut ledger = Ledger::<i64>::new();
        ledger.assign(partition(0));
        ledger.arrive(&partition(0), 5, 1).expect("assigned");
        assert_eq!(ledger.arrive(&partition(0), 5, 1), Err(Refused::OutOfOrder));
    }
}
