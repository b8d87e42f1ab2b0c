//! The delivery argument, checked by exhaustive exploration: two workers with the real [`Delivery`](crate::Delivery) each,
//! against a model of what Kafka promises. Every interleaving is visited in which records arrive and are settled, windows
//! are produced, committed, aborted or lost, members are expelled and rejoin (told of it or not), partitions move,
//! transactions time out, and workers crash and restart, each fault up to a stated number of times.
//!
//! The model's broker fences what the real one does: a producer whose epoch is over, and a group generation that is over.
//! It does not know who owns a partition. So each of the rules in [`world::Rules`] can be taken out, and then the
//! exploration finds the history in which a record is answered twice.

mod broker;
mod fingerprint;
mod worker;
mod world;

use std::collections::{HashMap, VecDeque};

use world::{Faults, Rules, Step, World};

/// What a search came to.
enum Found {
    /// So many states, and in none of them anything is wrong.
    Nothing(usize),
    /// The steps to a state in which something is, and what.
    Wrong(Vec<Step>, String),
}

/// Breadth first, so that what is found is as short as it can be.
fn explore(start: World) -> Found {
    let mut seen: HashMap<u128, Option<(u128, Step)>> = HashMap::from([(start.fingerprint(), None)]);
    let mut open = VecDeque::from([start]);
    while let Some(world) = open.pop_front() {
        let from = world.fingerprint();
        let steps = world.steps();
        if steps.is_empty() && !world.is_complete() {
            return Found::Wrong(history(&seen, from), "nothing can happen, and not all is answered".into());
        }
        for step in steps {
            let mut next = world.clone();
            let outcome = next.take(step);
            let to = next.fingerprint();
            if let Err(wrong) = outcome {
                let mut steps = history(&seen, from);
                steps.push(step);
                return Found::Wrong(steps, wrong);
            }
            seen.entry(to).or_insert_with(|| {
                open.push_back(next);
                Some((from, step))
            });
        }
    }
    Found::Nothing(seen.len())
}

fn history(seen: &HashMap<u128, Option<(u128, Step)>>, mut at: u128) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some((before, step)) = seen[&at] {
        steps.push(step);
        at = before;
    }
    steps.reverse();
    steps
}

fn holds(start: World) {
    match explore(start) {
        Found::Nothing(states) => println!("{states} states"),
        Found::Wrong(steps, wrong) => panic!("{wrong}, after {steps:#?}"),
    }
}

/// The shortest history in which a record is answered twice, or out of order.
fn breaks(start: World) -> Vec<Step> {
    match explore(start) {
        Found::Nothing(states) => panic!("all {states} states are fine without the rule"),
        Found::Wrong(steps, wrong) => {
            println!("{wrong}, after {steps:#?}");
            steps
        }
    }
}

const ALL: Rules =
    Rules { revoke_waits: true, epochs: true, cancel: true, valid_member: true, same_member: true };
const ONE_OF_EACH: Faults = Faults { crashes: 1, expulsions: 1, moves: 1, timeouts: 1 };

#[test]
fn two_records_of_one_partition_are_answered_once_and_in_order() {
    holds(World::new(1, 2, ALL, Faults { timeouts: 0, ..ONE_OF_EACH }));
    holds(World::new(1, 1, ALL, ONE_OF_EACH));
}

#[test]
fn two_partitions_are_answered_once_whoever_has_them() {
    holds(World::new(2, 1, ALL, Faults { crashes: 0, expulsions: 1, moves: 1, timeouts: 0 }));
}

#[test]
fn without_waiting_in_a_revoke_a_record_is_answered_twice() {
    breaks(World::new(1, 1, Rules { revoke_waits: false, ..ALL }, ONE_OF_EACH));
}

#[test]
fn without_epochs_a_record_is_answered_twice() {
    breaks(World::new(1, 1, Rules { epochs: false, ..ALL }, ONE_OF_EACH));
}

#[test]
fn with_the_metadata_of_no_member_a_record_is_answered_twice() {
    breaks(World::new(1, 1, Rules { valid_member: false, ..ALL }, ONE_OF_EACH));
}

#[test]
fn as_a_member_that_came_after_the_one_that_had_the_partitions_a_record_is_answered_twice() {
    let steps = breaks(World::new(1, 1, Rules { same_member: false, ..ALL }, ONE_OF_EACH));
    assert!(steps.iter().any(|step| matches!(step, Step::Reappear(_))), "{steps:#?}");
}

#[test]
fn cancelling_what_is_lost_only_saves_time_because_the_revoke_waits() {
    holds(World::new(1, 1, Rules { cancel: false, ..ALL }, ONE_OF_EACH));
}

/// What is worth an hour now and then: `cargo test --release -p twinlane-delivery -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn more_records_and_more_faults() {
    holds(World::new(1, 2, ALL, ONE_OF_EACH));
    holds(World::new(1, 1, ALL, Faults { crashes: 2, expulsions: 2, moves: 1, timeouts: 1 }));
    holds(World::new(2, 1, ALL, Faults { crashes: 0, ..ONE_OF_EACH }));
}
