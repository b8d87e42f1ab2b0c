//! Dead letters come back: listed, shown, and sent again once each, whatever happens to the command meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value as Json, json};
use twinlane_testkit::{
    Service,
    checker::{Checker, Expected},
    client, wait,
};
use twinlane_tests::{Event, PARTITIONS, Shop, lone_broker};

/// A command that reads and sends a few thousand records, on a machine that runs other tests too.
const LIMIT: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(10);

/// An event of a kind that no route knows; repaired, it is a click.
fn unheard(id: u32) -> Event {
    let value = json!({ "kind": "unheard of", "id": id, "a": id % 5, "b": 1.5, "c": -2 });
    event(id, value.to_string().into_bytes(), "no_route")
}

fn event(id: u32, value: Vec<u8>, reason: &'static str) -> Event {
    Event {
        id,
        source: "events",
        partition: (id as i32) % PARTITIONS,
        key: (!id.is_multiple_of(7)).then(|| format!("customer-{}", id % 50)),
        value: Some(value),
        expected: Expected::DeadLetter,
        reason: Some(reason),
    }
}

/// Runs a command to its end and gives its exit code with what it said.
fn run(shop: &Shop, words: &[&str]) -> (Option<i32>, String) {
    ended(shop.twinlane(words))
}

fn ended(mut command: Service) -> (Option<i32>, String) {
    let ended = wait::until(LIMIT, || command.process().ended());
    assert!(ended.is_some(), "still running:\n{}", command.output());
    (command.stop(STOP), command.output())
}

/// As [`run`], of a command that must succeed.
fn said(shop: &Shop, words: &[&str]) -> String {
    let (code, said) = run(shop, words);
    assert_eq!(code, Some(0), "{words:?}:\n{said}");
    said
}

fn redrive(shop: &Shop, flags: &[&str]) -> String {
    said(shop, &[&["dead-letters", "redrive", "--yes", "PIPELINE"], flags].concat())
}

fn wait_for(shop: &Shop, topic: &str, count: usize) {
    let reached = wait::until(LIMIT, || (shop.committed(topic) >= count).then_some(()));
    assert!(reached.is_some(), "{} has {} of {count} records", topic, shop.committed(topic));
    assert_eq!(shop.committed(topic), count, "{topic}");
}

/// How many dead letters the topic of the redriven names; it names the latest run, too.
fn entries(shop: &Shop) -> usize {
    let mut count = 0;
    client::read_to_end(shop.bootstrap(), &shop.topic("redriven"), |record| {
        count += usize::from(record.key().is_some_and(|key| key.contains(&b'/')));
    })
    .expect("reads");
    count
}

/// Lets the router refuse these events, and ends it, so that nothing answers while a test counts.
fn let_die(shop: &Shop, events: &[Event]) {
    shop.produce(events, &mut Checker::new());
    let mut router = shop.start("router", 0);
    wait_for(shop, "dead-letters", events.len());
    assert_eq!(router.stop(STOP), Some(0), "{}", router.output());
}

/// A record, as far as a redriven one must be equal to it.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    partition: i32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    tenant: Option<Vec<u8>>,
    time_ms: Option<i64>,
}

#[derive(Default)]
struct SourceTopic {
    all: BTreeMap<String, Kept>,
    /// Coordinates of the dead letter → coordinates of each event that was sent for it.
    redriven: BTreeMap<String, Vec<String>>,
}

impl SourceTopic {
    fn read(shop: &Shop) -> Self {
        let mut read = Self::default();
        client::read_to_end(shop.bootstrap(), &shop.topic("events"), |record| {
            let at = format!("{}/{}/{}", record.topic(), record.partition(), record.offset());
            if let Some(from) = text(record, "twinlane-redriven-from") {
                read.redriven.entry(from).or_default().push(at.clone());
            }
            let kept = Kept {
                partition: record.partition(),
                key: record.key().map(<[u8]>::to_vec),
                value: record.value().map(<[u8]>::to_vec),
                tenant: record.header("tenant").map(<[u8]>::to_vec),
                time_ms: record.time_ms(),
            };
            read.all.insert(at, kept);
        })
        .expect("reads");
        read
    }

    /// Every dead letter was sent `count` times in all, none twice, each equal to the event that died.
    fn check(&self, shop: &Shop, count: usize) {
        let twice: Vec<_> = self.redriven.iter().filter(|(_, sent)| sent.len() > 1).collect();
        assert!(twice.is_empty(), "sent twice: {twice:?}");
        assert_eq!(self.redriven.len(), count, "dead letters that were sent");
        let mut sources = BTreeMap::new();
        client::read_to_end(shop.bootstrap(), &shop.topic("dead-letters"), |record| {
            let at = format!("{}/{}/{}", record.topic(), record.partition(), record.offset());
            sources.insert(at, text(record, "twinlane-source").expect("a source"));
        })
        .expect("reads");
        for (letter, sent) in &self.redriven {
            assert_eq!(self.all[&sent[0]], self.all[&sources[letter]], "{letter}");
        }
    }
}

fn text(record: &client::Record<'_>, header: &str) -> Option<String> {
    record.header(header).map(|value| String::from_utf8_lossy(value).into_owned())
}

/// What the README tells a reader to type when events die, for the shop and a dead letter of it.
fn commands_of_the_readme(at: &str) -> Vec<String> {
    let readme = include_str!("../../README.md");
    let section = readme.split("## When events die").nth(1).and_then(|rest| rest.split("\n## ").next());
    let lines = section.expect("the README has the section").lines();
    let commands = lines.filter_map(|line| line.strip_prefix("twinlane "));
    commands
        .map(|c| c.replace("pipelines/commerce", "PIPELINE").replace("commerce.dead-letters/2/17", at))
        .collect()
}

fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}

#[test]
fn what_died_is_listed_and_shown_and_after_a_repair_answered_once() {
    let shop = Shop::open();
    let mut account = Checker::new();
    let mut events: Vec<_> = (0..30).map(unheard).collect();
    events.extend((30..40).map(|id| event(id, b"{ not json".to_vec(), "malformed_payload")));
    shop.produce(&events, &mut account);
    let mut router = shop.start("router", 0);
    let _worker = shop.start("throughput-worker", 0);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}");

    let list = said(&shop, &["dead-letters", "list", "PIPELINE"]);
    assert!(list.contains("40 dead letters, 0 of them redriven"), "{list}");
    assert!(list.contains("      30  no_route") && list.contains("      10  malformed_payload"), "{list}");
    let list = said(&shop, &["dead-letters", "list", "PIPELINE", "--reason", "no_route", "--json"]);
    let letters: Vec<Json> = list.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(letters.len(), 30);
    let first = letters.iter().find(|letter| letter["value"].to_string().contains("\\\"id\\\":3,"));
    let first = first.expect("event 3 died");
    assert_eq!((&first["key"], &first["headers"]), (&json!("customer-3"), &json!({ "tenant": "a" })));
    let none = said(&shop, &["dead-letters", "list", "PIPELINE", "--until", "1h"]);
    assert!(none.contains("0 dead letters"), "{none}");

    let at = first["at"].as_str().expect("coordinates");
    let shown = said(&shop, &["dead-letters", "show", "PIPELINE", at]);
    for part in ["reason        no_route", "deaths        1", "redriven      no", "tenant: a", "\"id\":3,"] {
        assert!(shown.contains(part), "`{part}` is missing:\n{shown}");
    }
    let absent = format!("{}/0/99999", shop.topic("dead-letters"));
    let (code, refused) = run(&shop, &["dead-letters", "show", "PIPELINE", &absent]);
    assert!(code == Some(2) && refused.contains("there is no record at"), "{refused}");

    let looked = said(&shop, &["dead-letters", "redrive", "--dry-run", "PIPELINE"]);
    assert!(looked.contains("40 dead letters would be redriven"), "{looked}");
    let (code, refused) = run(&shop, &["dead-letters", "redrive", "PIPELINE"]);
    assert!(code == Some(2) && refused.contains("say --yes"), "{code:?} {refused}");
    assert_eq!((shop.committed("events"), entries(&shop)), (40, 0), "nothing was sent");

    assert_eq!(router.stop(STOP), Some(0), "{}", router.output());
    shop.rewrite(r#"event.kind == "click""#, r#"event.kind in ["click", "unheard of"]"#);
    let mut router = shop.start("router", 0);
    let told: Vec<_> =
        commands_of_the_readme(at).iter().map(|command| said(&shop, &words(command))).collect();
    let [listed, shown, looked, sent] = &told[..] else { panic!("four commands, not {told:#?}") };
    assert!(listed.contains("40 dead letters, 0 of them redriven") && shown.contains(at), "{listed}{shown}");
    assert!(looked.contains("30 dead letters would be redriven"), "{looked}");
    assert!(sent.contains("30 dead letters redriven"), "{sent}");
    wait_for(&shop, "scores.clicks", 30);
    assert_eq!(router.stop(STOP), Some(0), "{}", router.output());

    let again = redrive(&shop, &["--reason", "no_route"]);
    assert!(again.contains("0 dead letters redriven") && again.contains("30  sent before"), "{again}");
    let overlapping = redrive(&shop, &["--since", "1h", "--limit", "4"]);
    assert!(overlapping.contains("4 dead letters redriven"), "{overlapping}");
    let rest = redrive(&shop, &[]);
    assert!(rest.contains("6 dead letters redriven") && rest.contains("34  sent before"), "{rest}");
    SourceTopic::read(&shop).check(&shop, 40);
    let shown = said(&shop, &["dead-letters", "show", "PIPELINE", at]);
    assert!(shown.contains(&format!("Z, to {}/0", shop.topic("events"))), "{shown}");

    let mut answered = BTreeSet::new();
    client::read_to_end(shop.bootstrap(), &shop.topic("scores.clicks"), |record| {
        let answer: Json = serde_json::from_slice(record.value().expect("a value")).expect("JSON");
        assert!(answered.insert(answer["carried"]["id"].as_u64().expect("an id")), "answered twice");
        assert_eq!(text(record, "tenant").as_deref(), Some("a"));
    })
    .expect("reads");
    assert_eq!(answered, (0..30).collect());
}

#[test]
fn an_event_that_dies_again_carries_its_count_and_stops_at_the_limit() {
    let shop = Shop::open();
    shop.produce(&(0..6).map(unheard).collect::<Vec<_>>(), &mut Checker::new());
    let _router = shop.start("router", 0);
    for (deaths, left) in [(1, ""), (2, "6  sent before"), (3, "12  sent before")] {
        wait_for(&shop, "dead-letters", 6 * deaths);
        let flags: &[&str] = if deaths == 3 { &["--limit-deaths", "4", "--dry-run"] } else { &[] };
        let sent = redrive(&shop, flags);
        assert!(sent.contains("6 dead letters ") && sent.contains(left), "{sent}");
    }
    let refused = redrive(&shop, &[]);
    assert!(
        refused.contains("0 dead letters redriven") && refused.contains("6  died too often"),
        "{refused}"
    );
    assert_eq!(shop.committed("dead-letters"), 18, "nothing was sent again");
    let mut counts = Vec::new();
    client::read_to_end(shop.bootstrap(), &shop.topic("dead-letters"), |record| {
        counts.push(text(record, "twinlane-dead-count").expect("a count"));
    })
    .expect("reads");
    counts.sort_unstable();
    assert_eq!(counts.concat(), "111111222222333333");
}

#[test]
fn a_redrive_that_is_stopped_or_killed_half_way_and_run_again_sends_each_once() {
    const EVENTS: usize = 3_000;
    let shop = Shop::open();
    // All of them die, which otherwise holds their partitions.
    shop.rewrite(
        "dead-letters, partitions: 3 }",
        "dead-letters, partitions: 3, limit: { consecutive: 3000, ratio: 1 } }",
    );
    let_die(&shop, &(0..EVENTS as u32).map(unheard).collect::<Vec<_>>());
    let start = || shop.twinlane(&["dead-letters", "redrive", "--yes", "PIPELINE", "--per-transaction", "2"]);
    let on_its_way = |from: usize| {
        let sent = wait::until(LIMIT, || Some(entries(&shop)).filter(|&sent| sent > from));
        sent.unwrap_or_else(|| panic!("no progress from {from}"))
    };
    let mut stopped = start();
    on_its_way(0);
    assert_eq!(stopped.stop(LIMIT), Some(130), "{}", stopped.output());
    let told = stopped.output();
    let sent = entries(&shop);
    assert!(told.contains(&format!("{sent} dead letters redriven; stopped, run it again")), "{told}");
    let mut kills = 0;
    let mut sent = sent;
    while kills < 4 && sent + 600 < EVENTS {
        let mut killed = start();
        sent = on_its_way(sent + 200);
        killed.kill();
        kills += 1;
    }
    sent = entries(&shop);
    assert!(kills > 0 && sent < EVENTS, "{kills} kills, {sent} sent");
    let rest = redrive(&shop, &[]);
    let left = EVENTS - shop_count(&rest, "sent before");
    assert!(rest.contains(&format!("{left} dead letters redriven")), "{rest}");
    println!("{kills} kills; the last run sent {left} of {EVENTS}");
    SourceTopic::read(&shop).check(&shop, EVENTS);
    assert_eq!((entries(&shop), shop.committed("events")), (EVENTS, 2 * EVENTS));
}

/// The number before `what` in the end of a run.
fn shop_count(said: &str, what: &str) -> usize {
    let line = said.lines().find(|line| line.contains(what)).unwrap_or("0");
    line.split_whitespace().next().and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[test]
fn a_second_redrive_goes_on_and_the_first_ends_even_if_it_slept_meanwhile() {
    const EVENTS: usize = 2_000;
    let shop = Shop::open();
    let_die(&shop, &(0..EVENTS as u32).map(unheard).collect::<Vec<_>>());
    let mut first =
        shop.twinlane(&["dead-letters", "redrive", "--yes", "PIPELINE", "--per-transaction", "1"]);
    wait::until(LIMIT, || (entries(&shop) > 0).then_some(())).expect("it sends");
    first.process().freeze();
    let sent = entries(&shop);
    assert!(sent < EVENTS, "it was done before it slept");
    let second = redrive(&shop, &[]);
    assert!(second.contains(&format!("{sent}  sent before")), "{sent}: {second}");
    println!("the first had sent {sent} of {EVENTS} when it slept");
    first.process().thaw();
    let (code, told) = ended(first);
    assert_eq!(code, Some(5), "{told}");
    assert!(told.contains("the same command was begun again"), "{told}");
    SourceTopic::read(&shop).check(&shop, EVENTS);
}

#[test]
fn a_redrive_outlives_a_broker_that_goes_away_and_comes_back() {
    const EVENTS: usize = 400;
    let mut broker = lone_broker();
    let shop = Shop::open_at(broker.bootstrap());
    let_die(&shop, &(0..EVENTS as u32).map(unheard).collect::<Vec<_>>());
    let redrive = shop.twinlane(&["dead-letters", "redrive", "--yes", "PIPELINE", "--per-transaction", "1"]);
    wait::until(LIMIT, || (entries(&shop) > 0).then_some(())).expect("it sends");
    broker.kill_node(0);
    broker.restart_node(0).expect("it comes back");
    let (code, told) = ended(redrive);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&format!("{EVENTS} dead letters redriven")), "{told}");
    println!("{told}");
    SourceTopic::read(&shop).check(&shop, EVENTS);
}

#[test]
fn an_event_that_goes_straight_to_its_lane_keeps_its_coordinates() {
    let shop = Shop::open();
    let click = |id: u32| {
        let value = json!({ "kind": "click", "id": id, "b": 1.5, "c": -2 });
        event(id, value.to_string().into_bytes(), "missing_field")
    };
    shop.produce(&(0..12).map(click).collect::<Vec<_>>(), &mut Checker::new());
    let _router = shop.start("router", 0);
    let mut worker = shop.start("throughput-worker", 0);
    wait_for(&shop, "dead-letters", 12);
    assert_eq!(worker.stop(STOP), Some(0), "{}", worker.output());
    shop.rewrite("columns: [a, b, c]", "columns: [{ field: a, missing: 0 }, b, c]");
    let _worker = shop.start("throughput-worker", 0);

    let listed = said(&shop, &["dead-letters", "list", "PIPELINE", "--task", "click", "--json"]);
    let letter: Json = serde_json::from_str(listed.lines().next().expect("a line")).expect("JSON");
    let digest = letter["dead_letter"]["model_digest"].as_str().expect("a digest");
    let other = redrive(&shop, &["--to", "lane", "--model-digest", "0000-other"]);
    assert!(other.contains("0 dead letters redriven"), "{other}");
    let sent = redrive(&shop, &["--to", "lane", "--model-digest", &digest[..8]]);
    assert!(sent.contains("12 dead letters redriven"), "{sent}");
    wait_for(&shop, "scores.clicks", 12);
    assert_eq!(shop.committed("events"), 12, "the source was left alone");
    let sources: BTreeSet<_> = listed
        .lines()
        .map(|line| {
            let source = &serde_json::from_str::<Json>(line).expect("JSON")["dead_letter"]["source"];
            let topic = source["topic"].as_str().unwrap_or_default();
            format!("{topic}/{}/{}", source["partition"], source["offset"])
        })
        .collect();
    let mut answered = BTreeSet::new();
    client::read_to_end(shop.bootstrap(), &shop.topic("scores.clicks"), |record| {
        let answer: Json = serde_json::from_slice(record.value().expect("a value")).expect("JSON");
        let id = answer["event_id"].as_str().expect("an id").to_owned();
        assert_eq!(text(record, "twinlane-source").as_ref(), Some(&id));
        assert!(answered.insert(id), "answered twice");
    })
    .expect("reads");
    assert_eq!(answered, sources);
}

#[test]
fn a_dead_letter_without_its_value_is_left_and_counted() {
    let shop = Shop::open();
    let settings = [("max.message.bytes", "20000")];
    client::create_topic(shop.bootstrap(), &shop.topic("dead-letters"), PARTITIONS, &settings)
        .expect("created");
    let large = json!({ "kind": "unheard of", "id": 1, "blob": "x".repeat(50_000) }).to_string();
    let_die(&shop, &[unheard(0), event(1, large.into_bytes(), "no_route")]);
    let list = said(&shop, &["dead-letters", "list", "PIPELINE"]);
    assert!(list.contains("  cannot  ") && list.contains("2 dead letters"), "{list}");
    let sent = redrive(&shop, &[]);
    assert!(sent.contains("1 dead letter redriven") && sent.contains("1  truncated"), "{sent}");
    assert_eq!(shop.committed("events"), 3);
}
