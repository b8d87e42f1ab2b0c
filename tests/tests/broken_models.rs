//! Models that fail, hang or stall cost their own records at most: a topic is never emptied into the dead letters, a hung
//! process ends by itself, and a backlog behind a stalled model does not fill memory.

use std::time::Duration;

use serde_json::json;
use twinlane_testkit::{
    checker::{Checker, Expected},
    process::http_get,
    wait,
};
use twinlane_tests::{Event, PARTITIONS, Shop};

const PATIENCE: Duration = Duration::from_secs(60);

/// One source, read directly by the precision worker: no router is needed. `{lane}` and `{limit}` are for each test.
const REVIEWS: &str = "
pipeline: {shop}
sources:
  reviews: { topic: {shop}.reviews, format: json }
routes:
  - { from: reviews, task: review, lane: precision }
tasks:
  review:
    models: { full: '{models}/slow.onnx' }
    inputs:
      x: { columns: [turns, b, c] }
    outputs:
      stars: { tensor: y, kind: number }
    publish: { topic: {shop}.scores.reviews, format: json, carry: [id], partitions: 3 }
lanes:
  precision: { model: full, device: [cpu], max_batch: 8, partitions: 3, model_threads: 1, {lane} }
dead_letters: { topic: {shop}.dead-letters, partitions: 3, limit: {limit} }
";

fn pipeline(lane: &str, limit: &str) -> String {
    REVIEWS.replace("{lane}", lane).replace("{limit}", limit)
}

fn review(id: u32, value: &serde_json::Value, expected: Expected, reason: Option<&'static str>) -> Event {
    Event {
        id,
        source: "reviews",
        partition: id as i32 % PARTITIONS,
        key: None,
        value: Some(value.to_string().into_bytes()),
        expected,
        reason,
    }
}

fn answered(id: u32, turns: f64) -> Event {
    review(id, &json!({ "id": id, "turns": turns, "b": 0, "c": 1 }), Expected::Answer, None)
}

fn dead(id: u32) -> Event {
    review(id, &json!({ "id": id, "turns": 0, "b": 0 }), Expected::DeadLetter, Some("missing_field"))
}

#[test]
fn a_stage_that_fails_for_everything_stops_instead_of_emptying_its_topic_into_the_dead_letters() {
    let mut shop = Shop::with_pipeline(&pipeline("", "{ consecutive: 50 }"));
    let mut account = Checker::new();
    let good = 30;
    let mut events: Vec<_> = (0..good).map(|id| answered(id, 0.0)).collect();
    events.extend((good..1500).map(dead));
    shop.produce(&events, &mut account);
    let (mut worker, admin) = shop.spawn("precision-worker", 0, shop.bootstrap(), "");
    let held = |count: &str| http_get(admin, "/status").is_ok_and(|status| status.contains(count));
    let all = format!("\"held_partitions\":{PARTITIONS}");
    wait::until(PATIENCE, || held(&all).then_some(()))
        .unwrap_or_else(|| panic!("not held:\n{}", worker.output()));
    let health = http_get(admin, "/health/ready").expect("answers");
    assert!(health.contains("their dead letters are past the limit"), "{health}");
    let metrics = http_get(admin, "/metrics").expect("answers");
    assert!(metrics.contains("twinlane_held_partitions{stage=\"precision\"} 3"), "{metrics}");
    assert!(worker.output().contains("more than the pipeline's"), "{}", worker.output());
    assert_eq!(shop.committed("scores.reviews"), good as usize);
    assert_eq!(shop.committed("dead-letters"), 50 * PARTITIONS as usize, "as many as the limit allows");
    assert_eq!(worker.stop(Duration::from_secs(5)), Some(0), "{}", worker.output());
    assert_eq!(shop.committed("dead-letters"), 50 * PARTITIONS as usize, "trying again diverts no more");

    // Whoever decides that these are to be dead letters gets them, each once.
    shop.change_pipeline(&pipeline("", "{ consecutive: 100000, ratio: 1.0 }"));
    let _again = shop.start("precision-worker", 0);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}");
}

#[test]
fn a_model_that_hangs_ends_the_process_with_its_own_code_and_its_records_are_read_again() {
    let mut shop = Shop::with_pipeline(&pipeline("run_deadline: 300ms", "{}"));
    let mut account = Checker::new();
    // In a debug build and beside other tests a turn takes a microsecond at the least.
    let events: Vec<_> = (0..60).map(|id| answered(id, if id == 30 { 2e6 } else { 0.0 })).collect();
    shop.produce(&events, &mut account);
    let (mut worker, _) = shop.spawn("precision-worker", 0, shop.bootstrap(), "");
    let code = worker.wait_for_end(PATIENCE).expect("it ends by itself");
    assert_eq!(code, Some(8), "{}", worker.output());
    assert!(worker.output().contains("cannot be stopped"), "{}", worker.output());

    shop.change_pipeline(&pipeline("run_deadline: 120s", "{}"));
    let _again = shop.start("precision-worker", 0);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}");
}

/// Resident memory of a process, MiB.
fn resident_mib(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("Linux says so");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") / 1024
}

/// What a worker holds beside its budget: code, models, ONNX Runtime, and what librdkafka has fetched ahead (32 MiB and
/// a fetch of each partition).
const CONSTANT_MIB: usize = 160;

#[test]
fn a_backlog_of_a_million_events_behind_a_stalled_model_does_not_fill_memory() {
    let budget_mib = 64;
    let in_flight = format!("in_flight: {{ records: 1000000, mib: {budget_mib} }}, run_deadline: 600s");
    let shop = Shop::with_pipeline(&pipeline(&in_flight, "{}"));
    shop.produce(&[answered(0, 1e9)], &mut Checker::new());
    let other = json!({ "id": 1, "turns": 0, "b": 0, "c": 1, "note": "x".repeat(60) });
    shop.flood("reviews", &other.to_string(), 1_000_000);
    let mut worker = shop.start("precision-worker", 0);
    let id = worker.process().id();
    // It has read what it may when its memory does not grow any more.
    let (mut most, mut steady) = (0, 0);
    wait::until(PATIENCE, || {
        let now = resident_mib(id);
        steady = if now > most { 0 } else { steady + 1 };
        most = most.max(now);
        (steady >= 50).then_some(())
    });
    println!("{most} MiB resident, of which {budget_mib} MiB are the budget");
    assert!(most <= budget_mib + CONSTANT_MIB, "{most} MiB");
    assert!(most >= budget_mib, "it has not read its budget full: {most} MiB");
    worker.kill();
}
