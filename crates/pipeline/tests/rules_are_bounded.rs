//! No rule keeps its lane from other events: what its macros may walk through for one event is bounded.

use twinlane_pipeline::{Plan, RuleSet};
use twinlane_record::{Reason, Rejection, Value};

const FILE: &str = "
pipeline: shop
sources: { events: { topic: e, {format} } }
routes:
  - { from: events, when: '{rule}', skip: matched }
  - { from: events, task: t, lane: precision }
tasks:
  t:
    models: { full: m.onnx }
    inputs: { x: { field: items, missing: 0 } }
    outputs: { y: { tensor: y, kind: number } }
    publish: { topic: s, format: json }
lanes: { precision: { model: full, device: [cpu], max_batch: 1 } }
dead_letters: { topic: d }
";

/// Whether a rule matches an event whose field `items` is this, or why it failed; as a rule for JSON and, with a
/// schema that has the field, for Avro.
fn matches(rule: &str, items: Vec<Value>) -> Result<bool, Rejection> {
    let mut answers = ["format: json", "format: avro, schemas: [order]"].map(|format| {
        let text = FILE.replace("{format}", format).replace("{rule}", rule);
        let plan = Plan::parse(&text, "shop.yaml").expect("a sound file");
        let rules = RuleSet::compile(&plan, 0, &|_| Some(vec!["items".to_owned()])).expect("a sound rule");
        let event = Value::Record(vec![("items".into(), Value::List(items.clone()))]);
        rules.route(Some("order"), &mut || Ok(event.clone()), None).map(|route| route == 0)
    });
    assert_eq!(answers[0], answers[1], "{rule}");
    std::mem::replace(&mut answers[0], Ok(false))
}

fn fails(rule: &str, items: Vec<Value>) {
    let rejection = matches(rule, items).expect_err(rule);
    assert_eq!(rejection.reason, Reason::RuleFailed, "{rejection}");
    assert!(rejection.detail.contains("walks through more than 50000 items"), "{rejection}");
}

#[test]
fn macros_within_each_other_fail_when_they_multiply_too_far() {
    let list = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]";
    let nested = |depth: usize, list: &str| {
        (0..depth).fold("true".to_owned(), |within, at| format!("{list}.all(v{at}, {within})"))
    };
    assert_eq!(matches(&nested(3, list), vec![]), Ok(true));
    // 10^12 steps, and 1000^3.
    fails(&nested(12, list), vec![]);
    fails(&nested(3, "event.items"), vec![Value::Int(1); 1000]);
}

#[test]
fn macros_after_each_other_fail_when_they_double_too_often() {
    for (first, double) in
        [(r#"["12345678"]"#, "x + x"), ("[[1]]", "[x, x]"), ("[[1]]", r#"{"a": x, "b": x}"#)]
    {
        let chain =
            |length: usize| format!("{first}{}.size() == 1", format!(".map(x, {double})").repeat(length));
        assert_eq!(matches(&chain(5), vec![]), Ok(true), "{double}");
        fails(&chain(50), vec![]);
    }
}

#[test]
fn lists_as_long_as_a_record_holds_are_walked_through() {
    let items: Vec<Value> = (0..20_000).map(Value::Int).collect();
    assert_eq!(matches("event.items.exists(i, i == 19999)", items.clone()), Ok(true));
    assert_eq!(matches("event.items.filter(i, i > 9).map(i, i + 1).size() == 19990", items), Ok(true));
}

#[test]
fn a_chain_that_is_longer_than_the_stack_is_refused() {
    let refused = |rule: &str| {
        let text = FILE.replace("{format}", "format: json").replace("{rule}", rule);
        let plan = Plan::parse(&text, "shop.yaml").expect("a sound file");
        RuleSet::compile(&plan, 0, &|_| None).err().map(|error| error.to_string()).unwrap_or_default()
    };
    for (first, link, last) in
        [("1", " + 1", " > 0"), ("event", ".a", " == 1"), ("[1]", ".map(x, x)", " == [1]")]
    {
        let chain = |length: usize| format!("{first}{}{last}", link.repeat(length));
        assert_eq!(refused(&chain(60)), "", "{link}");
        assert!(refused(&chain(3900 / link.len())).contains("more than 150 operators"), "{link}");
        assert!(refused(&chain(100_000)).contains("at most 4000, split it"), "{link}");
    }
}
