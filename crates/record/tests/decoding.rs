//! What a source's decoder makes of good, old, new, foreign and broken bytes.

use std::sync::Arc;

use apache_avro::{Schema, types::Value as Avro, writer::datum::GenericDatumWriter};
use proptest::prelude::*;
use twinlane_record::{EventDecoder, Reason, SchemaFolder, Value};

const ORDER_V1: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"id","type":"string"},{"name":"amount","type":"int"},{"name":"note","type":"string"}]}"#;
/// Against version 1: `amount` promoted, `note` removed, `country` added with a default.
const ORDER_V2: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"id","type":"string"},{"name":"amount","type":"double"},
    {"name":"country","type":"string","default":"NO"}]}"#;
const CLICK_V1: &str = r#"{"type":"record","name":"Click","fields":[{"name":"page","type":"string"}]}"#;
/// Against version 1: a required field without a default.
const CLICK_V2: &str = r#"{"type":"record","name":"Click","fields":[
    {"name":"page","type":"string"},{"name":"user","type":"long"}]}"#;

fn decoder(subjects: &[&str]) -> EventDecoder {
    let folder = tempfile::tempdir().expect("a folder");
    let files = [
        (1, "order", 1, ORDER_V1),
        (2, "order", 2, ORDER_V2),
        (3, "click", 1, CLICK_V1),
        (4, "click", 2, CLICK_V2),
    ];
    let mut index = Vec::new();
    for (id, subject, version, schema) in files {
        let file = format!("{subject}.v{version}.avsc");
        std::fs::write(folder.path().join(&file), schema).expect("written");
        index.push(serde_json::json!({"id": id, "subject": subject, "version": version, "file": file}));
    }
    std::fs::write(folder.path().join("index.json"), serde_json::Value::from(index).to_string())
        .expect("written");
    let folder = SchemaFolder::open(folder.path()).expect("valid");
    let subjects: Vec<Arc<str>> = subjects.iter().map(|&s| s.into()).collect();
    EventDecoder::avro(&folder, &subjects).expect("registered")
}

fn written(id: u8, schema: &str, fields: &[(&str, Avro)]) -> Vec<u8> {
    let schema = Schema::parse_str(schema).expect("valid");
    let record = Avro::Record(fields.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect());
    let datum = GenericDatumWriter::builder(&schema).build().expect("valid").write_value_to_vec(record);
    [vec![0, 0, 0, 0, id], datum.expect("fits the schema")].concat()
}

fn order_v1() -> Vec<u8> {
    let text = |t: &str| Avro::String(t.to_owned());
    written(1, ORDER_V1, &[("id", text("o-1")), ("amount", Avro::Int(7)), ("note", text("x"))])
}

fn order_v2() -> Vec<u8> {
    let text = |t: &str| Avro::String(t.to_owned());
    written(2, ORDER_V2, &[("id", text("o-2")), ("amount", Avro::Double(f64::NAN)), ("country", text("DE"))])
}

fn reason(decoder: &EventDecoder, payload: &[u8]) -> Reason {
    decoder.decode(payload).expect_err("must be refused").reason
}

#[test]
fn an_older_writers_event_is_read_as_the_newest_version() {
    let event = decoder(&["order"]).decode(&order_v1()).expect("compatible");
    assert_eq!(event.schema.as_deref(), Some("order"));
    assert_eq!(event.value.get("amount"), Some(&Value::Float(7.0)), "int promoted to double");
    assert_eq!(event.value.get("country"), Some(&Value::Text("NO".into())), "added field takes its default");
    assert_eq!(event.value.get("note"), None, "removed field is gone");
}

#[test]
fn not_a_number_comes_through_for_the_features_to_refuse() {
    let event = decoder(&["order"]).decode(&order_v2()).expect("valid");
    assert!(matches!(event.value.get("amount"), Some(Value::Float(f)) if f.is_nan()));
}

#[test]
fn an_incompatible_version_is_refused_and_says_why() {
    let payload = written(3, CLICK_V1, &[("page", Avro::String("p".into()))]);
    let rejection = decoder(&["click"]).decode(&payload).expect_err("`user` has no default");
    assert_eq!(rejection.reason, Reason::IncompatibleSchema);
    let known = decoder(&["order", "click"]).incompatible();
    assert_eq!(known, std::slice::from_ref(&rejection.detail), "known before the first event comes");
    assert!(
        rejection.detail.contains("version 1 of `click`") && rejection.detail.contains("user"),
        "{rejection}"
    );
}

#[test]
fn several_schemas_share_a_topic_and_are_told_apart_without_decoding() {
    let both = decoder(&["order", "click"]);
    let click = written(4, CLICK_V2, &[("page", Avro::String("p".into())), ("user", Avro::Long(1))]);
    assert_eq!(both.schema_name(&order_v1()).expect("known").map(|s| &**s), Some("order"));
    assert_eq!(both.schema_name(&click).expect("known").map(|s| &**s), Some("click"));
    assert_eq!(reason(&decoder(&["order"]), &click), Reason::UnknownSchema, "not one of this source's");
}

#[test]
fn broken_bytes_are_refused_with_a_fixed_reason() {
    let decoder = decoder(&["order"]);
    let good = order_v2();
    assert_eq!(reason(&decoder, b""), Reason::EmptyPayload);
    assert_eq!(reason(&decoder, b"{}"), Reason::MalformedPayload);
    assert_eq!(reason(&decoder, &good[..3]), Reason::MalformedPayload);
    assert_eq!(reason(&decoder, &good[..good.len() - 1]), Reason::MalformedPayload);
    assert_eq!(reason(&decoder, &[&good[..], b"x"].concat()), Reason::MalformedPayload);
    assert_eq!(reason(&decoder, &[0, 0, 0, 9, 9, 1]), Reason::UnknownSchema);
    // A string whose length says 2^62.
    let huge = [&[0, 0, 0, 0, 2][..], &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]].concat();
    assert_eq!(reason(&decoder, &huge), Reason::MalformedPayload);
}

#[test]
fn json_is_an_object_or_refused() {
    let decoder = EventDecoder::json();
    let event =
        decoder.decode(br#"{"a": {"b": [1, 2.5, null, "x"]}, "c": 9007199254740993}"#).expect("valid");
    assert_eq!(event.value.get("c"), Some(&Value::Int(9_007_199_254_740_993)), "no detour through a float");
    assert_eq!(event.schema, None);
    let deep = "[".repeat(100_000);
    for bad in ["[]", "1", "{", "\u{feff}{}", "{} x", &deep] {
        assert_eq!(reason(&decoder, bad.as_bytes()), Reason::MalformedPayload, "{:.20}", bad);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(tail in prop::collection::vec(any::<u8>(), 0..200), id in 0u8..6) {
        let decoder = decoder(&["order", "click"]);
        let _ = decoder.decode(&[&[0, 0, 0, 0, id][..], &tail].concat());
        let _ = EventDecoder::json().decode(&tail);
    }

    #[test]
    fn a_flipped_byte_is_answered_one_way_or_the_other(at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let decoder = decoder(&["order", "click"]);
        let mut payload = order_v1();
        let at = at.index(payload.len());
        payload[at] = with;
        let _ = decoder.decode(&payload);
    }
}

#[test]
fn a_promotion_goes_over_several_versions_and_no_version_is_read_by_an_older_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let kinds = ["int", "long", "double"];
    let schema = |kind: &str| {
        format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "n", "type": "{kind}"}}]}}"#)
    };
    let mut index = Vec::new();
    for (kind, version) in kinds.iter().zip(1_u8..) {
        std::fs::write(folder.path().join(kind), schema(kind)).expect("written");
        index.push(serde_json::json!({"id": version, "subject": "r", "version": version, "file": kind}));
    }
    let list = |index: &[serde_json::Value]| {
        std::fs::write(folder.path().join("index.json"), serde_json::json!(index).to_string())
            .expect("written");
        let schemas = SchemaFolder::open(folder.path()).expect("valid");
        EventDecoder::avro(&schemas, &["r".into()]).expect("registered")
    };
    let newest = list(&index);
    for (kind, value, id) in
        [("int", Avro::Int(3), 1), ("long", Avro::Long(3), 2), ("double", Avro::Double(3.0), 3)]
    {
        let event = newest.decode(&written(id, &schema(kind), &[("n", value)])).expect("compatible");
        assert_eq!(event.value.get("n"), Some(&Value::Float(3.0)), "{kind}");
    }
    // The same files, but the writer of doubles came first.
    for (entry, version) in index.iter_mut().zip([3, 2, 1]) {
        entry["version"] = version.into();
    }
    let narrowed = list(&index);
    let rejection =
        narrowed.decode(&written(3, &schema("double"), &[("n", Avro::Double(3.0))])).expect_err("narrower");
    assert_eq!(rejection.reason, Reason::IncompatibleSchema);
    assert_eq!(
        rejection.detail,
        "version 1 of `r` cannot be read as version 3: field `n`: double cannot be read as int"
    );
}
