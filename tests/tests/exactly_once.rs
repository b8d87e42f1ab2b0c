//! Every event is answered exactly once, in order, whatever else is on its topic and whoever dies.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::json;
use twinlane_testkit::{
    checker::{Checker, Expected},
    client, wait,
};
use twinlane_tests::{Event, PARTITIONS, Shop};

fn json_event(number: u32, source: &'static str, value: serde_json::Value, outcome: Outcome) -> Event {
    raw(number, source, Some(value.to_string().into_bytes()), outcome)
}

fn raw(number: u32, source: &'static str, value: Option<Vec<u8>>, outcome: Outcome) -> Event {
    let key = (!number.is_multiple_of(7)).then(|| format!("customer-{}", number % 50));
    let (expected, reason) = match outcome {
        Answer => (Expected::Answer, None),
        Skip => (Expected::Skip, None),
        Dead(reason) => (Expected::DeadLetter, Some(reason)),
    };
    Event { id: number, source, partition: (number as i32) % PARTITIONS, key, value, expected, reason }
}

enum Outcome {
    Answer,
    Skip,
    Dead(&'static str),
}
use Outcome::{Answer, Dead, Skip};

fn order(number: u32) -> Event {
    let steps = number % 12;
    let recent: Vec<_> = (0..steps).map(|s| json!({ "amount": f64::from(s) / 3.0, "age_s": s })).collect();
    json_event(number, "events", json!({ "kind": "order", "id": number, "recent": recent }), Answer)
}

fn click(number: u32) -> Event {
    let value = json!({ "kind": "click", "id": number, "a": number % 5, "b": 1.5, "c": -2 });
    json_event(number, "events", value, Answer)
}

fn review(number: u32) -> Event {
    let value = json!({ "id": number, "stars": number % 6, "helpful": number.is_multiple_of(2), "at": "2026-01-31T12:00:00+01:00" });
    json_event(number, "reviews", value, Answer)
}

/// Good events with a bad one of every kind among them.
fn mixed(count: u32) -> Vec<Event> {
    let mut events = Vec::new();
    for n in 0..count {
        events.push(match n % 3 {
            0 => order(n),
            1 => click(n),
            _ => review(n),
        });
        if n % 20 != 0 {
            continue;
        }
        events.push(match n / 20 % 12 {
            0 => raw(n, "events", Some(b"{ not json".to_vec()), Dead("malformed_payload")),
            1 => raw(n, "events", Some(Vec::new()), Dead("empty_payload")),
            2 => raw(n, "events", None, Skip),
            3 => raw(n, "reviews", None, Dead("tombstone")),
            4 => json_event(n, "events", json!({ "kind": "test" }), Skip),
            5 => json_event(n, "events", json!({ "kind": "unheard of" }), Dead("no_route")),
            6 => json_event(n, "events", json!({ "no_kind": true }), Dead("rule_failed")),
            7 => json_event(
                n,
                "events",
                json!({ "kind": "click", "a": "text", "b": 1, "c": 2 }),
                Dead("wrong_type"),
            ),
            8 => json_event(n, "events", json!({ "kind": "click", "a": 1, "b": 1 }), Dead("missing_field")),
            9 => json_event(
                n,
                "reviews",
                json!({ "stars": "many", "helpful": true, "at": "x" }),
                Dead("wrong_type"),
            ),
            10 => json_event(
                n,
                "events",
                json!({ "kind": "unheard of", "blob": "x".repeat(900_000) }),
                Dead("no_route"),
            ),
            _ => json_event(
                n,
                "reviews",
                json!({ "stars": 1, "helpful": true, "at": "yesterday" }),
                Dead("invalid_timestamp"),
            ),
        });
    }
    events
}

#[test]
fn good_and_bad_events_are_each_answered_once_and_in_order_and_a_clean_stop_is_quick() {
    let shop = Shop::open();
    let mut account = Checker::new();
    shop.produce(&mixed(1500), &mut account);
    let mut services = [("router", 0), ("precision-worker", 0), ("throughput-worker", 0)]
        .map(|(name, n)| shop.start(name, n));
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}");
    assert_eq!(verdict.answered, verdict.produced);
    for service in &mut services {
        assert_eq!(service.stop(Duration::from_secs(10)), Some(0), "{}", service.output());
    }
}

#[test]
fn a_worker_killed_in_mid_stream_and_restarted_loses_and_repeats_nothing() {
    let shop = Shop::open();
    let mut account = Checker::new();
    let _router = shop.start("router", 0);
    let _throughput = shop.start("throughput-worker", 0);
    let mut precision = shop.start("precision-worker", 0);
    let killed = AtomicBool::new(false);
    let orders = || shop.committed("scores.orders");
    std::thread::scope(|scope| {
        // Events come before, while and after it dies, so it dies in the middle of its work.
        scope.spawn(|| {
            while !killed.load(Ordering::Acquire) {
                shop.produce(&mixed(300), &mut account);
            }
            shop.produce(&mixed(300), &mut account);
        });
        let answered = wait::until(Duration::from_secs(60), || (orders() > 0).then_some(()));
        precision.kill();
        killed.store(true, Ordering::Release);
        assert!(answered.is_some(), "no answer before the kill");
    });
    assert!(!account.is_complete(), "nothing was left to answer");
    let _again = shop.start("precision-worker", 0);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}");
}

#[test]
fn workers_that_join_and_leave_under_load_lose_and_repeat_nothing() {
    let shop = Shop::open();
    let mut account = Checker::new();
    let _router = shop.start("router", 0);
    let _throughput = shop.start("throughput-worker", 0);
    let mut first = shop.start("precision-worker", 0);
    shop.produce(&mixed(1500), &mut account);
    let mut second = shop.start("precision-worker", 1);
    shop.produce(&mixed(1500), &mut account);
    assert_eq!(first.stop(Duration::from_secs(10)), Some(0), "{}", first.output());
    shop.produce(&mixed(300), &mut account);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}");
    assert_eq!(second.stop(Duration::from_secs(10)), Some(0), "{}", second.output());
}

const PRECISION: &str = "precision: { model: full,";
const THROUGHPUT: &str = "throughput: { model: distilled,";

/// A shop whose workers of these lanes read its mixed source themselves.
fn direct(lanes: &[&str]) -> Shop {
    let shop = Shop::open();
    for lane in lanes {
        shop.rewrite(lane, &format!("{lane} direct: true,"));
    }
    shop
}

#[test]
fn workers_that_read_a_mixed_source_themselves_answer_their_own_and_one_lane_the_rest() {
    for (lanes, router) in
        [(&[PRECISION][..], true), (&[THROUGHPUT][..], true), (&[PRECISION, THROUGHPUT][..], false)]
    {
        let shop = direct(lanes);
        let mut account = Checker::new();
        shop.produce(&mixed(600), &mut account);
        let _router = router.then(|| shop.start("router", 0));
        let _workers = ["precision-worker", "throughput-worker"].map(|name| shop.start(name, 0));
        let verdict = shop.verdict(&mut account);
        assert!(verdict.is_clean(), "{lanes:?}: {verdict:#?}");
        assert_eq!(verdict.answered, verdict.produced, "{lanes:?}");
        let forwarded = client::topics(shop.bootstrap()).expect("listed").into_iter();
        let forwarded: Vec<_> =
            forwarded.filter(|topic| topic.starts_with(&shop.topic("precision."))).collect();
        assert_eq!(forwarded.is_empty(), lanes.contains(&PRECISION), "{lanes:?}: {forwarded:?}");
    }
}

#[test]
fn workers_that_read_a_mixed_source_themselves_and_are_killed_lose_and_repeat_nothing() {
    let shop = direct(&[PRECISION, THROUGHPUT]);
    let mut account = Checker::new();
    let mut workers = ["precision-worker", "throughput-worker"].map(|name| shop.start(name, 0));
    let answers = || ["scores.orders", "scores.clicks"].map(|topic| shop.committed(topic));
    for _ in 0..3 {
        let before = answers();
        std::thread::scope(|scope| {
            let events = scope.spawn(|| (0..10).for_each(|_| shop.produce(&mixed(300), &mut account)));
            let more = || answers().iter().zip(before).all(|(now, before)| *now > before).then_some(());
            let answered = wait::until(Duration::from_secs(60), more);
            for worker in &mut workers {
                worker.kill();
            }
            events.join().expect("events are produced");
            assert!(answered.is_some(), "no answers before the kill");
        });
        assert!(!account.is_complete(), "nothing was left to answer");
        workers = ["precision-worker", "throughput-worker"].map(|name| shop.start(name, 0));
    }
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}");
}

#[test]
fn an_answer_says_what_the_model_says_and_keeps_key_headers_and_partition() {
    let shop = Shop::open();
    let mut account = Checker::new();
    let mut event = review(2);
    event.key = None;
    shop.produce(&[event], &mut account);
    let _precision = shop.start("precision-worker", 0);
    assert!(shop.verdict(&mut account).is_clean());
    let mut answers = Vec::new();
    client::read_to_end(shop.bootstrap(), &shop.topic("scores.reviews"), |record| {
        assert_eq!(
            (record.partition(), record.key()),
            (2, None),
            "an event without a key keeps its partition"
        );
        assert_eq!(record.header("tenant"), Some(&b"a"[..]), "the event's own headers come along");
        answers.push(
            serde_json::from_slice::<serde_json::Value>(record.value().expect("a value")).expect("JSON"),
        );
    })
    .expect("reads");
    // y = x · [1, 2, 3] + 0.5 with x = [2 stars, helpful, seconds since the epoch].
    let expected = 2.0 + 2.0 + 3.0 * 1_769_857_200.0 + 0.5;
    let found = answers[0]["outputs"]["stars"].as_f64().expect("a number");
    assert!((found - expected).abs() / expected < 1e-6, "{found} against {expected}");
    assert_eq!(answers[0]["carried"]["id"], 2);
    assert_eq!(answers[0]["device"], "cpu");
    assert_eq!(answers[0]["variant"], "full");
}
