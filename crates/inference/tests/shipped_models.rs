//! The models of `pipelines/commerce`, filled by their own pipeline file: who else is in a batch does not change a
//! score.

mod support;

use std::{fs, path::PathBuf};

use serde_json::Value as Json;
use support::runtime;
use twinlane_inference::{Answer, Model, ModelSource};
use twinlane_pipeline::{Device, FeatureEncoder, Plan, Row, Task, Variant};
use twinlane_record::{EventDecoder, Output};

/// The largest difference of a score alone and in a batch. Scores are probabilities in f32, and kernels may add up
/// in another order for another batch size. Measured: 1.2e-7, the last bit or two; a mask that does not hold moved
/// scores by 0.2 and more.
const TOLERANCE: f64 = 5e-6;

fn commerce() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/commerce")
}

/// The sample events, each with histories of every length and other amounts.
fn events(samples: &str) -> Vec<Json> {
    let text = fs::read_to_string(commerce().join("samples").join(samples)).expect("samples");
    let samples: Vec<Json> = serde_json::from_str(&text).expect("samples are JSON");
    let mut events = Vec::new();
    for (at, sample) in samples.iter().enumerate() {
        for keep in 0..12_usize {
            let mut event = sample["event"].clone();
            for (name, field) in event.as_object_mut().expect("an event has fields") {
                match field {
                    Json::Array(items) => items.truncate(keep + at),
                    Json::Number(amount) if name == "amount" || name == "dollars" => {
                        let varied = amount.as_f64().expect("a double") * (0.25 + 0.35 * keep as f64);
                        *field = Json::from(varied);
                    }
                    // Milliseconds, which Avro's schema calls a time; JSON writes one as text.
                    field if name == "placed_at" => {
                        *field = format!("2019-06-{:02}T05:{:02}:00Z", 1 + keep, 7 * at).into();
                    }
                    _ => {}
                }
            }
            events.push(event);
        }
    }
    events
}

/// An event that is far from all others in each number, with the longest history.
fn outlier(events: &[Json]) -> Json {
    fn enlarge(value: &mut Json) {
        match value {
            Json::Number(number) if number.is_f64() => {
                *value = Json::from(number.as_f64().expect("a double") * 1e6);
            }
            Json::Array(items) => {
                items.iter_mut().for_each(enlarge);
                let first = items.first().cloned();
                items.extend(first.into_iter().cycle().take(16));
            }
            Json::Object(fields) => fields.values_mut().for_each(enlarge),
            _ => {}
        }
    }
    let mut event = events.last().expect("there are samples").clone();
    enlarge(&mut event);
    event
}

fn rows(task: &Task, events: &[Json], encoder: &FeatureEncoder) -> Vec<Row> {
    let decoder = EventDecoder::json();
    let encode = |event: &Json| {
        let decoded = decoder.decode(event.to_string().as_bytes()).expect("it is JSON");
        encoder.encode(&decoded.value).unwrap_or_else(|why| panic!("{}: {why}", task.name))
    };
    events.iter().map(encode).collect()
}

fn scores(answer: &Answer) -> Vec<f64> {
    let outputs = answer.as_ref().unwrap_or_else(|why| panic!("every row is answered: {why}"));
    outputs
        .iter()
        .flat_map(|(_, output)| match output {
            Output::Number(number) => vec![*number],
            Output::Class { scores, .. } => scores.iter().map(|(_, score)| f64::from(*score)).collect(),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn a_score_is_its_events_own(task: &str, variant: Variant, samples: &str) {
    let file = commerce().join("pipeline.yaml");
    let text = fs::read_to_string(file).expect("the pipeline file");
    let plan = Plan::parse(&text, "pipeline.yaml").expect("the pipeline is sound");
    let task = plan.tasks.iter().find(|t| *t.name == *task).expect("the task is there");
    let encoder = FeatureEncoder::new(task, &|vocabulary| fs::read_to_string(commerce().join(vocabulary)))
        .expect("vocabularies");
    let source = ModelSource {
        task: &task.name,
        path: &commerce().join(&task.models.get(variant).expect("the variant is there").file),
        inputs: encoder.specs(),
        outputs: &task.outputs,
        places: Some(&task.places),
        devices: &[Device::Cpu],
        max_batch: 256,
        parity: None,
        sha256: None,
    };
    let mut model = Model::load(&runtime(), source).expect("it fits its pipeline");

    let mut events = events(samples);
    let strange = outlier(&events);
    // In the middle, so that batches of every size have rows before and after it.
    events.insert(events.len() / 2, strange);
    let rows = rows(task, &events, &encoder);
    let mut run = |rows: &[Row]| -> Vec<Vec<f64>> {
        model.run(rows).expect("the session holds").iter().map(scores).collect()
    };
    let alone: Vec<Vec<f64>> = rows.iter().map(|row| run(std::slice::from_ref(row)).remove(0)).collect();
    let different =
        alone.iter().map(|scores| (scores[0] * 1e4) as i64).collect::<std::collections::HashSet<_>>();
    assert!(different.len() > 10, "the rows are different events: {alone:?}");

    let mut largest = 0.0_f64;
    for size in [2, 5, 16, rows.len()] {
        for (batch, alone) in rows.chunks(size).zip(alone.chunks(size)) {
            for (together, alone) in run(batch).iter().zip(alone) {
                for (together, alone) in together.iter().zip(alone) {
                    largest = largest.max((together - alone).abs());
                }
            }
        }
    }
    println!("{} {}: {largest:e}", task.name, variant.as_str());
    assert!(largest <= TOLERANCE, "{} {}: {largest:e}", task.name, variant.as_str());
}

#[test]
fn the_full_order_model_scores_an_event_the_same_in_any_company() {
    a_score_is_its_events_own("order-risk", Variant::Full, "orders.json");
}

#[test]
fn the_distilled_order_model_scores_an_event_the_same_in_any_company() {
    a_score_is_its_events_own("order-risk", Variant::Distilled, "orders.json");
}

#[test]
fn the_full_purchase_model_scores_an_event_the_same_in_any_company() {
    a_score_is_its_events_own("repeat-purchase", Variant::Full, "purchases.json");
}

#[test]
fn the_distilled_purchase_model_scores_an_event_the_same_in_any_company() {
    a_score_is_its_events_own("repeat-purchase", Variant::Distilled, "purchases.json");
}
