//! The fields that a task names, held to the Avro schemas of what is sent to it.

use twinlane_pipeline::{Plan, RuleSet};

const ROUTES: &str = r#"  - { from: events, when: schema == "order", task: risk, lane: precision }
  - { from: events, task: returns, lane: precision }
"#;

/// Two tasks on one topic with two schemas; each test changes the routes or a task's part.
fn checked(routes: &str, found: &str, by: &str) -> Result<(), String> {
    let text = format!(
        "\
pipeline: shop
sources:
  events: {{ topic: e, format: avro, schemas: [order, purchase] }}
  clicks: {{ topic: c, format: json }}
tasks:
  risk:
    models: {{ full: m.onnx }}
    inputs:
      row: {{ columns: [amount, {{ field: country, as: number, missing: 0 }}] }}
      card: {{ field: card.limit, missing: 0 }}
      recent: {{ each: recent, keep_last: 4, columns: [whatever] }}
    outputs: {{ y: {{ tensor: y, kind: number }} }}
    publish: {{ topic: s, format: json, carry: [id] }}
  returns:
    models: {{ full: m.onnx }}
    inputs: {{ x: {{ columns: [units] }} }}
    outputs: {{ y: {{ tensor: y, kind: number }} }}
    publish: {{ topic: s, format: json, carry: [id] }}
lanes: {{ precision: {{ model: full, device: [cpu], max_batch: 1 }} }}
dead_letters: {{ topic: d }}
routes:
{routes}  - {{ from: clicks, when: event.x > 1, skip: nothing }}
"
    );
    assert!(text.contains(found), "{found}");
    let plan = Plan::parse(&text.replacen(found, by, 1), "shop.yaml").expect("a sound file");
    let fields = |schema: &str| {
        let names: &[&str] = match schema {
            "order" => &["id", "amount", "country", "card", "recent", "test"],
            _ => &["id", "units", "test"],
        };
        Some(names.iter().map(|&name| name.to_owned()).collect())
    };
    (0..plan.sources.len()).try_for_each(|source| match RuleSet::compile(&plan, source, &fields) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
}

#[test]
fn fields_that_what_is_sent_to_a_task_has_are_accepted() {
    assert_eq!(checked(ROUTES, "carry", "carry"), Ok(()));
}

#[test]
fn a_misspelt_field_is_refused_with_its_place_and_what_was_meant() {
    for (found, by, said) in [
        (
            "[amount,",
            "[amout,",
            "9:24: no event that is sent to task `risk` has a field `amout`; did you mean `amount`?",
        ),
        (
            "field: country",
            "field: contry",
            "9:32: no event that is sent to task `risk` has a field `contry`; did you mean `country`?",
        ),
        (
            "card.limit",
            "crad.limit",
            "10:13: no event that is sent to task `risk` has a field `crad`; did you mean `card`?",
        ),
        (
            "each: recent",
            "each: recnt",
            "11:15: no event that is sent to task `risk` has a field `recnt`; did you mean `recent`?",
        ),
        (
            "carry: [id]",
            "carry: [id, order]",
            "13:52: no event that is sent to task `risk` has a field `order`; there is",
        ),
        (
            "[units]",
            "[amount]",
            "16:30: no event that is sent to task `returns` has a field `amount`; there is",
        ),
    ] {
        let refused = checked(ROUTES, found, by).expect_err(by);
        assert!(refused.starts_with(&format!("shop.yaml:{said}")), "{refused}");
    }
}

#[test]
fn a_schema_of_which_every_event_would_be_a_dead_letter_is_refused() {
    let everything = "  - { from: events, when: event.test, task: returns, lane: precision }\n  - { from: events, task: risk, lane: precision }\n";
    let refused = checked(everything, "carry", "carry").expect_err("purchases have no amount");
    assert!(
        refused
            .starts_with("shop.yaml:9:24: schema `purchase` has no field `amount`, and route `events-risk`"),
        "{refused}"
    );
}

#[test]
fn a_field_of_another_source_is_no_mistake() {
    let both = format!("{ROUTES}  - {{ from: clicks, when: event.x > 2, task: risk, lane: precision }}\n");
    assert_eq!(checked(&both, "carry: [id]", "carry: [id, clicked_at]"), Ok(()), "JSON may have any field");
}
