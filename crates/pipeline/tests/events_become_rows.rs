//! From an event's fields to the numbers of one row, and what keeps an event from becoming one.

use std::{io, path::Path, sync::Arc};

use twinlane_pipeline::{Dim, Error, FeatureEncoder, Plan, Row, TensorData};
use twinlane_record::{Reason, Rejection, Value};

fn encoder(inputs: &str) -> FeatureEncoder {
    compiled(inputs).unwrap_or_else(|error| panic!("{error}"))
}

fn compiled(inputs: &str) -> Result<FeatureEncoder, Error> {
    let text = format!(
        "\
pipeline: shop
sources: {{ events: {{ topic: e, format: json }} }}
routes: [{{ from: events, task: t, lane: precision }}]
tasks:
  t:
    models: {{ full: m.onnx }}
    inputs:
      {inputs}
    outputs: {{ y: {{ tensor: y, kind: number }} }}
    publish: {{ topic: s, format: json }}
lanes: {{ precision: {{ model: full, device: [cpu], max_batch: 1 }} }}
dead_letters: {{ topic: d }}
"
    );
    let plan = Plan::parse(&text, "shop.yaml").unwrap_or_else(|error| panic!("{error}"));
    let words = |file: &Path| match file.to_str() {
        Some("countries.txt") => Ok("<unknown>\nNO\nSE\n".to_owned()),
        Some("codes.txt") => Ok("47\ntrue\n".to_owned()),
        Some("words.json") => Ok(include_str!("words.tokenizer.json").to_owned()),
        Some("broken.json") => Ok("{}".to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    FeatureEncoder::new(&plan.tasks[0], &words)
}

fn event(fields: &[(&str, Value)]) -> Value {
    Value::Record(fields.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect())
}

fn encode(inputs: &str, fields: &[(&str, Value)]) -> Result<Row, Rejection> {
    encoder(inputs).encode(&event(fields))
}

fn numbers(inputs: &str, fields: &[(&str, Value)]) -> Vec<f64> {
    match encode(inputs, fields).expect("a row").tensors.swap_remove(0).data {
        TensorData::Real(numbers) => numbers,
        other => panic!("{other:?}"),
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// 2026-01-31 11:00 UTC, a Saturday.
const AT: i64 = 1_769_857_200;

#[test]
fn numbers_booleans_and_times_become_columns_in_the_files_order() {
    let inputs = "x: { columns: [a, { field: card.b, as: boolean }, { field: c, as: epoch_seconds }, { field: c, as: epoch_millis }] }";
    let fields = [
        ("a", Value::Float(-1.5)),
        ("card", event(&[("b", Value::Bool(true))])),
        ("c", text("2026-01-31T12:00:00.5+01:00")),
    ];
    assert_eq!(numbers(inputs, &fields), [-1.5, 1.0, AT as f64 + 0.5, AT as f64 * 1000.0 + 500.0]);
}

#[test]
fn hours_and_days_are_those_of_the_zone() {
    let inputs = "x: { columns: [{ field: c, as: hour_of_day }, { field: c, as: hour_of_day, zone: \"+13:30\" }, { field: c, as: day_of_week }, { field: c, as: day_of_week, zone: \"+13:30\" }] }";
    let found = numbers(inputs, &[("c", Value::Timestamp(AT * 1_000_000))]);
    assert_eq!((found[0], found[1]), (11.0, 0.5));
    assert_eq!((found[3] - found[2]).rem_euclid(7.0), 1.0, "it is the next day there: {found:?}");
}

#[test]
fn a_category_is_its_line_in_the_vocabulary() {
    let known = "c: { field: country, vocabulary: countries.txt, unknown: 0, missing: 2 }";
    let index = |value: Option<Value>| {
        let fields: Vec<_> = value.into_iter().map(|value| ("country", value)).collect();
        match encode(known, &fields).expect("a row").tensors.swap_remove(0).data {
            TensorData::Integer(index) => index[0],
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(index(Some(text("NO"))), 1);
    assert_eq!(index(Some(text("XX"))), 0, "unknown");
    assert_eq!((index(None), index(Some(Value::Null))), (2, 2), "missing");
    let strict = "c: { field: country, vocabulary: countries.txt }";
    let rejection = encode(strict, &[("country", text("XX"))]).expect_err("refused");
    assert_eq!(rejection.reason, Reason::UnknownCategory);
}

#[test]
fn a_vocabulary_that_is_missing_or_too_short_is_refused_with_the_columns_place() {
    for (column, says) in [
        ("vocabulary: lost.txt", "vocabulary lost.txt is not readable"),
        ("vocabulary: countries.txt, unknown: 3", "`unknown` is 3 and vocabulary countries.txt has 3 lines"),
        ("vocabulary: countries.txt, missing: 7", "`missing` is 7 and vocabulary countries.txt has 3 lines"),
    ] {
        let inputs = format!("c: {{ field: country, {column} }}");
        let said = compiled(&inputs).err().unwrap_or_else(|| panic!("accepted: {column}")).to_string();
        assert!(said.starts_with("shop.yaml:8:10: field `country`: ") && said.contains(says), "{said}");
    }
    assert!(compiled("c: { field: country, vocabulary: countries.txt, unknown: 2 }").is_ok());
}

#[test]
fn numbers_and_flags_are_categories_by_their_text() {
    let inputs = "c: { field: country, vocabulary: codes.txt }";
    for (value, line) in [(Value::Int(47), 0), (Value::Bool(true), 1), (text("47"), 0)] {
        let row = encode(inputs, &[("country", value)]).expect("a row");
        assert_eq!(row.tensors[0].data, TensorData::Integer(vec![line]));
    }
    let rejection = encode(inputs, &[("country", Value::Float(47.0))]).expect_err("refused");
    assert_eq!(rejection.reason, Reason::WrongType);
}

#[test]
fn one_flag_is_a_boolean_tensor_and_its_missing_a_boolean() {
    let inputs = "f: { field: paid, as: boolean, missing: 1 }";
    for (fields, expected) in [(&[("paid", Value::Bool(false))][..], false), (&[], true)] {
        let row = encode(inputs, fields).expect("a row");
        assert_eq!(row.tensors[0].data, TensorData::Bool(vec![expected]));
    }
}

#[test]
fn whole_numbers_are_exact_up_to_2_to_the_53rd_and_refused_beyond() {
    let inputs = "n: { field: n }";
    let at = |n: i64| encode(inputs, &[("n", Value::Int(n))]);
    assert_eq!(at(1 << 53).expect("a row").tensors[0].data, TensorData::Real(vec![9_007_199_254_740_992.0]));
    let rejection = at(1 << 60).expect_err("refused");
    assert!(rejection.detail.contains("beyond the 2^53"), "{rejection}");
}

#[test]
fn a_list_keeps_its_last_steps_and_its_mask_counts_them() {
    let inputs =
        "h: { each: recent, keep_last: 2, mask: h_mask, columns: [amount, { field: age, missing: -1 }] }";
    let step = |amount: i64| event(&[("amount", Value::Int(amount))]);
    let row = encode(inputs, &[("recent", Value::List((1..=3).map(step).collect()))]).expect("a row");
    assert_eq!((row.tensors[0].steps, row.tensors[1].steps), (2, 2));
    assert_eq!(row.tensors[0].data, TensorData::Real(vec![2.0, -1.0, 3.0, -1.0]));
    assert_eq!(row.tensors[1].data, TensorData::Integer(vec![1, 1]));
    for nothing in [&[][..], &[("recent", Value::Null)], &[("recent", Value::List(vec![]))]] {
        let row = encode(inputs, nothing).expect("no history is a history");
        assert_eq!(row.tensors[0].steps, 0, "{nothing:?}");
    }
}

#[test]
fn without_a_mask_a_list_is_always_padded_to_the_same_length() {
    let inputs = "h: { each: recent, keep_last: 3, columns: [amount] }";
    assert_eq!(encoder(inputs).specs()[0].dims, [Dim::Fixed(3), Dim::Fixed(1)]);
    let recent = Value::List(vec![event(&[("amount", Value::Int(7))])]);
    assert_eq!(numbers(inputs, &[("recent", recent)]), [7.0, 0.0, 0.0]);
    assert_eq!(numbers(inputs, &[]), [0.0; 3]);
}

#[test]
fn what_no_model_may_see_is_refused_with_its_field_and_reason() {
    let inputs = "x: { columns: [a, { field: c, as: epoch_seconds, missing: 0 }, { field: b, as: boolean, missing: 0 }] }";
    for (name, value, reason) in [
        ("a", None, Reason::MissingField),
        ("a", Some(Value::Null), Reason::MissingField),
        ("a", Some(text("12")), Reason::WrongType),
        ("a", Some(Value::Bool(true)), Reason::WrongType),
        ("a", Some(Value::Float(f64::NAN)), Reason::NotFinite),
        ("a", Some(Value::Float(f64::NEG_INFINITY)), Reason::NotFinite),
        ("a", Some(Value::Int(i64::MAX)), Reason::NotFinite),
        ("b", Some(Value::Int(1)), Reason::WrongType),
        ("c", Some(text("yesterday")), Reason::InvalidTimestamp),
        ("c", Some(Value::List(vec![])), Reason::WrongType),
    ] {
        let mut fields = vec![("a", Value::Int(1))];
        fields.retain(|(other, _)| *other != name);
        fields.extend(value.clone().map(|value| (name, value)));
        let rejection = encode(inputs, &fields).err().unwrap_or_else(|| panic!("accepted: {name} {value:?}"));
        assert_eq!(rejection.reason, reason, "{rejection}");
        assert!(rejection.detail.contains(&format!("`{name}`")), "{rejection}");
    }
}

#[test]
fn a_bad_step_is_refused_with_its_list() {
    let inputs = "h: { each: recent, keep_last: 2, columns: [amount] }";
    let recent = Value::List(vec![event(&[("amount", text("much"))])]);
    let rejection = encode(inputs, &[("recent", recent)]).expect_err("refused");
    assert_eq!((rejection.reason, rejection.detail.contains("`recent`")), (Reason::WrongType, true));
    let rejection = encode(inputs, &[("recent", Value::Int(1))]).expect_err("refused");
    assert_eq!(rejection.reason, Reason::WrongType);
}

#[test]
fn a_text_becomes_the_ids_of_its_tokens_and_a_mask() {
    let inputs =
        "ids: { text: note.body, tokenizer: words.json, max_tokens: 5, mask: mask, type_ids: types }";
    let specs: Vec<_> =
        encoder(inputs).specs().iter().map(|spec| (spec.name.to_string(), spec.dims.clone())).collect();
    let steps = vec![Dim::Steps { max: 5 }];
    assert_eq!(specs, ["ids", "mask", "types"].map(|name| (name.to_owned(), steps.clone())));
    let note = |body: Value| [("note", event(&[("body", body)]))];
    let row = encode(inputs, &note(text("Good phones. Good phones."))).expect("a row");
    let tensor = |at: usize| match &row.tensors[at].data {
        TensorData::Integer(numbers) => (row.tensors[at].steps, numbers.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(tensor(0), (5, vec![0, 4, 5, 6, 2]), "cut to five, the end mark included");
    assert_eq!((tensor(1), tensor(2)), ((5, vec![1; 5]), (5, vec![0; 5])));
    for (body, reason) in [(Value::Null, Reason::MissingField), (Value::Int(7), Reason::WrongType)] {
        assert_eq!(encode(inputs, &note(body)).expect_err("refused").reason, reason);
    }
    assert_eq!(encode(inputs, &[]).expect_err("refused").reason, Reason::MissingField);
}

#[test]
fn a_tokenizer_that_is_not_there_or_none_is_refused_with_its_place() {
    for (file, says) in [("nowhere.json", "not readable"), ("broken.json", "not a tokenizer")] {
        let inputs = format!("ids: {{ text: body, tokenizer: {file}, max_tokens: 5, mask: mask }}");
        let refusal = compiled(&inputs).expect_err("refused").to_string();
        assert!(refusal.starts_with("shop.yaml:8:") && refusal.contains(says), "{refusal}");
    }
}
