//! `twinlane explain` finds what became of an event, wherever that stands.

use std::{collections::HashMap, time::Duration};

use serde_json::{Value as Json, json};
use twinlane_testkit::{
    checker::{Checker, Expected},
    client, wait,
};
use twinlane_tests::{Event, PARTITIONS, Shop};

const LIMIT: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(10);

fn event(
    id: u32,
    source: &'static str,
    value: Json,
    expected: Expected,
    reason: Option<&'static str>,
) -> Event {
    Event {
        id,
        source,
        partition: id as i32 % PARTITIONS,
        key: Some(format!("customer-{id}")),
        value: Some(value.to_string().into_bytes()),
        expected,
        reason,
    }
}

/// Event → where the record stands that came of it.
fn by_source(shop: &Shop, topic: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    client::read_to_end(shop.bootstrap(), &shop.topic(topic), |record| {
        let source =
            record.header("twinlane-source").map(|value| String::from_utf8_lossy(value).into_owned());
        let at = format!("{}/{}/{}", record.topic(), record.partition(), record.offset());
        assert_eq!(found.insert(source.expect("written by Twinlane"), at), None);
    })
    .expect("reads");
    found
}

fn explained(shop: &Shop, at: &str, code: i32) -> Json {
    let mut command = shop.twinlane(&["explain", "--json", "PIPELINE", at]);
    let ended = wait::until(LIMIT, || command.process().ended());
    assert!(ended.is_some(), "still running:\n{}", command.output());
    let (ended, said) = (command.stop(STOP), command.output());
    assert_eq!(ended, Some(code), "{at}:\n{said}");
    said.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| panic!("{at}: {said}"))
}

#[test]
fn what_became_of_an_event_is_found_wherever_it_stands() {
    let shop = Shop::open();
    let order = |id| {
        let recent = json!([{ "amount": 10.0, "age_s": 5.0 }]);
        event(id, "events", json!({ "kind": "order", "id": id, "recent": recent }), Expected::Answer, None)
    };
    let review = |id| {
        let value = json!({ "id": id, "stars": 4, "helpful": true, "at": "2026-01-31T12:00:00Z" });
        event(id, "reviews", value, Expected::Answer, None)
    };
    let unheard =
        event(90, "events", json!({ "kind": "unheard of" }), Expected::DeadLetter, Some("no_route"));
    let test = event(91, "events", json!({ "kind": "test" }), Expected::Skip, None);
    let click = event(
        92,
        "events",
        json!({ "kind": "click", "id": 92, "a": 1, "b": 1.5, "c": -2 }),
        Expected::Skip,
        None,
    );
    let mut events: Vec<_> = (0..40).map(order).chain((0..20).map(review)).collect();
    events.extend([unheard, test, click]);
    let mut account = Checker::new();
    shop.produce(&events, &mut account);
    let (first_of_events, first_of_reviews) = (shop.topic("events") + "/0/0", shop.topic("reviews") + "/0/0");

    let nobody = explained(&shop, &first_of_events, 0);
    assert_eq!(nobody["outcome"], "waiting", "no service has run: {nobody}");
    assert_eq!(nobody["routing"]["lane"], "precision", "{nobody}");

    // No throughput worker: the click stays where the router has put it.
    let mut router = shop.start("router", 0);
    let (mut worker, _) = shop.start_with("precision-worker", 0, "timings = true");
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:?}");

    let answers = by_source(&shop, "scores.orders");
    let routed = by_source(&shop, "precision.order-risk");
    assert_eq!(answers.len(), 40);
    let (source, answer) = answers.iter().max().expect("forty");
    // By its own coordinates, and by those of what came of it.
    for at in [source, answer, &routed[source]] {
        let told = explained(&shop, at, 0);
        assert_eq!(told["outcome"], "answered", "{told}");
        assert_eq!((&told["event"], &told["answer"]["at"]), (&json!(source), &json!(answer)), "{told}");
        assert_eq!(told["routed"]["at"], json!(routed[source]), "{told}");
        assert_eq!(told["answer"]["scored_event"]["task"], "order-risk", "{told}");
        assert_eq!(told["routing"]["rule"], "event.kind == \"order\"", "{told}");
        assert!(told["answer"]["timings"].as_str().is_some_and(|t| t.contains("run=")), "{told}");
        let (window, offset) = (&told["answer"]["window"], answer.rsplit('/').next().expect("an offset"));
        let offset: i64 = offset.parse().expect("a number");
        assert!(window[0].as_i64() <= Some(offset) && window[1].as_i64() >= Some(offset), "{told}");
    }

    let direct = explained(&shop, &first_of_reviews, 0);
    assert_eq!((&direct["outcome"], &direct["routed"]), (&json!("answered"), &Json::Null), "{direct}");
    assert_eq!(direct["answer"]["at"], json!(by_source(&shop, "scores.reviews")[&first_of_reviews]));

    let letters = by_source(&shop, "dead-letters");
    let (source, letter) = letters.iter().next().expect("one");
    let dead = explained(&shop, source, 0);
    assert_eq!(dead["outcome"], "dead_lettered", "{dead}");
    assert_eq!(dead["dead_letters"][0]["at"], json!(letter), "{dead}");
    assert_eq!(dead["routing"]["refused"], "no_route", "{dead}");

    let mut outcomes = HashMap::new();
    for (id, kind) in [(91, "skipped"), (92, "waiting")] {
        let at = shop.produced_at(id);
        let told = explained(&shop, &at, 0);
        assert_eq!(told["outcome"], kind, "{told}");
        outcomes.insert(kind, told);
    }
    assert_eq!(outcomes["skipped"]["routing"]["skip"], "test traffic");
    let click = &outcomes["waiting"];
    assert_eq!(click["routed"]["at"], json!(by_source(&shop, "throughput.click")[&shop.produced_at(92)]));
    assert_eq!(click["readers"][0]["reads"], click["routed"]["at"], "{click}");

    assert_eq!(explained(&shop, &(shop.topic("events") + "/0/100000"), 0)["outcome"], "no_event");
    assert_eq!(router.stop(STOP), Some(0), "{}", router.output());
    assert_eq!(worker.stop(STOP), Some(0), "{}", worker.output());

    // As people read it, and what is no event at all.
    let mut text = shop.twinlane(&["explain", "PIPELINE", answer]);
    assert_eq!(text.wait_for_end(LIMIT).expect("ends"), Some(0), "{}", text.output());
    for part in ["routed to", "of its window", "full on cpu", "timings", "outcome       answered"] {
        assert!(text.output().contains(part), "{part} is not in\n{}", text.output());
    }
    for (at, remedy) in [
        ("elsewhere/0/1", "neither reads nor writes"),
        (&*(shop.topic("events") + "/9/1"), "has no partition 9"),
    ] {
        let mut refused = shop.twinlane(&["explain", "PIPELINE", at]);
        assert_eq!(refused.wait_for_end(LIMIT).expect("ends"), Some(2), "{}", refused.output());
        assert!(refused.output().contains(remedy), "{}", refused.output());
    }
}

#[test]
fn what_became_of_an_event_is_found_where_workers_read_a_mixed_topic_themselves() {
    let shop = Shop::open();
    shop.rewrite("precision: { model: full,", "precision: { model: full, direct: true,");
    let order = |id, step: Json, expected, reason| {
        event(id, "events", json!({ "kind": "order", "id": id, "recent": [step] }), expected, reason)
    };
    let click = json!({ "kind": "click", "id": 9, "a": 1, "b": 1.5, "c": -2 });
    let mut account = Checker::new();
    let events = [
        order(0, json!({ "amount": 10.0 }), Expected::Answer, None),
        order(3, json!({ "age_s": 10.0 }), Expected::DeadLetter, Some("missing_field")),
        event(9, "events", click, Expected::Skip, None),
    ];
    shop.produce(&events, &mut account);
    // No router: nobody reads the click.
    let _worker = shop.start("precision-worker", 0);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:?}");

    let answered = explained(&shop, &shop.produced_at(0), 0);
    assert_eq!((&answered["outcome"], &answered["routed"]), (&json!("answered"), &Json::Null), "{answered}");
    let dead = explained(&shop, &shop.produced_at(3), 0);
    assert_eq!(dead["outcome"], "dead_lettered", "{dead}");
    assert_eq!(dead["dead_letters"][0]["dead_letter"]["route"], "events-order-risk", "{dead}");
    let waiting = explained(&shop, &shop.produced_at(9), 0);
    assert_eq!((&waiting["outcome"], &waiting["routed"]), (&json!("waiting"), &Json::Null), "{waiting}");
    let groups = waiting["readers"].as_array().expect("a list").iter();
    let groups: Vec<_> = groups.filter_map(|reader| reader["group"].as_str()).collect();
    assert_eq!(groups, [shop.topic("precision"), shop.topic("router.throughput")]);
}
