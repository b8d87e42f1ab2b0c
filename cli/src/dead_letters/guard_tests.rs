//! The guard, tried on one dead letter of a pipeline with a mixed source and one that is read directly.

use twinlane_record::{Coordinates, DeadLetter, Envelope, Reason};

use super::*;

const PIPELINE: &str = r#"
pipeline: shop
sources:
  events: { topic: events, format: json }
  reviews: { topic: reviews, format: json }
routes:
  - { from: events, when: 'event.kind == "test"', skip: test traffic, name: tests }
  - { from: events, when: 'event.kind == "order"', task: order, lane: precision, name: orders }
  - { from: reviews, task: order, lane: precision, name: reviews }
tasks:
  order:
    models: { full: order.onnx }
    inputs: { x: { columns: [a] } }
    outputs: { y: { tensor: y, kind: number } }
    publish: { topic: scores, format: json }
lanes:
  precision: { model: full, device: [cpu], max_batch: 8, partitions: 2 }
dead_letters: { topic: dead }
"#;

struct Case {
    plan: Plan,
    facts: HashMap<Arc<str>, TopicFacts>,
    record: Envelope,
    redriven: Redriven,
    to: To,
}

/// A dead letter of partition 5 of `topic`, that died `deaths` times.
fn case(topic: &str, route: Option<&str>, deaths: u32, to: To) -> Case {
    let plan = Plan::parse(PIPELINE, "pipeline.yaml").expect("a valid pipeline");
    let source = Coordinates { topic: topic.into(), partition: 5, offset: 40 };
    let mut original = Headers::default();
    original.push("tenant", "a");
    if let Some(route) = route {
        original.push(headers::SOURCE, source.to_string());
        original.push(headers::ROUTE, route.as_bytes().to_vec());
    }
    let dead = DeadLetter {
        route: None,
        source,
        stage: "precision".into(),
        reason: Reason::MissingField,
        detail: "gone".into(),
        model_digest: None,
        time_ms: 1,
        deaths,
    };
    let record = Envelope {
        at: Coordinates { topic: "dead".into(), partition: 1, offset: 7 },
        timestamp_ms: Some(12),
        key: Some("k".into()),
        value: Some("v".into()),
        headers: dead.headers(&original),
    };
    let facts = |partitions| TopicFacts { partitions, max_message_bytes: 2_000 };
    let facts = topics(&plan, To::Lane).into_iter().map(|topic| {
        let partitions = if topic.starts_with("shop.") { 2 } else { 6 };
        (topic, facts(partitions))
    });
    Case { facts: facts.collect(), plan, record, redriven: Redriven::new(&"dead".into()), to }
}

impl Case {
    fn decide(&self) -> Result<Outgoing, Left> {
        let letter = Letter::read(&self.plan, &self.record).expect("a dead letter");
        let guard = Guard { plan: &self.plan, facts: &self.facts, to: self.to, limit_deaths: 3 };
        guard.decide(&letter, &self.redriven)
    }
}

fn named(headers: &Headers) -> Vec<(&str, &str)> {
    headers.0.iter().map(|h| (&*h.name, headers.text(&h.name).expect("text, once a name"))).collect()
}

#[test]
fn an_event_goes_back_to_its_source_partition_with_its_own_bytes_and_the_count() {
    let sent = case("events", None, 2, To::Source).decide().expect("sent");
    assert_eq!((&*sent.topic, sent.partition, sent.timestamp_ms), ("events", 5, Some(12)));
    assert_eq!((sent.key.as_deref(), sent.value.as_deref()), (Some(&b"k"[..]), Some(&b"v"[..])));
    let expected = [("tenant", "a"), (headers::DEAD_COUNT, "2"), (headers::REDRIVEN_FROM, "dead/1/7")];
    assert_eq!(named(&sent.headers), expected);
}

#[test]
fn an_event_goes_to_its_lane_as_the_router_forwards_it() {
    let sent = case("events", Some("orders"), 1, To::Lane).decide().expect("sent");
    assert_eq!((&*sent.topic, sent.partition), ("shop.precision.order", 1), "5 modulo 2");
    let expected = [
        ("tenant", "a"),
        (headers::EVENT_ID, "events/5/40"),
        (headers::ROUTE, "orders"),
        (headers::LANE, "precision"),
        (headers::SOURCE, "events/5/40"),
        (headers::DEAD_COUNT, "1"),
        (headers::REDRIVEN_FROM, "dead/1/7"),
    ];
    assert_eq!(named(&sent.headers), expected);
}

#[test]
fn the_lane_of_a_source_without_a_router_is_its_source() {
    let sent = case("reviews", None, 1, To::Lane).decide().expect("sent");
    assert_eq!((&*sent.topic, sent.partition), ("reviews", 5));
    assert_eq!(sent.headers.text(headers::ROUTE), None);
}

#[test]
fn the_lane_of_workers_that_read_a_mixed_source_themselves_is_that_source() {
    let direct = PIPELINE.replace("partitions: 2", "partitions: 2, direct: true");
    let plan = Plan::parse(&direct, "pipeline.yaml").expect("a valid pipeline");
    let case = |route| Case { plan: plan.clone(), ..case("events", route, 1, To::Lane) };
    let sent = case(Some("orders")).decide().expect("sent");
    assert_eq!((&*sent.topic, sent.partition), ("events", 5));
    assert_eq!(sent.headers.text(headers::ROUTE), None, "its route is found anew");
    assert_eq!(case(None).decide().err(), Some(Left::NoLane));
}

#[test]
fn what_never_had_a_lane_is_left() {
    for route in [None, Some("tests"), Some("of yesterday")] {
        assert_eq!(case("events", route, 1, To::Lane).decide().err(), Some(Left::NoLane), "{route:?}");
        assert!(case("events", route, 1, To::Source).decide().is_ok(), "{route:?}");
    }
}

#[test]
fn what_died_too_often_is_left() {
    assert!(case("events", None, 2, To::Source).decide().is_ok());
    assert_eq!(case("events", None, 3, To::Source).decide().err(), Some(Left::DiedTooOften));
}

#[test]
fn what_was_sent_is_left() {
    let mut case = case("events", None, 1, To::Source);
    let sent = case.decide().expect("sent the first time");
    let letter = Letter::read(&case.plan, &case.record).expect("a dead letter");
    case.redriven.enter(&"shop.redriven".into(), &letter, &sent, 1);
    assert_eq!(case.decide().err(), Some(Left::AlreadyRedriven));
}

#[test]
fn what_is_not_whole_is_left() {
    let mut case = case("events", None, 1, To::Source);
    case.record.headers.push(headers::DEAD_TRUNCATED, "value");
    assert_eq!(case.decide().err(), Some(Left::Truncated));
}

#[test]
fn what_came_from_elsewhere_or_no_longer_fits_is_left() {
    assert_eq!(case("shop.precision.order", None, 1, To::Source).decide().err(), Some(Left::NoSource));
    let mut shrunk = case("events", None, 1, To::Source);
    shrunk.facts.get_mut("events").expect("known").partitions = 5;
    assert_eq!(shrunk.decide().err(), Some(Left::NoPartition));
    let mut large = case("events", None, 1, To::Source);
    large.record.value = Some(vec![0; 1_900].into());
    assert_eq!(large.decide().err(), Some(Left::TooLarge));
}

#[test]
fn a_tombstone_stays_one() {
    let mut case = case("events", None, 1, To::Source);
    case.record.value = None;
    assert_eq!(case.decide().expect("sent").value, None);
}
