use super::*;
use crate::Sign;

const FLOOR: Duration = Duration::from_millis(10);

struct Fixture {
    delivery: Delivery<i64>,
    now: Instant,
}

fn partition(number: i32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition: number }
}

impl Fixture {
    fn new(limit: Option<DeadLetterLimit>) -> Self {
        let options = Options { window_floor: FLOOR, window_bytes: usize::MAX, dead_letter_limit: limit };
        let mut delivery = Delivery::new(options);
        delivery.assigned(vec![partition(0), partition(1)]);
        Self { delivery, now: Instant::now() }
    }

    fn settle(&mut self, number: i32, offset: i64, dead: bool) {
        let ticket = self.delivery.arrive(&partition(number), offset, 1).expect("assigned");
        let sign = if dead { Sign::Dead } else { Sign::Good };
        let answer = Answer { output: Some(offset), bytes: 1, sign };
        self.delivery.settle(ticket, answer).expect("its first verdict");
    }

    /// All that is ordered `after` this time, but for what is to be forgotten.
    fn orders(&mut self, after: Duration) -> Vec<Order<i64>> {
        self.now += after;
        let orders = std::iter::from_fn(|| self.delivery.next(self.now));
        orders.filter(|order| *order != Order::Forget).collect()
    }

    fn window(&mut self, after: Duration) -> Window<i64> {
        let mut orders = self.orders(after);
        match orders.pop() {
            Some(Order::Commit(window)) if orders.is_empty() => window,
            other => panic!("{orders:?}, {other:?}"),
        }
    }

    /// The producer is lost, and everything is read and settled anew.
    fn lost(&mut self, records: std::ops::Range<i64>) {
        self.delivery.ended(Ended::Lost, self.now);
        assert!(matches!(self.orders(Duration::ZERO)[..], [Order::Rewind(_)]));
        self.delivery.rewound(&[partition(0), partition(1)]);
        records.for_each(|offset| self.settle(0, offset, false));
    }

    fn committed(&mut self, window: Window<i64>) {
        self.delivery.ended(Ended::Committed(window), self.now);
    }
}

#[test]
fn the_next_window_closes_when_the_last_is_back_and_not_before_the_floor() {
    let mut stage = Fixture::new(None);
    stage.settle(0, 0, false);
    let first = stage.window(Duration::ZERO);
    stage.settle(0, 1, false);
    assert_eq!(stage.orders(FLOOR * 5), [], "one is out");
    assert_eq!(stage.delivery.wakes_at(stage.now), None);
    stage.committed(first);
    assert_eq!(stage.orders(Duration::ZERO), [], "its markers are still being written");
    assert_eq!(stage.window(FLOOR / 2).outputs().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_window_does_not_wait_for_its_time_while_the_budget_is_spent() {
    let mut stage = Fixture::new(None);
    stage.settle(0, 0, false);
    let first = stage.window(Duration::ZERO);
    stage.committed(first);
    stage.settle(0, 1, false);
    assert_eq!(stage.orders(Duration::ZERO), [], "it is not time yet");
    stage.delivery.hurry(true);
    assert!(stage.delivery.wakes_at(stage.now).is_some_and(|at| at <= stage.now));
    let second = stage.window(Duration::ZERO);
    stage.delivery.ended(Ended::Aborted(second), stage.now);
    assert_eq!(stage.orders(Duration::ZERO), [], "an abort costs its pause all the same");
}

#[test]
fn a_rebalance_costs_the_partitions_that_stay_nothing_but_a_pause() {
    let mut stage = Fixture::new(None);
    stage.settle(0, 0, false);
    stage.settle(1, 0, false);
    let window = stage.window(Duration::ZERO);
    stage.delivery.ended(Ended::Aborted(window.clone()), stage.now);
    stage.delivery.revoke(vec![partition(0)], true);
    assert_eq!(stage.orders(Duration::ZERO), [Order::LetGo]);
    // The partition that stays is produced again from memory: nothing of it is read or computed again.
    assert_eq!(stage.window(ABORT_PAUSE).runs, [window.runs[1].clone()]);
}

#[test]
fn a_revoke_commits_what_is_settled_of_what_goes_and_waits_for_no_model() {
    let mut stage = Fixture::new(None);
    stage.settle(0, 0, false);
    let pending = stage.delivery.arrive(&partition(0), 1, 1).expect("assigned");
    let out = stage.window(Duration::ZERO);
    stage.settle(1, 7, false);
    stage.delivery.revoke(vec![partition(0), partition(1)], false);
    assert_eq!(stage.orders(Duration::ZERO), [], "the window that is out is waited for");
    stage.committed(out);
    let last = stage.window(Duration::ZERO);
    assert_eq!(last.outputs().copied().collect::<Vec<_>>(), [7]);
    stage.committed(last);
    assert_eq!(stage.orders(Duration::ZERO), [Order::LetGo]);
    assert!(!stage.delivery.is_current(pending));
    assert_eq!((stage.delivery.records(), stage.delivery.bytes()), (0, 0));
}

#[test]
fn a_revoke_tries_an_aborted_window_once_more_and_then_leaves_it_to_the_next_owner() {
    let mut stage = Fixture::new(None);
    stage.settle(0, 0, false);
    let window = stage.window(Duration::ZERO);
    stage.delivery.ended(Ended::Aborted(window), stage.now);
    stage.delivery.revoke(vec![partition(0)], false);
    let again = stage.window(Duration::ZERO);
    stage.delivery.ended(Ended::Aborted(again), stage.now);
    assert_eq!(stage.orders(Duration::ZERO), [Order::LetGo]);
    assert_eq!(stage.orders(ABORT_PAUSE), [], "nothing of it is left");
}

#[test]
fn what_is_lost_is_cancelled_and_never_produced_again() {
    let mut stage = Fixture::new(None);
    stage.settle(0, 0, false);
    let window = stage.window(Duration::ZERO);
    stage.delivery.revoke(vec![partition(0)], true);
    assert_eq!(stage.orders(Duration::ZERO), [Order::Cancel]);
    stage.delivery.ended(Ended::Aborted(window), stage.now);
    assert_eq!(stage.orders(ABORT_PAUSE), [Order::LetGo]);
    assert_eq!(stage.orders(ABORT_PAUSE), []);
}

#[test]
fn a_window_of_a_partition_that_is_halted_is_cancelled_and_the_others_of_it_are_produced_again() {
    let mut stage = Fixture::new(None);
    stage.settle(0, 0, false);
    stage.settle(1, 0, false);
    let window = stage.window(Duration::ZERO);
    stage.delivery.halt(partition(0));
    assert_eq!(stage.orders(Duration::ZERO), [Order::Cancel]);
    stage.delivery.ended(Ended::Aborted(window.clone()), stage.now);
    assert_eq!(stage.window(ABORT_PAUSE).runs, [window.runs[1].clone()]);
    assert_eq!(stage.delivery.halted(), [partition(0)]);
}

#[test]
fn a_lost_producer_rewinds_everything_that_stays() {
    let mut stage = Fixture::new(None);
    stage.settle(0, 0, false);
    let _ = stage.window(Duration::ZERO);
    stage.settle(1, 0, false);
    stage.delivery.ended(Ended::Lost, stage.now);
    let mut orders = stage.orders(Duration::ZERO);
    let Some(Order::Rewind(partitions)) = orders.first_mut() else { panic!("{orders:?}") };
    partitions.sort();
    assert_eq!(orders, [Order::Rewind(vec![partition(0), partition(1)])]);
    assert_eq!(stage.delivery.arrive(&partition(0), 1, 1), Err(Refused::Stale), "of the old position");
    stage.delivery.rewound(&[partition(0), partition(1)]);
    assert!(stage.delivery.arrive(&partition(0), 0, 1).is_ok());
}

#[test]
fn a_partition_past_its_limit_is_held_tried_again_and_goes_on_with_the_first_good_record() {
    let mut stage = Fixture::new(Some(DeadLetterLimit { consecutive: 2, ratio: 1.0 }));
    for offset in 0..5 {
        stage.settle(0, offset, true);
    }
    stage.settle(1, 0, false);
    let window = stage.window(Duration::ZERO);
    assert_eq!(
        window.outputs().copied().collect::<Vec<_>>(),
        [0, 1, 0],
        "two dead letters, and the other partition"
    );
    stage.committed(window);
    let second = Duration::from_secs(1);
    assert_eq!(stage.orders(FLOOR), [Order::Hold(partition(0), second)]);
    assert_eq!(stage.delivery.held().count(), 1);
    assert_eq!(stage.delivery.wakes_at(stage.now), Some(stage.now + second));

    assert_eq!(stage.orders(second), [Order::Rewind(vec![partition(0)])]);
    stage.delivery.rewound(&[partition(0)]);
    stage.settle(0, 2, true);
    assert_eq!(stage.orders(Duration::ZERO), [Order::Hold(partition(0), 2 * second)], "it still fails");

    assert_eq!(stage.orders(2 * second), [Order::Rewind(vec![partition(0)])]);
    stage.delivery.rewound(&[partition(0)]);
    (2..5).for_each(|offset| stage.settle(0, offset, false));
    assert_eq!(stage.window(Duration::ZERO).outputs().copied().collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(stage.delivery.held().count(), 0);
}

#[test]
fn a_held_partition_is_not_read_while_a_window_that_may_hold_its_records_is_open() {
    let mut stage = Fixture::new(Some(DeadLetterLimit { consecutive: 1, ratio: 1.0 }));
    stage.settle(0, 0, true);
    stage.settle(0, 1, true);
    let window = stage.window(Duration::ZERO);
    stage.delivery.ended(Ended::Aborted(window.clone()), stage.now);
    assert_eq!(stage.window(ABORT_PAUSE), window, "first what is within the limit, again");
    stage.committed(window);
    assert_eq!(stage.orders(FLOOR), [Order::Hold(partition(0), Duration::from_secs(1))]);
}

#[test]
fn a_held_partition_that_goes_is_forgotten() {
    let mut stage = Fixture::new(Some(DeadLetterLimit { consecutive: 1, ratio: 1.0 }));
    stage.settle(0, 0, true);
    stage.settle(0, 1, true);
    let window = stage.window(Duration::ZERO);
    stage.committed(window);
    assert_eq!(stage.orders(FLOOR).len(), 1);
    stage.delivery.revoke(vec![partition(0)], false);
    assert_eq!(stage.orders(Duration::ZERO), [Order::LetGo]);
    assert_eq!(stage.orders(Duration::from_secs(5)), []);
}

#[test]
fn a_window_that_is_aborted_twice_comes_back_in_halves_and_the_next_ones_are_smaller_for_a_while() {
    let mut stage = Fixture::new(None);
    (0..8).for_each(|offset| stage.settle(0, offset, false));
    let whole = stage.window(Duration::ZERO);
    stage.delivery.ended(Ended::Aborted(whole.clone()), stage.now);
    assert_eq!(stage.window(ABORT_PAUSE), whole, "once it may be chance");
    stage.delivery.ended(Ended::Aborted(whole), stage.now);
    stage.settle(0, 8, false);
    let mut found = Vec::new();
    for expected in [4, 4, 1] {
        let piece = stage.window(ABORT_PAUSE);
        assert_eq!(piece.records(), expected);
        found.extend(piece.outputs().copied());
        stage.committed(piece);
    }
    assert_eq!(found, (0..9).collect::<Vec<_>>(), "in order, and what was settled meanwhile comes last");
    assert_eq!((stage.delivery.records(), stage.delivery.bytes()), (0, 0));
}

#[test]
fn a_producer_that_is_lost_twice_gets_smaller_windows_until_one_commits() {
    // Each holds one byte for itself and one for its answer.
    let records = 4 * LEAST_WINDOW_BYTES as i64 / 2;
    let mut stage = Fixture::new(None);
    (0..records).for_each(|offset| stage.settle(0, offset, false));
    for expected in [records, records, records / 2, records / 4, records / 4] {
        assert_eq!(stage.window(FLOOR).records() as i64, expected);
        stage.lost(0..records);
    }
    let mut found = 0;
    for expected in [records / 4, records / 2, records / 4] {
        let window = stage.window(FLOOR);
        assert_eq!(window.records() as i64, expected, "it grows with every commit");
        found += window.records() as i64;
        stage.committed(window);
    }
    assert_eq!(found, records);
}

#[test]
fn a_revoke_commits_the_halves_one_after_another_and_never_something_later_before_them() {
    let mut stage = Fixture::new(None);
    (0..4).for_each(|offset| stage.settle(0, offset, false));
    let whole = stage.window(Duration::ZERO);
    stage.delivery.ended(Ended::Aborted(whole.clone()), stage.now);
    let again = stage.window(ABORT_PAUSE);
    stage.delivery.ended(Ended::Aborted(again), stage.now);
    stage.settle(0, 4, false);
    stage.delivery.revoke(vec![partition(0)], false);
    let mut found = Vec::new();
    for _ in 0..3 {
        let piece = stage.window(Duration::ZERO);
        found.extend(piece.outputs().copied());
        stage.committed(piece);
    }
    assert_eq!(found, [0, 1, 2, 3, 4]);
    assert_eq!(stage.orders(Duration::ZERO), [Order::LetGo]);
}
