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

/// A settled record, taken into a window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taken<O> {
    /// The offset to commit after it.
    pub next_offset: i64,
    /// Bytes that it holds in the budget.
    pub bytes: usize,
    /// What it produces, if anything.
    pub output: Option<O>,
}

/// A run of consecutively arrived, settled records of one partition under one epoch; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run<O> {
    /// The source partition.
    pub partition: TopicPartition,
    /// The assignment under which its records arrived.
    pub epoch: Epoch,
    /// In arrival order.
    pub records: Vec<Taken<O>>,
}

impl<O> Run<O> {
    /// What to produce, in arrival order.
    pub fn outputs(&self) -> impl Iterator<Item = &O> {
        self.records.iter().filter_map(|record| record.output.as_ref())
    }

    /// The offset of the first record.
    pub fn first_offset(&self) -> i64 {
        self.records.first().expect("a run is never empty").next_offset - 1
    }

    /// The offset to commit: one past the last record.
    pub fn next_offset(&self) -> i64 {
        self.records.last().expect("a run is never empty").next_offset
    }

    /// Bytes that these records hold in the budget.
    pub fn bytes(&self) -> usize {
        self.records.iter().map(|record| record.bytes).sum()
    }
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
        self.runs.iter().map(|run| run.records.len()).sum()
    }

    /// Budget bytes that its confirmation frees.
    pub fn bytes(&self) -> usize {
        self.runs.iter().map(Run::bytes).sum()
    }

    /// Every output, run by run, in the order in which they must be produced.
    pub fn outputs(&self) -> impl Iterator<Item = &O> {
        self.runs.iter().flat_map(Run::outputs)
    }

    /// Keeps about the first half of it and gives the rest, which must be committed after it; empty when there is but
    /// one record.
    #[must_use]
    pub fn split_off_half(&mut self) -> Window<O> {
        if self.runs.iter().all(|run| run.records.len() == 1) {
            let rest = self.runs.split_off(self.runs.len().div_ceil(2));
            return Window { runs: rest };
        }
        let halves = self.runs.iter_mut().map(|run| Run {
            partition: run.partition.clone(),
            epoch: run.epoch,
            records: run.records.split_off(run.records.len().div_ceil(2)),
        });
        Window { runs: halves.filter(|run| !run.records.is_empty()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(counts: &[i64]) -> Window<i64> {
        let runs = counts.iter().enumerate().map(|(partition, &count)| Run {
            partition: TopicPartition { topic: "t".into(), partition: partition as i32 },
            epoch: Epoch(1),
            records: (0..count)
                .map(|offset| Taken { next_offset: offset + 1, bytes: 1, output: Some(offset) })
                .collect(),
        });
        Window { runs: runs.collect() }
    }

    #[test]
    fn halves_keep_every_record_once_and_each_partition_in_its_order() {
        for counts in [&[1][..], &[2], &[7], &[1, 1, 1], &[5, 1, 2], &[1, 8]] {
            let (whole, mut pieces) = (window(counts), vec![window(counts)]);
            while let Some(at) = pieces.iter().position(|piece| piece.records() > 1) {
                let rest = pieces[at].split_off_half();
                assert!(!rest.is_empty() && !pieces[at].is_empty(), "{counts:?}");
                pieces.insert(at + 1, rest);
            }
            assert_eq!(pieces.len(), whole.records());
            for run in &whole.runs {
                let parts = pieces.iter().flat_map(|piece| &piece.runs);
                let found: Vec<_> =
                    parts.filter(|part| part.partition == run.partition).flat_map(Run::outputs).collect();
                assert_eq!(found, run.outputs().collect::<Vec<_>>(), "{counts:?}");
            }
        }
    }

    #[test]
    fn one_record_cannot_be_halved() {
        let mut window = window(&[1]);
        assert!(window.split_off_half().is_empty());
        assert_eq!(window.records(), 1);
    }
}
