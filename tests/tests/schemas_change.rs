//! A schema is upgraded and downgraded while events flow: each event is read as it was written, and one that is written
//! with a schema that a worker does not know is a dead letter, not an end.

use std::{path::Path, time::Duration};

use twinlane_testkit::{
    checker::{Checker, Expected},
    wait,
};
use twinlane_tests::{Event, PARTITIONS, Shop};

const PIPELINE: &str = "
pipeline: {shop}
sources:
  reviews: { topic: {shop}.reviews, format: avro, schemas: [review] }
routes:
  - { from: reviews, task: review, lane: precision }
tasks:
  review:
    models: { full: '{models}/linear.onnx' }
    inputs:
      x: { columns: [a, b, b] }
    outputs:
      stars: { tensor: y, kind: number }
    publish: { topic: {shop}.scores.reviews, format: json, carry: [id], partitions: 3 }
lanes:
  precision: { model: full, device: [cpu], max_batch: 8, partitions: 3, model_threads: 1 }
dead_letters: { topic: {shop}.dead-letters, partitions: 3 }
";

const V1: &str = r#"{ "type": "record", "name": "review", "fields": [
  { "name": "id", "type": "int" }, { "name": "a", "type": "int" }, { "name": "b", "type": "double" } ] }"#;
/// Another order, a wider type, and a field that the first version lacks.
const V2: &str = r#"{ "type": "record", "name": "review", "fields": [
  { "name": "b", "type": "double" }, { "name": "c", "type": ["null", "double"], "default": null },
  { "name": "id", "type": "long" }, { "name": "a", "type": "long" } ] }"#;

fn schemas(folder: &Path, versions: &[&str]) -> String {
    std::fs::create_dir_all(folder).expect("created");
    let mut index = Vec::new();
    for (at, text) in versions.iter().enumerate() {
        let number = at + 1;
        std::fs::write(folder.join(format!("review.v{number}.avsc")), text).expect("written");
        index.push(format!(
            r#"{{ "id": {number}, "subject": "review", "version": {number}, "file": "review.v{number}.avsc" }}"#
        ));
    }
    std::fs::write(folder.join("index.json"), format!("[{}]", index.join(","))).expect("written");
    format!("schemas = \"{}\"\n", folder.display())
}

/// Avro's whole numbers: zigzag, seven bits a byte.
fn long(number: i64) -> Vec<u8> {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

fn double(number: f64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn written(version: u8, id: u32) -> Vec<u8> {
    let (whole, half) = (i64::from(id % 100), 0.5);
    let id = long(i64::from(id));
    let fields = match version {
        1 => vec![id, long(whole), double(half)],
        _ => vec![double(half), [long(1), double(2.0)].concat(), id, long(whole)],
    };
    [vec![0, 0, 0, 0, version], fields.concat()].concat()
}

fn event(version: u8, id: u32, reason: Option<&'static str>) -> Event {
    Event {
        id,
        source: "reviews",
        partition: id as i32 % PARTITIONS,
        key: None,
        value: Some(written(version, id)),
        expected: if reason.is_some() { Expected::DeadLetter } else { Expected::Answer },
        reason,
    }
}

#[test]
fn events_of_an_upgraded_and_a_downgraded_schema_are_each_answered_once() {
    let shop = Shop::with_pipeline(PIPELINE);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut account = Checker::new();

    let old = schemas(&folder.path().join("old"), &[V1]);
    let (mut worker, _) = shop.start_with("precision-worker", 0, &old);
    let first: Vec<_> = (0..150).map(|id| event(1, id, None)).collect();
    shop.produce(&first, &mut account);
    // A producer is upgraded before the worker knows the new schema: those events wait as dead letters.
    let early: Vec<_> = (150..160).map(|id| event(2, id, Some("unknown_schema"))).collect();
    shop.produce(&early, &mut account);
    let done = || shop.committed("scores.reviews") == 150 && shop.committed("dead-letters") == 10;
    wait::until(Duration::from_secs(60), || done().then_some(())).expect("answered");
    assert_eq!(worker.stop(Duration::from_secs(5)), Some(0), "{}", worker.output());

    // The pipeline may read the new field once some schema has it; the old one has not, hence `missing`.
    shop.rewrite("[a, b, b]", "[a, b, { field: c, missing: 0 }]");
    let new = schemas(&folder.path().join("new"), &[V1, V2]);
    let (_worker, _) = shop.start_with("precision-worker", 0, &new);
    // One producer goes forward, one goes back.
    let mixed: Vec<_> = (160..400).map(|id| event(if id / 40 % 2 == 0 { 2 } else { 1 }, id, None)).collect();
    shop.produce(&mixed, &mut account);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}");
    assert_eq!((verdict.scored, verdict.dead_lettered), (390, 10));
}
