//! Routing rules: any CEL text, compiled against the shipped schemas and for JSON, and tried on events.

use std::sync::LazyLock;

use twinlane_pipeline::{Place, Plan, Rule, RuleSet};
use twinlane_record::Value;

use crate::{
    shipped::{SHIPPED, fields},
    split,
};

/// Two sources, whose first routes get the rule at hand.
const FILE: &str = "
pipeline: fuzz
sources:
  avro: { topic: avro.events, format: avro, schemas: [order, purchase] }
  json: { topic: json.events, format: json }
routes:
  - { from: avro, when: 'true', task: t, lane: precision }
  - { from: avro, skip: the rest }
  - { from: json, when: 'true', task: t, lane: precision }
  - { from: json, skip: the rest }
tasks:
  t:
    models: { full: t.onnx }
    inputs: { x: { field: test, as: boolean } }
    outputs: { y: { tensor: y, kind: number } }
    publish: { topic: answers, format: json }
lanes:
  precision: { model: full, device: [cpu], max_batch: 1 }
dead_letters: { topic: dead-letters }
";
const AVRO: usize = 0;
const JSON: usize = 1;

static PLAN: LazyLock<Plan> =
    LazyLock::new(|| Plan::parse(FILE, "fuzz.yaml").expect("the file above is valid"));
static SAMPLES: LazyLock<[Value; 4]> = LazyLock::new(|| {
    let decoded = |payload: &[u8]| SHIPPED.avro.decode(payload).expect("a sample decodes").value;
    [
        decoded(include_bytes!("samples/order")),
        decoded(include_bytes!("samples/order-extreme")),
        decoded(include_bytes!("samples/purchase")),
        decoded(include_bytes!("samples/purchase-first")),
    ]
});

/// Two orders and two purchases; the second order has the most extreme numbers that its schema allows.
pub(crate) fn samples() -> impl Iterator<Item = &'static Value> {
    SAMPLES.iter()
}

/// A rule's text, and a JSON event that it is tried on.
pub fn cel_rule(data: &[u8]) {
    let (rule, event) = split(data);
    let Ok(rule) = std::str::from_utf8(rule) else { return };
    let event = event.and_then(|event| SHIPPED.json.decode(event).ok());
    let event = event.map_or(Value::Record(Vec::new()), |event| event.value);
    if let Some(rules) = compiled(rule, AVRO) {
        for (schema, sample) in [("order", 1), ("purchase", 2)] {
            tried(&rules, Some(schema), &SAMPLES[sample]);
        }
    }
    if let Some(rules) = compiled(rule, JSON) {
        tried(&rules, None, &event);
    }
}

fn compiled(rule: &str, source: usize) -> Option<RuleSet> {
    let mut plan = PLAN.clone();
    let place = Place { file: "fuzz.yaml".into(), line: 1, column: 1 };
    let route = plan.routes.iter_mut().find(|route| route.source == source)?;
    route.when = Some(Rule { text: rule.to_owned(), place });
    match RuleSet::compile(&plan, source, &|name| fields(&SHIPPED.schemas, name)) {
        Ok(rules) => Some(rules),
        Err(error) => {
            assert!(!error.message.is_empty(), "a refusal without words");
            None
        }
    }
}

fn tried(rules: &RuleSet, schema: Option<&str>, event: &Value) {
    let mut decoded = 0;
    let decode = &mut || {
        decoded += 1;
        Ok(event.clone())
    };
    if let Err(rejection) = rules.route(schema, decode, Some(b"key")) {
        assert!(!rejection.detail.is_empty(), "a refusal without words");
    }
    assert!(
        decoded <= usize::from(rules.fields().is_none_or(|fields| !fields.is_empty())),
        "decoded only when a rule looks, and once"
    );
}
