//! What the model's Kafka knows: committed offsets and answers, the transactions that are open, and the group.

/// Partition number.
pub(super) type Partition = usize;
/// An answer: the record that it is for.
pub(super) type Record = (Partition, i64);

/// A transaction that neither committed nor aborted.
#[derive(Clone, Debug, Hash)]
pub(super) struct Open {
    pub(super) answers: Vec<Record>,
    /// Offsets to commit, once they were accepted.
    pub(super) offsets: Option<Vec<Record>>,
}

#[derive(Clone, Debug)]
pub(super) struct Broker {
    /// Per partition: the committed offset, which in a right history is also the number of its answers.
    pub(super) committed: Vec<i64>,
    /// Per worker, whose transactional id is its own.
    pub(super) open: [Option<Open>; 2],
    pub(super) producer_epoch: [u32; 2],
    pub(super) generation: u32,
    pub(super) member: [bool; 2],
    /// Who is to have each partition.
    pub(super) target: Vec<Option<usize>>,
    /// Who has it, as far as the group knows.
    pub(super) owner: Vec<Option<usize>>,
}

impl Broker {
    pub(super) fn new(partitions: usize) -> Self {
        Self {
            committed: vec![0; partitions],
            open: [None, None],
            producer_epoch: [0; 2],
            generation: 0,
            member: [false; 2],
            target: vec![None; partitions],
            owner: vec![None; partitions],
        }
    }

    /// `InitProducerId`: what was open is aborted, and whoever had the id before is fenced.
    pub(super) fn init(&mut self, id: usize) -> u32 {
        self.open[id] = None;
        self.producer_epoch[id] += 1;
        self.producer_epoch[id]
    }

    /// Whether somebody's offset for this partition is neither committed nor aborted. A reader that asks for the
    /// committed offset waits.
    pub(super) fn is_unstable(&self, partition: Partition) -> bool {
        self.open.iter().flatten().flat_map(|open| open.offsets.iter().flatten()).any(|at| at.0 == partition)
    }

    /// Makes answers and offsets visible at once, and says what is wrong with them.
    pub(super) fn commit(&mut self, id: usize) -> Result<(), String> {
        let open = self.open[id].take().expect("only an open transaction is committed");
        for (partition, offset) in &open.answers {
            let due = self.committed[*partition];
            if *offset < due {
                return Err(format!("record {offset} of partition {partition} is answered twice"));
            }
            if *offset > due {
                return Err(format!("record {offset} of partition {partition} is answered before {due}"));
            }
            self.committed[*partition] += 1;
        }
        for (partition, next) in open.offsets.into_iter().flatten() {
            if self.committed[partition] != next {
                return Err(format!(
                    "{next} is committed for partition {partition}, not as far as it is answered"
                ));
            }
        }
        Ok(())
    }

    /// A new generation: every member has to learn it.
    pub(super) fn next_generation(&mut self) {
        self.generation += 1;
    }

    /// Takes a member out of the group: its partitions are free at once, whatever it thinks.
    pub(super) fn expel(&mut self, worker: usize) {
        self.member[worker] = false;
        for partition in 0..self.owner.len() {
            if self.owner[partition] == Some(worker) {
                self.owner[partition] = None;
            }
        }
        self.assign_to_members();
    }

    pub(super) fn join(&mut self, worker: usize) {
        self.member[worker] = true;
        self.assign_to_members();
    }

    /// Partitions stay with who is to have them, as sticky assignors do; the others go to the first member.
    fn assign_to_members(&mut self) {
        let first = self.member.iter().position(|&member| member);
        for target in &mut self.target {
            if target.is_none_or(|worker| !self.member[worker]) {
                *target = first;
            }
        }
        self.next_generation();
    }
}
