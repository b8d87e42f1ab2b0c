//! The batcher under schedules that nobody thought of.

use std::collections::BTreeSet;

use proptest::prelude::*;
use twinlane_pipeline::{RowTensor, TensorData};

use super::*;

const TASKS: usize = 3;

fn batcher(max_batch: usize) -> Batcher<u64> {
    Batcher::new(TASKS, max_batch)
}

fn row(mark: u64) -> Row {
    Row { tensors: vec![RowTensor { steps: 0, data: TensorData::Integer(vec![mark as i64]) }] }
}

#[test]
fn what_waits_goes_out_at_once_and_never_more_than_allowed() {
    let mut batcher = batcher(4);
    assert_eq!(batcher.next_for(1), None);
    batcher.push(0, 1, row(1));
    assert_eq!(batcher.next_for(1).unwrap().tags, [1], "one event is a batch");
    (2..8).for_each(|tag| batcher.push(0, tag, row(tag)));
    assert_eq!(batcher.next_for(1).unwrap().tags, [2, 3, 4, 5]);
    assert_eq!(batcher.next_for(1).unwrap().tags, [6, 7]);
    assert_eq!(batcher.next_for(1), None);
}

#[test]
fn a_backlog_is_shared_among_idle_sessions() {
    let mut batcher = batcher(32);
    (0..9).for_each(|tag| batcher.push(0, tag, row(tag)));
    let sizes: Vec<usize> = [3, 2, 1].map(|idle| batcher.next_for(idle).unwrap().tags.len()).into();
    assert_eq!(sizes, [3, 3, 3]);
}

#[test]
fn a_turn_goes_on_in_full_batches_as_long_as_others_have_theirs() {
    let mut batcher = batcher(4);
    (0..15).for_each(|tag| batcher.push(0, tag, row(tag)));
    batcher.push(1, 100, row(100));
    assert_eq!(batcher.next_for(2).unwrap().tags, [0, 1, 2, 3]);
    assert_eq!(batcher.more_of(0, 2).unwrap().tags, [4, 5, 6, 7]);
    assert_eq!(batcher.more_of(0, 2), None, "seven do not fill two batches");
    assert_eq!(batcher.more_of(0, 1).unwrap().tags, [8, 9, 10, 11]);
    assert_eq!(batcher.more_of(0, 1), None, "three fill none");
    assert_eq!(batcher.next_for(1).unwrap().task, 1, "its turn is over");
}

#[test]
fn a_flood_of_one_task_delays_another_by_one_batch() {
    let mut batcher = batcher(2);
    (0..100).for_each(|tag| batcher.push(0, tag, row(tag)));
    batcher.next_for(1);
    batcher.push(1, 1000, row(0));
    assert_eq!(batcher.next_for(1).unwrap().task, 1, "never served, so it comes first");
    batcher.push(1, 1001, row(0));
    assert_eq!(batcher.next_for(1).unwrap().task, 0);
    assert_eq!(batcher.next_for(1).unwrap().task, 1);
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Next(usize),
    /// Drops every tag that this divides.
    Drop(u64),
    /// Takes out every tag that this divides.
    Take(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..TASKS).prop_map(Step::Push),
        2 => (1..4_usize).prop_map(Step::Next),
        1 => (2..5_u64).prop_map(Step::Drop),
        1 => (2..5_u64).prop_map(Step::Take),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn every_row_leaves_once_in_order_with_its_own_tag(steps in steps(), max_batch in 1..9_usize) {
        let mut batcher = batcher(max_batch);
        let mut waiting: [BTreeSet<u64>; TASKS] = Default::default();
        let mut passed_over = [0_usize; TASKS];
        let mut tags = 0_u64;
        // Whatever is left at the end has to come out too.
        let tail = std::iter::repeat_n(Step::Next(1), steps.len() + 1);
        for step in steps.into_iter().chain(tail) {
            match step {
                Step::Push(task) => {
                    tags += 1;
                    batcher.push(task, tags, row(tags));
                    waiting[task].insert(tags);
                }
                Step::Drop(divisor) => {
                    batcher.retain(|tag| tag % divisor != 0);
                    waiting.iter_mut().for_each(|tags| tags.retain(|tag| tag % divisor != 0));
                }
                Step::Take(divisor) => {
                    let taken = batcher.take(|tag| tag % divisor == 0);
                    let of = |(task, tags): (usize, &mut BTreeSet<u64>)| {
                        tags.extract_if(.., |tag| tag % divisor == 0).map(|tag| (task, tag)).collect::<Vec<_>>()
                    };
                    let expected: Vec<_> = waiting.iter_mut().enumerate().flat_map(of).collect();
                    prop_assert_eq!(taken, expected, "what is taken comes out with its task, in order");
                }
                Step::Next(idle) => {
                    let Some(batch) = batcher.next_for(idle) else {
                        prop_assert!(waiting.iter().all(BTreeSet::is_empty), "something waits and nothing goes");
                        continue;
                    };
                    prop_assert!((1..=max_batch).contains(&batch.tags.len()));
                    for (tag, given) in batch.tags.iter().zip(&batch.rows) {
                        prop_assert_eq!(given, &row(*tag), "a tag stays with its row");
                        // The first of what waits: nothing lost, nothing twice, order kept.
                        prop_assert_eq!(waiting[batch.task].pop_first(), Some(*tag));
                    }
                    prop_assert_eq!(batch.tags.len(), batch.rows.len());
                    for (task, over) in passed_over.iter_mut().enumerate() {
                        *over = if task == batch.task || waiting[task].is_empty() { 0 } else { *over + 1 };
                        prop_assert!(*over < TASKS, "task {task} starves");
                    }
                }
            }
        }
        prop_assert!(waiting.iter().all(BTreeSet::is_empty), "something never came out");
    }
}
