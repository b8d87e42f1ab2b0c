//! Events that are older than their task's deadline when a model could begin with them are answered `expired`: the time
//! that they waited in Kafka counts, and their answers do not wait for the model to be free.

use std::{collections::HashMap, time::Duration};

use serde_json::{Value, json};
use twinlane_testkit::{
    checker::{Checker, Expected},
    client,
    process::http_get,
    wait,
};
use twinlane_tests::{Event, PARTITIONS, Shop};

const PATIENCE: Duration = Duration::from_secs(60);
/// A new producer takes part of it, since an event's time is that of its sending, and its connection comes after that.
const DEADLINE_MS: i64 = 2000;
/// In a debug build and beside other tests a turn takes a microsecond at the least.
const SECONDS: f64 = 8e6;

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
    deadline: 2s
    publish: { topic: {shop}.scores.reviews, format: json, carry: [id], partitions: 3 }
lanes:
  precision: { model: full, device: [cpu], max_batch: 8, partitions: 3, model_threads: 1, run_deadline: 600s }
dead_letters: { topic: {shop}.dead-letters, partitions: 3 }
";

fn review(id: u32, partition: i32, turns: f64) -> Event {
    let value = json!({ "id": id, "turns": turns, "b": 0, "c": 1 });
    Event {
        id,
        source: "reviews",
        partition,
        key: None,
        value: Some(value.to_string().into_bytes()),
        expected: Expected::Answer,
        reason: None,
    }
}

/// Answers by the id of their event.
fn answers(shop: &Shop) -> HashMap<u64, Value> {
    let mut answers = HashMap::new();
    client::read_to_end(shop.bootstrap(), &shop.topic("scores.reviews"), |record| {
        let answer: Value = serde_json::from_slice(record.value().expect("has a value")).expect("is JSON");
        answers.insert(answer["carried"]["id"].as_u64().expect("carried"), answer);
    })
    .expect("reads");
    answers
}

fn age_ms(answer: &Value) -> i64 {
    answer["scored_time"].as_i64().expect("a time") - answer["event_time"].as_i64().expect("a time")
}

#[test]
fn an_event_that_is_too_old_is_answered_as_expired_whatever_the_model_is_busy_with() {
    let shop = Shop::with_pipeline(REVIEWS);
    let mut account = Checker::new();
    // They wait in Kafka, because nobody reads yet.
    let early: Vec<_> = (0..12).map(|id| review(id, id as i32 % PARTITIONS, SECONDS)).collect();
    shop.produce(&early, &mut account);
    wait::pause_for(Duration::from_millis(DEADLINE_MS as u64 + 200));
    let (mut worker, admin) = shop.start_with("precision-worker", 0, "");
    let metric = |line: &str| http_get(admin, "/metrics").is_ok_and(|metrics| metrics.contains(line));
    let expired = |count: u32| format!("twinlane_events_expired_total{{stage=\"precision\"}} {count}\n");
    wait::until(PATIENCE, || metric(&expired(12)).then_some(())).expect("they expire without a model run");

    // One event keeps the only model thread busy. What comes after it, on other partitions, waits for that thread, and
    // is answered before it is free.
    shop.produce(&[review(12, 0, SECONDS)], &mut account);
    wait::until(PATIENCE, || metric("twinlane_events_in_total{stage=\"precision\"} 13\n").then_some(()))
        .expect("it is read");
    let behind: Vec<_> = (13..43).map(|id| review(id, 1 + id as i32 % 2, 0.0)).collect();
    shop.produce(&behind, &mut account);
    let known = wait::until(PATIENCE, || Some(answers(&shop)).filter(|known| known.len() >= 42))
        .unwrap_or_else(|| panic!("not answered:\n{}", worker.output()));
    let busy = known.get(&12);
    assert!(busy.is_none(), "its model run is over, so this run shows nothing; it must be longer: {busy:?}");
    assert_eq!(known.len(), 42);
    for (id, answer) in &known {
        assert_eq!(answer["outcome"], "expired", "{id}: {answer}");
        assert_eq!(answer["outputs"], json!({}), "{id}");
        assert!(age_ms(answer) > DEADLINE_MS, "{id} expired too early: {answer}");
    }

    // The run that had begun in time is answered, however long it took. What comes then is scored again.
    wait::until(PATIENCE, || metric("twinlane_events_scored_total{stage=\"precision\"} 1\n").then_some(()))
        .expect("it is scored");
    let late: Vec<_> = (43..46).map(|id| review(id, id as i32 % PARTITIONS, 0.0)).collect();
    shop.produce(&late, &mut account);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}");
    let known = answers(&shop);
    for id in [12, 43, 44, 45] {
        assert_eq!(known[&id]["outcome"], "scored", "{}", known[&id]);
    }
    assert!(age_ms(&known[&12]) > DEADLINE_MS);
    assert_eq!(worker.stop(Duration::from_secs(5)), Some(0), "{}", worker.output());
}
