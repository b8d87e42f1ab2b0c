//! Schemas that become known while events flow.

use std::{path::PathBuf, sync::Arc};

use apache_avro::{Schema, types::Value as Avro, writer::datum::GenericDatumWriter};
use twinlane_record::{EventDecoder, ForeignSchema, Reason, Rejection, SchemaEntry, SchemaFolder, Value};

const ORDER: &str = r#"{"type": "record", "name": "order", "namespace": "shop", "fields": [
    {"name": "id", "type": "long"}, {"name": "note", "type": "string", "default": "none"}]}"#;
const CLICK: &str =
    r#"{"type": "record", "name": "click", "namespace": "shop", "fields": [{"name": "id", "type": "long"}]}"#;
/// Another namespace, a narrower type, a field that the reader lacks, none of the note.
const FOREIGN: &str = r#"{"type": "record", "name": "order", "namespace": "elsewhere", "fields": [
    {"name": "id", "type": "int"}, {"name": "more", "type": "double"}]}"#;

fn decoder() -> EventDecoder {
    let mut folder = SchemaFolder::default();
    for (id, subject, text) in [(1, "order", ORDER), (2, "click", CLICK), (3, "other", CLICK)] {
        let entry = SchemaEntry { id, subject: subject.into(), version: 1, file: PathBuf::from(subject) };
        folder.add(entry, text).expect("valid");
    }
    let subjects: [Arc<str>; 2] = ["order".into(), "click".into()];
    EventDecoder::avro(&folder, &subjects).expect("registered")
}

fn parsed(id: u32, text: &str) -> ForeignSchema {
    ForeignSchema::parse(id, text).expect("valid")
}

fn written(id: u8) -> Vec<u8> {
    let schema = Schema::parse_str(FOREIGN).expect("valid");
    let record = Avro::Record(vec![("id".into(), Avro::Int(7)), ("more".into(), Avro::Double(0.5))]);
    let datum = GenericDatumWriter::builder(&schema).build().expect("valid").write_value_to_vec(record);
    [vec![0, 0, 0, 0, id], datum.expect("fits the schema")].concat()
}

#[test]
fn an_event_of_a_learned_schema_is_read_as_the_folders_version() {
    let mut decoder = decoder();
    assert_eq!(decoder.unknown_id(&written(57)), Some(57));
    assert_eq!(decoder.decode(&written(57)).expect_err("not yet").reason, Reason::UnknownSchema);
    assert_eq!(decoder.learn(57, &parsed(57, FOREIGN), None), None);
    assert_eq!(decoder.unknown_id(&written(57)), None);
    assert_eq!(decoder.schema_name(&written(57)), Ok(Some(&"order".into())));
    let event = decoder.decode(&written(57)).expect("known");
    assert_eq!(event.value.path("id"), Some(&Value::Int(7)));
    assert_eq!(event.value.path("note"), Some(&Value::Text("none".into())));
    assert_eq!(event.value.path("more"), None);
}

#[test]
fn an_id_is_refused_until_that_is_forgotten_or_better_is_known() {
    let mut decoder = decoder();
    decoder.refuse(57, Rejection::new(Reason::UnknownSchema, "nobody knows 57"));
    assert_eq!(decoder.unknown_id(&written(57)), None, "there is nothing to ask");
    assert_eq!(decoder.decode(&written(57)).expect_err("refused").detail, "nobody knows 57");
    decoder.forget(57);
    assert_eq!(decoder.unknown_id(&written(57)), Some(57));
    decoder.refuse(57, Rejection::new(Reason::UnknownSchema, "nobody knows 57"));
    decoder.learn(57, &parsed(57, FOREIGN), None);
    decoder.forget(57);
    assert!(decoder.decode(&written(57)).is_ok(), "a schema is never forgotten");
}

#[test]
fn a_schema_of_no_subject_of_the_source_is_refused_by_its_name() {
    let mut decoder = decoder();
    let text = FOREIGN.replace("\"order\"", "\"refund\"");
    let why = decoder.learn(57, &parsed(57, &text), None).expect("no reader");
    assert_eq!(
        why,
        "schema id 57 is the record `elsewhere.refund`, and this source's schemas are: order, click"
    );
    let rejection = decoder.decode(&written(57)).expect_err("refused");
    assert_eq!((rejection.reason, rejection.detail), (Reason::UnknownSchema, why));
    assert_eq!(decoder.unknown_id(&written(57)), None, "it will never be another");
}

#[test]
fn a_learned_schema_that_cannot_be_read_says_why() {
    let mut decoder = decoder();
    let text = FOREIGN.replace("\"int\"", "\"string\"");
    let why = decoder.learn(57, &parsed(57, &text), None).expect("incompatible");
    assert!(why.starts_with("schema id 57 of `order` cannot be read as version 1"), "{why}");
    assert_eq!(decoder.decode(&written(57)).expect_err("refused").reason, Reason::IncompatibleSchema);
}

#[test]
fn what_the_folder_has_for_others_and_json_is_not_asked_for() {
    assert_eq!(decoder().unknown_id(&written(3)), None);
    assert_eq!(decoder().decode(&written(3)).expect_err("another source's").reason, Reason::UnknownSchema);
    assert_eq!(EventDecoder::json().unknown_id(&written(57)), None);
    assert_eq!(decoder().unknown_id(&[0, 0]), None);
}

#[test]
fn text_that_is_no_schema_is_a_rejection_with_its_id() {
    let rejection = ForeignSchema::parse(57, r#"{"type": "recrod"}"#).expect_err("a typing error");
    assert_eq!(rejection.reason, Reason::IncompatibleSchema);
    assert!(rejection.detail.starts_with("schema id 57 of the registry cannot be used"), "{rejection}");
}
