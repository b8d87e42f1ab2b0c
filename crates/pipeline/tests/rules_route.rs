//! Routing rules: what they see, which are refused when the pipeline is loaded, and what they answer.

use std::sync::Arc;

use twinlane_pipeline::{Plan, RuleSet};
use twinlane_record::{Reason, Rejection, Value};

/// Rules for a source that is JSON or carries the schemas `order` and `purchase`; the last route takes the rest.
fn rules(format: &str, conditions: &[&str]) -> Result<RuleSet, String> {
    let routes: String = conditions
        .iter()
        .map(|when| format!("  - {{ from: events, when: '{}', skip: matched }}\n", when.replace('\'', "''")))
        .collect();
    let text = format!(
        "\
pipeline: shop
sources: {{ events: {{ topic: e, {format} }} }}
routes:
{routes}  - {{ from: events, task: t, lane: precision }}
tasks:
  t:
    models: {{ full: m.onnx }}
    inputs: {{ x: {{ columns: [id] }} }}
    outputs: {{ y: {{ tensor: y, kind: number }} }}
    publish: {{ topic: s, format: json }}
lanes: {{ precision: {{ model: full, device: [cpu], max_batch: 1 }} }}
dead_letters: {{ topic: d }}
"
    );
    let plan = Plan::parse(&text, "shop.yaml").expect("a sound file");
    let fields = |schema: &str| {
        let names: &[&str] = match schema {
            "order" => &["id", "amount", "test"],
            _ => &["id", "units", "test"],
        };
        Some(names.iter().map(|&name| name.to_owned()).collect())
    };
    RuleSet::compile(&plan, 0, &fields).map_err(|error| error.to_string())
}

fn json(conditions: &[&str]) -> Result<RuleSet, String> {
    rules("format: json", conditions)
}

fn avro(conditions: &[&str]) -> Result<RuleSet, String> {
    rules("format: avro, schemas: [order, purchase]", conditions)
}

fn event(fields: &[(&str, Value)]) -> Value {
    Value::Record(fields.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect())
}

/// Whether a rule matches an event, or why it failed.
fn matches(rule: &str, event: &Value) -> Result<bool, Rejection> {
    let rules = json(&[rule]).unwrap_or_else(|why| panic!("{rule}: {why}"));
    rules.route(None, &mut || Ok(event.clone()), Some(b"customer-7")).map(|route| route == 0)
}

#[test]
fn rules_see_fields_of_every_kind() {
    let order = event(&[
        ("amount", Value::Int(5)),
        ("rate", Value::Float(0.5)),
        ("country", Value::Text("NO".into())),
        ("gone", Value::Null),
        ("at", Value::Timestamp(1_769_857_200_000_000)),
        ("tags", Value::List(vec![Value::Text("gift".into())])),
        ("card", event(&[("kind", Value::Text("debit".into()))])),
    ]);
    for (rule, expected) in [
        ("event.amount > 4.5", true),
        ("event.rate < 1", true),
        ("event.country == \"NO\"", true),
        ("event.country in [\"SE\", \"DK\"]", false),
        ("event.country.startsWith(\"N\")", true),
        ("event.gone == null", true),
        ("has(event.absent)", false),
        ("has(event.gone)", true),
        ("event.at > timestamp(\"2026-01-01T00:00:00Z\")", true),
        ("event.tags.exists(tag, tag == \"gift\")", true),
        ("event.card.kind == \"debit\"", true),
        ("event[\"amount\"] == 5", true),
        ("double(event.amount) * 1.1 > 5.4", true),
        ("size(event.tags) == 1", true),
        ("topic == \"e\" && key == \"customer-7\"", true),
        ("type(event.amount) == int", true),
    ] {
        assert_eq!(matches(rule, &order), Ok(expected), "{rule}");
    }
}

#[test]
fn a_rule_that_fails_or_does_not_answer_yes_or_no_rejects_the_event() {
    let order = event(&[("amount", Value::Int(5)), ("country", Value::Text("NO".into()))]);
    for rule in ["event.absent > 1", "event.country > 1", "event.amount", "event.amount * 1.1 > 1.0"] {
        let rejection = matches(rule, &order).expect_err(rule);
        assert_eq!(rejection.reason, Reason::RuleFailed, "{rejection}");
        assert!(rejection.detail.contains(rule), "{rejection}");
    }
}

#[test]
fn a_rule_on_the_schema_alone_decodes_nothing() {
    let rules = avro(&["schema == \"order\""]).expect("sound");
    assert_eq!(rules.fields(), Some(std::collections::BTreeSet::new()));
    let route = rules.route(Some("order"), &mut || panic!("decoded"), None);
    assert_eq!(route, Ok(0));
}

#[test]
fn a_rule_that_the_schema_alone_rules_out_decodes_nothing() {
    let rules = avro(&["schema == \"purchase\" && event.units > 10", "schema == \"order\""]).expect("sound");
    let route = |schema| rules.route(Some(schema), &mut || panic!("decoded"), None);
    assert_eq!(route("order"), Ok(1));
    let few = event(&[("units", Value::Int(3))]);
    assert_eq!(
        rules.route(Some("purchase"), &mut || Ok(few.clone()), None),
        Ok(2),
        "the last takes the rest"
    );
}

#[test]
fn unknown_names_are_refused_with_what_was_meant() {
    for (rule, says) in [
        ("evnt.amount > 1.0", "did you mean `event`"),
        ("event.amout > 1.0", "did you mean `amount`"),
        ("event[\"amout\"] > 1.0", "did you mean `amount`"),
        ("schema == \"odrer\"", "did you mean `order`"),
        ("schema == \"odrer\" && event.test", "did you mean `order`"),
        ("schema in [\"order\", \"purhcase\"]", "did you mean `purchase`"),
        ("event.id.startWith(\"N\")", "did you mean `startsWith`"),
        ("event.id ==", "not valid CEL"),
    ] {
        let said = avro(&[rule]).err().unwrap_or_else(|| panic!("accepted: {rule}"));
        assert!(said.starts_with("shop.yaml:4:") && said.contains(says), "{rule}: {said}");
    }
    let said = json(&["schema == \"order\""]).err().expect("refused");
    assert!(said.contains("a JSON event has no `schema`"), "{said}");
}

#[test]
fn a_rule_that_fails_on_every_event_of_a_schema_is_refused_unless_it_is_kept_from_them() {
    let said = avro(&["event.amount > 100.0"]).err().expect("refused");
    assert!(said.contains("schema `purchase` has no field `amount`"), "{said}");
    for sound in [
        &["schema == \"order\" && event.amount > 100.0"][..],
        &["schema != \"purchase\" && event.amount > 100.0"],
        &["has(event.amount) && event.amount > 100.0"],
        &["event.test"],
        &["schema == \"purchase\"", "event.amount > 100.0"],
        &["schema in [\"purchase\"]", "event.amount > 100.0"],
        &["event.test || schema == \"order\" && event.amount > 100.0"],
        &["event.test || has(event.amount) && event.amount > 100.0"],
        &["has(event.amount) ? event.amount > 100.0 : event.units > 10"],
        &["event.?amount.orValue(0.0) > 100.0"],
        &["schema == \"order\" && !has(event.amount)", "schema == \"order\" && event.amount > 100.0"],
    ] {
        assert_eq!(avro(sound).err(), None, "{sound:?}");
    }
}

#[test]
fn a_rule_that_fails_only_on_some_events_of_a_schema_is_refused_too() {
    for rule in [
        "event.test && event.amount > 100.0",
        "event.amount > 100.0 || event.test",
        "event[\"amount\"] > 100.0",
        "!(event.amount > 100.0)",
        "event.test ? event.amount > 100.0 : false",
        "[1.0, 2.0].exists(limit, event.amount > limit)",
        "double(event.amount) > 100.0",
    ] {
        let said = avro(&[rule]).err().unwrap_or_else(|| panic!("accepted: {rule}"));
        assert!(said.contains("schema `purchase` has no field `amount`"), "{rule}: {said}");
    }
    let said = avro(&["!has(event.amount)", "event.amount > 100.0"]).err();
    assert_eq!(said, None, "a purchase never gets past the first rule");
}

/// Every rule of up to three parts, for every event of either schema.
#[test]
fn no_rule_that_is_accepted_ever_fails_for_want_of_a_field() {
    let parts = [
        "event.test",
        "event.amount",
        "!event.units",
        "has(event.amount)",
        "!has(event.units)",
        "schema == \"order\"",
        "event.?amount.orValue(false)",
    ];
    let mut accepted = 0;
    for (a, b, c) in parts.iter().flat_map(|a| parts.iter().flat_map(move |b| parts.map(|c| (a, b, c)))) {
        for rule in [
            format!("{a} && ({b} || {c})"),
            format!("{a} || {b} && {c}"),
            format!("{a} ? {b} : {c}"),
            format!("!({a} && {b}) || {c}"),
        ] {
            let Ok(rules) = avro(&[&rule]) else { continue };
            accepted += 1;
            for flags in 0..4 {
                let (test, own) = (Value::Bool(flags & 1 == 1), Value::Bool(flags & 2 == 2));
                for (schema, field) in [("order", "amount"), ("purchase", "units")] {
                    let event = event(&[("id", Value::Int(1)), ("test", test.clone()), (field, own.clone())]);
                    let route = rules.route(Some(schema), &mut || Ok(event.clone()), None);
                    assert!(route.is_ok(), "{rule} of {event:?}: {route:?}");
                }
            }
        }
    }
    assert!(accepted > 100, "only {accepted} rules were accepted");
}

#[test]
fn a_time_that_no_calendar_has_rejects_the_event() {
    let order = event(&[("at", Value::Timestamp(i64::MAX))]);
    let rejection = matches("event.at == null", &order).expect_err("refused");
    assert_eq!(rejection.reason, Reason::InvalidTimestamp, "{rejection}");
}

#[test]
fn the_first_match_wins() {
    let rules = json(&["event.a > 1", "event.a > 0"]).expect("sound");
    let route = |a: i64| rules.route(None, &mut || Ok(event(&[("a", Value::Int(a))])), None);
    assert_eq!((route(2), route(1), route(0)), (Ok(0), Ok(1), Ok(2)));
}
