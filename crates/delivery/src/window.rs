//! A window: the settled prefix of one or more partitions, which one Kafka transaction commits. It owns its
//! outputs until the commit is confirmed, so that an abort can produce them again without the model.
//!
//! ```text
//!            take_settled                submit                 Committed
//!  Ledger ───────────────► Window ───────────────► transaction ───────────► confirm, drop
//!                            ▲                          │
//!                            │   retain current epochs  │ Aborted (known to have left nothing)
//!                            └──────────────────────────┤
//!                                                       │ Lost (fenced, or outcome unknown)
//!                                                       └──────► drop; every partition rewinds
//! ```

use crate::{Epoch, TopicPartition};

/// A run of consecutively arrived, settled records of one partition under one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run<O> {
    /// The source partition.
    pub partition: TopicPartition,
    /// The assignment under which its records arrived.
    pub epoch: Epoch,
    /// What to produce, in arrival order; a settled record may have produced nothing.
    pub outputs: Vec<O>,
    /// The offset to commit: one past the last record of the run.
    pub next_offset: i64,
    /// Records settled in this run.
    pub records: usize,
    /// Bytes that these records hold in the budget.
    pub bytes: usize,
}

/// What one transaction commits: outputs and offsets that agree by construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window<O> {
    /// At most one run per partition.
    pub runs: Vec<Run<O>>,
}

impl<O> Window<O> {
    /// Nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Records that this window settles.
    pub fn records(&self) -> usize {
        self.runs.iter().map(|r| r.records).sum()
    }

    /// Budget bytes that its confirmation frees.
    pub fn bytes(&self) -> usize {
        self.runs.iter().map(|r| r.bytes).sum()
    }

    /// Every output, run by run, in the order in which they must be produced.
    pub fn outputs(&self) -> impl Iterator<Item = &O> {
        self.runs.iter().flat_map(|r| &r.outputs)
    }
}
