//! The models that the lanes of `commerce` really run: a score does not depend on who else is in the batch.

use std::path::{Path, PathBuf};

use twinlane_inference::Model;
use twinlane_pipeline::{LaneName, Row, TensorData};
use twinlane_record::{EventDecoder, Output, Value};
use twinlane_service::{LoadedPipeline, Settings, models};

/// Of a probability. The kernels of different batch sizes add up in different orders.
const TOLERANCE: f64 = 1e-5;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rows(pipeline: &LoadedPipeline, task: &str, samples: &str) -> Vec<Row> {
    let task = pipeline.plan.tasks.iter().position(|t| &*t.name == task).expect("a task of commerce");
    let encoder = pipeline.encoder(task).expect("its vocabularies are there");
    let text = std::fs::read(repository().join("pipelines/commerce/samples").join(samples)).expect(samples);
    let samples: Vec<serde_json::Value> = serde_json::from_slice(&text).expect("a list");
    let decoder = EventDecoder::json();
    let encode = |sample: &serde_json::Value| {
        let mut event = decoder.decode(sample["event"].to_string().as_bytes()).expect("an event");
        if let Value::Record(fields) = &mut event.value {
            // What Avro knows to be a time is a number in the samples.
            for (_, value) in fields.iter_mut().filter(|(name, _)| &**name == "placed_at") {
                if let Value::Int(millis) = *value {
                    *value = Value::Timestamp(millis * 1000);
                }
            }
        }
        encoder.encode(&event.value).expect("a row")
    };
    samples.iter().map(encode).collect()
}

/// The same row with numbers far from all that the model has seen.
fn outlier(row: &Row) -> Row {
    let mut row = row.clone();
    for tensor in &mut row.tensors {
        if let TensorData::Real(numbers) = &mut tensor.data {
            numbers.iter_mut().for_each(|number| *number = *number * 1e6 + 1e6);
        }
    }
    row
}

/// Every number of each row's outputs.
fn scores(model: &mut Model, rows: &[Row]) -> Vec<Vec<f64>> {
    let numbers = |output: &Output| match output {
        Output::Class { scores, .. } => scores.iter().map(|score| f64::from(score.1)).collect(),
        Output::Number(number) => vec![*number],
        Output::Vector(vector) => vector.iter().map(|number| f64::from(*number)).collect(),
    };
    let answers = model.run(rows).expect("the model runs");
    answers
        .into_iter()
        .map(|answer| answer.expect("an answer").iter().flat_map(|(_, output)| numbers(output)).collect())
        .collect()
}

#[test]
fn a_score_alone_is_the_score_beside_strangers_and_an_outlier() {
    let pipeline = repository().join("pipelines/commerce/pipeline.yaml");
    let loaded = LoadedPipeline::load(&pipeline, &repository().join("schemas")).expect("commerce is sound");
    for (lane, task, samples) in [
        (LaneName::Precision, "order-risk", "orders.json"),
        (LaneName::Throughput, "repeat-purchase", "purchases.json"),
    ] {
        let mut models = models(&loaded, &Settings::default(), lane, 1).expect("its models fit");
        let mut model = models.remove(0).remove(0);
        let rows = rows(&loaded, task, samples);
        let alone: Vec<_> =
            rows.iter().flat_map(|row| scores(&mut model, std::slice::from_ref(row))).collect();
        assert!(alone.len() >= 4 && alone.windows(2).any(|pair| pair[0] != pair[1]), "{alone:?}");
        let mut batch = rows.clone();
        batch.push(outlier(&rows[0]));
        while batch.len() < 32 {
            batch.extend(rows.clone());
        }
        let together = scores(&mut model, &batch);
        for (alone, together) in alone.iter().zip(&together) {
            for (a, b) in alone.iter().zip(together) {
                assert!((a - b).abs() <= TOLERANCE, "{task}: {a} alone and {b} in a batch");
            }
        }
    }
}
