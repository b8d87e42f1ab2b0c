//! The ledger under random schedules: records arrive, are settled in any order by whoever still holds a
//! ticket, windows commit, abort or get lost, partitions come, go and rewind. A model of the broker holds the
//! committed offset and output of every partition; both must always agree with exactly once, in order.

use std::collections::HashMap;

use proptest::prelude::*;
use twinlane_delivery::{Answer, Ledger, Refused, Sign, Ticket, TopicPartition, Window};

const PARTITIONS: i32 = 3;

#[derive(Clone, Debug)]
enum Step {
    Assign(i32),
    Revoke(i32),
    Arrive(i32),
    Settle(prop::sample::Index, bool),
    Take(usize),
    Commit,
    AbortAndProduceAgain,
    LoseEverything,
    FinishRewind(i32),
}

fn step() -> impl Strategy<Value = Step> {
    let p = 0..PARTITIONS;
    prop_oneof![
        2 => p.clone().prop_map(Step::Assign),
        1 => p.clone().prop_map(Step::Revoke),
        12 => p.clone().prop_map(Step::Arrive),
        12 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(i, o)| Step::Settle(i, o)),
        4 => (1usize..200).prop_map(Step::Take),
        4 => Just(Step::Commit),
        1 => Just(Step::AbortAndProduceAgain),
        1 => Just(Step::LoseEverything),
        2 => p.prop_map(Step::FinishRewind),
    ]
}

/// Offset of the n-th record: logs have gaps, here after every third record.
fn offset_of(n: i64) -> i64 {
    n + n / 3
}

#[derive(Default)]
struct Broker {
    /// Per partition: the committed offset, and the offsets answered in committed order.
    committed: HashMap<i32, i64>,
    answered: HashMap<i32, Vec<i64>>,
}

impl Broker {
    fn commit(&mut self, window: &Window<(i32, i64)>) {
        for run in &window.runs {
            let p = run.partition.partition;
            let before = self.committed.insert(p, run.next_offset()).unwrap_or(0);
            assert!(run.next_offset() > before, "a commit went backwards");
            for &(from, offset) in run.outputs() {
                assert_eq!(from, p, "an output in another partition's run");
                assert!(
                    offset >= before && offset < run.next_offset(),
                    "an output outside its window's offsets"
                );
                self.answered.entry(p).or_default().push(offset);
            }
        }
    }
}

fn partition(number: i32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition: number }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_each_record_is_answered_once_and_in_order(steps in prop::collection::vec(step(), 1..200)) {
        let mut ledger = Ledger::<(i32, i64)>::new();
        let mut broker = Broker::default();
        let mut reads_at: HashMap<i32, i64> = HashMap::new();
        let mut waits_for_rewind: HashMap<i32, bool> = HashMap::new();
        let mut tickets: Vec<(Ticket, i32, i64)> = Vec::new();
        let mut silent: Vec<(i32, i64)> = Vec::new();
        // In a transaction, and aborted, to be produced again.
        let mut out: Option<Window<(i32, i64)>> = None;
        let mut again: Option<Window<(i32, i64)>> = None;
        for step in steps {
            match step {
                // A rebalance waits for the transaction that is out. A new owner starts at the committed offset; the
                // window that was aborted holds an old epoch then.
                Step::Assign(_) | Step::Revoke(_) if out.is_some() => {}
                Step::Assign(p) => {
                    ledger.assign(partition(p));
                    reads_at.insert(p, *broker.committed.get(&p).unwrap_or(&0));
                    waits_for_rewind.insert(p, false);
                }
                Step::Revoke(p) => {
                    ledger.revoke(&partition(p));
                    reads_at.remove(&p);
                }
                Step::Arrive(p) => {
                    let Some(&from) = reads_at.get(&p) else {
                        prop_assert_eq!(ledger.arrive(&partition(p), 0, 10), Err(Refused::NotAssigned));
                        continue;
                    };
                    let offset = (0..).map(offset_of).find(|&o| o >= from).expect("the log is endless");
                    match ledger.arrive(&partition(p), offset, 10) {
                        Ok(ticket) => {
                            tickets.push((ticket, p, offset));
                            reads_at.insert(p, offset + 1);
                        }
                        Err(refused) => {
                            prop_assert_eq!(refused, Refused::Stale);
                            prop_assert!(waits_for_rewind[&p], "a record was refused without cause");
                        }
                    }
                }
                Step::Settle(which, answers) if !tickets.is_empty() => {
                    let (ticket, p, offset) = tickets.swap_remove(which.index(tickets.len()));
                    let current = ledger.is_current(ticket);
                    let settled = ledger.settle(ticket, Answer { output: answers.then_some((p, offset)), bytes: 3, sign: Sign::Good });
                    prop_assert_eq!(settled.is_ok(), current);
                    if settled.is_ok() && !answers {
                        silent.push((p, offset));
                    }
                }
                Step::Take(max_bytes) if out.is_none() => {
                    let window = match again.take() {
                        Some(mut window) => {
                            ledger.retain_current(&mut window);
                            window
                        }
                        None => ledger.take_settled(max_bytes, |_| true),
                    };
                    out = (!window.is_empty()).then_some(window);
                }
                Step::Commit => if let Some(window) = out.take() {
                    let mut current = window.clone();
                    ledger.retain_current(&mut current);
                    prop_assert_eq!(&current, &window, "a run of an old epoch was in a transaction");
                    broker.commit(&window);
                    ledger.confirm(&window);
                },
                Step::AbortAndProduceAgain => if let Some(window) = out.take() {
                    again = Some(window);
                },
                Step::LoseEverything => {
                    (out, again) = (None, None);
                    let assigned: Vec<_> = ledger.assignment().map(|(tp, _)| tp.clone()).collect();
                    for tp in assigned {
                        ledger.rewind(&tp);
                        waits_for_rewind.insert(tp.partition, true);
                    }
                    prop_assert_eq!((ledger.records(), ledger.bytes()), (0, 0));
                }
                Step::FinishRewind(p) if reads_at.contains_key(&p) && waits_for_rewind[&p] => {
                    ledger.rewound(&partition(p));
                    waits_for_rewind.insert(p, false);
                    reads_at.insert(p, *broker.committed.get(&p).unwrap_or(&0));
                },
                _ => {}
            }
        }
        for (p, answered) in &broker.answered {
            prop_assert!(answered.windows(2).all(|w| w[0] < w[1]), "repeated or out of order: {:?}", answered);
            // Below the committed offset every record was answered, or settled without an answer.
            for offset in (0..).map(offset_of).take_while(|o| *o < broker.committed[p]) {
                prop_assert!(
                    answered.binary_search(&offset).is_ok() || silent.contains(&(*p, offset)),
                    "partition {} offset {} was lost", p, offset
                );
            }
        }
    }

    #[test]
    fn when_all_is_settled_and_confirmed_nothing_is_in_flight(offsets in 1usize..50, max_bytes in 1usize..100) {
        let mut ledger = Ledger::<(i32, i64)>::new();
        ledger.assign(partition(0));
        for n in 0..offsets as i64 {
            let ticket = ledger.arrive(&partition(0), offset_of(n), 7).expect("assigned");
            ledger.settle(ticket, Answer { output: Some((0, n)), bytes: 5, sign: Sign::Good }).expect("first verdict");
        }
        let mut windows = 0;
        while ledger.has_settled() {
            let window = ledger.take_settled(max_bytes, |_| true);
            prop_assert!(!window.is_empty(), "a window that could close made no progress");
            ledger.confirm(&window);
            windows += 1;
        }
        prop_assert!(windows >= 1);
        prop_assert_eq!((ledger.records(), ledger.bytes()), (0, 0));
    }
}
