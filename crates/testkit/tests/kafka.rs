//! The test kit against the real Kafka: what it produces is what it reads, and the checker's verdict holds.

use twinlane_testkit::Broker;
use twinlane_testkit::checker::{Checker, Expected};
use twinlane_testkit::client::{Outgoing, Producer, check_topics, committed_lag, read_to_end, unique};

#[test]
fn what_is_produced_is_read_back_with_its_headers() {
    let broker = Broker::shared();
    let topic = unique("testkit.roundtrip");
    broker.create_topic(&topic, 3, &[]).unwrap();
    let producer = Producer::new(broker.bootstrap()).unwrap();
    for number in 0..100_u32 {
        let (key, value) = (number.to_be_bytes(), format!("event {number}"));
        let headers = [("trace", b"abc".as_slice())];
        let event = Outgoing {
            topic: &topic,
            key: Some(&key),
            value: Some(value.as_bytes()),
            headers: &headers,
            ..Default::default()
        };
        producer.send(&event, number).unwrap();
    }
    let delivered = producer.flush().unwrap();
    assert_eq!(delivered.len(), 100);

    let mut found = Vec::new();
    read_to_end(broker.bootstrap(), &topic, |record| {
        assert_eq!(record.header("trace"), Some(b"abc".as_slice()));
        found.push((
            record.partition(),
            record.offset(),
            String::from_utf8(record.value().unwrap().into()).unwrap(),
        ));
    })
    .unwrap();
    found.sort();
    let mut expected: Vec<_> =
        delivered.iter().map(|one| (one.partition, one.offset, format!("event {}", one.tag))).collect();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(committed_lag(broker.bootstrap(), &unique("nobody"), &topic).unwrap(), 100);
}

#[test]
fn the_checker_finds_a_lost_and_a_repeated_answer_on_real_topics() {
    let broker = Broker::shared();
    let (source, output, dead) = (unique("testkit.in"), unique("testkit.out"), unique("testkit.dead"));
    for topic in [&source, &output, &dead] {
        broker.create_topic(topic, 1, &[]).unwrap();
    }
    let producer = Producer::new(broker.bootstrap()).unwrap();
    let mut checker = Checker::new();
    for _ in 0..4 {
        producer.send(&Outgoing { topic: &source, value: Some(b"event"), ..Default::default() }, ()).unwrap();
    }
    for event in producer.flush().unwrap() {
        let expected = if event.offset == 3 { Expected::DeadLetter } else { Expected::Answer };
        checker.produced(&source, event.partition, event.offset, expected);
    }
    // Event 0 is answered twice and event 1 not at all.
    for (topic, offset) in [(&output, 0), (&output, 0), (&output, 2), (&dead, 3)] {
        let coordinates = format!("{source}/0/{offset}");
        let headers = [("twinlane-source", coordinates.as_bytes())];
        let answer = Outgoing { topic, value: Some(b"answer"), headers: &headers, ..Default::default() };
        producer.send(&answer, ()).unwrap();
    }
    producer.flush().unwrap();

    check_topics(broker.bootstrap(), &mut checker, &[&output], &[&dead]).unwrap();

    let verdict = checker.verdict();
    assert_eq!((verdict.lost, verdict.repeated, verdict.reordered), (1, 1, 0), "{verdict}");
    assert_eq!((verdict.scored, verdict.dead_lettered, verdict.misjudged), (2, 1, 0), "{verdict}");
}
