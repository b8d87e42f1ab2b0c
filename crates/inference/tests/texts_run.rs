//! A text from an event's field to a score: tokenized, padded to the longest of the batch, run.

mod support;

use std::{fs, path::Path};

use support::{path, runtime};
use twinlane_inference::{Model, ModelSource};
use twinlane_pipeline::{Device, FeatureEncoder, Plan, Row};
use twinlane_record::{Output, Value};

const PIPELINE: &str = "\
pipeline: shop
sources: { reviews: { topic: r, format: json } }
routes: [{ from: reviews, task: words, lane: precision }]
tasks:
  words:
    models: { full: words.onnx }
    inputs:
      ids: { text: body, tokenizer: words.tokenizer.json, max_tokens: 16, mask: mask }
    outputs: { verdict: { tensor: logits, kind: class, apply: softmax, labels: [bad, good] } }
    publish: { topic: s, format: json }
lanes: { precision: { model: full, device: [cpu], max_batch: 8 } }
dead_letters: { topic: d }
";

#[test]
fn a_text_has_the_same_score_alone_and_beside_longer_ones() {
    let plan = Plan::parse(PIPELINE, "shop.yaml").unwrap();
    let task = &plan.tasks[0];
    let tokenizers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipeline/tests");
    let encoder = FeatureEncoder::new(task, &|file| fs::read_to_string(tokenizers.join(file))).unwrap();
    let source = ModelSource {
        task: &task.name,
        path: &path("words"),
        inputs: encoder.specs(),
        outputs: &task.outputs,
        places: Some(&task.places),
        devices: &[Device::Cpu],
        max_batch: 8,
        parity: None,
        sha256: None,
    };
    let mut model = Model::load(&runtime(), source).unwrap();
    model.warm_up().unwrap();
    let row = |text: &str| -> Row {
        let event = Value::Record(vec![("body".into(), Value::Text(text.into()))]);
        encoder.encode(&event).unwrap()
    };
    let texts = ["good phones", "dull", "", "good good good good good good phone . dull dull"];
    let rows: Vec<Row> = texts.map(row).into();
    let together = model.run(&rows).unwrap();
    for (text, (row, answer)) in texts.iter().zip(rows.iter().zip(&together)) {
        assert_eq!(&model.run(std::slice::from_ref(row)).unwrap()[0], answer, "`{text}`");
    }
    // 9 and 9 for the mark at the beginning cancel out; `good phones` weighs 2.75 for good, `dull` 1 for bad.
    let good = |at: usize| match together[at].as_deref() {
        Ok([(_, Output::Class { scores, .. })]) => f64::from(scores[1].1),
        other => panic!("{other:?}"),
    };
    let sigmoid = |logit: f64| 1.0 / (1.0 + (-logit).exp());
    for (at, logit) in [(0, 2.75), (1, -1.0), (2, 0.0)] {
        assert!((good(at) - sigmoid(logit)).abs() < 1e-6, "{} for `{}`", good(at), texts[at]);
    }
}
