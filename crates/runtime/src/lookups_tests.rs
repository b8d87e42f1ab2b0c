use twinlane_delivery::Ledger;
use twinlane_record::{Coordinates, Headers};

use super::*;

const TURN: Duration = Duration::from_secs(5);

/// A ledger gives the tickets, as in a stage.
struct Fixture {
    ledger: Ledger<()>,
    asks: Receiver<Ask>,
    lookups: Lookups,
}

fn partition(number: i32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition: number }
}

fn fixture(room: usize) -> Fixture {
    let (asks, asked) = bounded(room);
    let mut ledger = Ledger::new();
    for number in 0..2 {
        ledger.assign(partition(number));
    }
    let lookups = Lookups::new(Some(SchemaLookup { asks, turn: TURN, asked: "http://registry".into() }));
    Fixture { ledger, asks: asked, lookups }
}

impl Fixture {
    fn wait(&mut self, id: u32, on: i32, offset: i64, now: Instant) -> Option<TopicPartition> {
        let ticket = self.ledger.arrive(&partition(on), offset, 1).expect("assigned");
        let at = Coordinates { topic: "t".into(), partition: on, offset };
        let event = Envelope { at, key: None, value: None, headers: Headers::default(), timestamp_ms: None };
        self.lookups.wait(Unread { ticket, event, id }, now)
    }
}

fn offsets(records: &[Unread]) -> Vec<i64> {
    records.iter().map(|record| record.event.at.offset).collect()
}

fn nothing() -> Finding {
    Finding::Nothing(Rejection::new(Reason::UnknownSchema, "nobody"))
}

#[test]
fn an_id_is_asked_for_once_and_its_records_come_back_in_order_with_the_answer() {
    let (mut all, now) = (fixture(8), Instant::now());
    assert_eq!(all.wait(57, 0, 3, now), Some(partition(0)), "to be held");
    assert_eq!(all.wait(57, 0, 4, now), None, "it is held already");
    assert_eq!(all.wait(57, 1, 9, now), Some(partition(1)));
    assert_eq!(all.asks.try_iter().map(|ask| ask.id).collect::<Vec<_>>(), [57]);
    assert!(!all.lookups.let_go());
    let records = all.lookups.answered(57, &nothing(), now);
    assert_eq!(offsets(&records), [3, 4, 9]);
    assert!(all.lookups.let_go());
    assert_eq!(all.lookups.held().count(), 0);
}

#[test]
fn a_turn_ends_and_the_id_may_be_asked_for_again_after_a_while() {
    let (mut all, now) = (fixture(8), Instant::now());
    all.wait(57, 0, 3, now);
    all.wait(57, 0, 4, now + TURN / 2);
    assert_eq!(all.lookups.wakes_at(), Some(now + TURN), "the first record's turn is that of all");
    assert!(all.lookups.overdue(now + TURN / 2).is_none());
    let (id, finding, records) = all.lookups.overdue(now + TURN).expect("over");
    assert_eq!((id, offsets(&records)), (57, vec![3, 4]));
    let Finding::Nothing(why) = finding else { panic!("{finding:?}") };
    assert_eq!(
        why.detail,
        "schema id 57 is not known here, and the schema registry at http://registry did not say what it is within 5s"
    );
    assert_eq!(all.lookups.wakes_at(), Some(now + TURN + REFUSED_FOR));
    assert_eq!(all.lookups.forgotten(now + TURN), None);
    assert_eq!(all.lookups.forgotten(now + TURN + REFUSED_FOR), Some(57));
    assert_eq!(all.lookups.wakes_at(), None);
}

#[test]
fn a_partition_is_let_go_only_when_nothing_of_it_waits() {
    let (mut all, now) = (fixture(8), Instant::now());
    all.wait(57, 0, 3, now);
    all.wait(58, 0, 4, now);
    all.lookups.answered(57, &nothing(), now);
    assert!(!all.lookups.let_go(), "58 is not answered");
    all.lookups.answered(58, &nothing(), now);
    assert!(all.lookups.let_go());
}

#[test]
fn a_question_that_found_no_room_is_asked_with_the_next_record() {
    let (mut all, now) = (fixture(1), Instant::now());
    all.wait(57, 0, 3, now);
    all.wait(58, 0, 4, now);
    assert_eq!(all.asks.try_iter().map(|ask| ask.id).collect::<Vec<_>>(), [57]);
    all.wait(58, 0, 5, now);
    assert_eq!(all.asks.try_iter().map(|ask| ask.id).collect::<Vec<_>>(), [58]);
}

#[test]
fn records_of_an_assignment_that_is_over_wait_no_more() {
    let (mut all, now) = (fixture(8), Instant::now());
    all.wait(57, 0, 3, now);
    all.wait(57, 1, 9, now);
    all.ledger.revoke(&partition(0));
    let ledger = &all.ledger;
    all.lookups.forget_stale(&|ticket| ledger.is_current(ticket));
    assert!(all.lookups.let_go());
    assert_eq!(all.lookups.held().collect::<Vec<_>>(), [&partition(1)]);
    assert_eq!(offsets(&all.lookups.answered(57, &nothing(), now)), [9]);
}
