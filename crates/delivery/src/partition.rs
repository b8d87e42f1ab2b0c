//! Names for what the ledger keeps apart: a partition, one assignment of it, and one record within that.

use std::{fmt, sync::Arc};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// One assignment of one partition. Epochs are never reused within a process, so whatever carries an old one
/// (a record, a result, a window) is recognised as stale whichever partition it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub(crate) u64);

/// The receipt for one arrived record: whoever settles the record shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(crate) slot: u32,
    pub(crate) epoch: Epoch,
    pub(crate) arrival: u64,
}

impl Ticket {
    /// The assignment under which the record arrived.
    pub fn epoch(self) -> Epoch {
        self.epoch
    }
}
