//! Both formats there and back, and the hand-written Avro against apache-avro and the schema file.

use std::path::Path;

use apache_avro::{reader::datum::GenericDatumReader, types::Value as Avro};
use proptest::prelude::*;

use super::*;
use crate::{Coordinates, Outcome};

fn folder() -> SchemaFolder {
    SchemaFolder::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")).expect("valid")
}

fn codec(format: Format) -> ScoredEventCodec {
    ScoredEventCodec::new(format, &folder()).expect("registered")
}

fn name() -> impl Strategy<Value = Arc<str>> {
    any::<String>().prop_map(Arc::from)
}

fn named<T: std::fmt::Debug>(values: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<(Arc<str>, T)>> {
    // No name stands twice: a pipeline file could not say so either.
    prop::collection::vec(values, 0..5).prop_map(|values| {
        values.into_iter().enumerate().map(|(at, v)| (format!("n-{}", 9 - at).into(), v)).collect()
    })
}

fn output() -> impl Strategy<Value = Output> {
    prop_oneof![
        (name(), named(-10.0_f32..10.0)).prop_map(|(label, scores)| Output::Class { label, scores }),
        (-1e300..1e300).prop_map(Output::Number),
        prop::collection::vec(-10.0_f32..10.0, 0..5).prop_map(Output::Vector),
    ]
}

/// What both formats give back as it was.
fn plain() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-1e300..1e300).prop_map(Value::Float),
        name().prop_map(Value::Text),
    ]
}

fn event() -> impl Strategy<Value = ScoredEvent> {
    let names = prop::array::uniform8(name());
    let times = (any::<Option<i32>>(), any::<i32>());
    (names, named(output()), named(plain()), any::<(bool, bool)>(), any::<(i32, i64)>(), times).prop_map(
        |(names, outputs, carried, (expired, degraded), (partition, offset), (event_time, scored_time))| {
            let [event_id, pipeline, route, lane, task, variant, model_digest, device] = names;
            ScoredEvent {
                source: Coordinates { topic: event_id.clone(), partition, offset },
                event_id,
                pipeline,
                route,
                lane,
                task,
                variant,
                model_digest,
                device,
                outcome: if expired { Outcome::Expired } else { Outcome::Scored },
                outputs,
                carried,
                degraded,
                event_time_ms: event_time.map(i64::from),
                scored_time_ms: scored_time.into(),
            }
        },
    )
}

proptest! {
    #[test]
    fn a_scored_event_is_read_back_as_it_was_in_both_formats(event in event()) {
        for format in [Format::Avro, Format::Json] {
            let codec = codec(format);
            prop_assert_eq!(&codec.decode(&codec.encode(&event)).expect("valid"), &event);
        }
    }

    #[test]
    fn avro_written_by_hand_is_what_the_library_reads_under_the_schema_file(event in event()) {
        let folder = folder();
        let registered = folder.require(SUBJECT).expect("registered");
        let bytes = codec(Format::Avro).encode(&event);
        prop_assert_eq!(&bytes[..5], &[&[0_u8][..], &registered.id.to_be_bytes()].concat()[..]);
        let mut datum = &bytes[5..];
        let reader = GenericDatumReader::builder(&registered.schema).build().expect("valid");
        let Avro::Record(fields) = reader.read_value(&mut datum).expect("valid") else { panic!("no record") };
        prop_assert!(datum.is_empty());
        let field = |name: &str| &fields.iter().find(|(n, _)| n == name).expect(name).1;
        prop_assert_eq!(field("device"), &Avro::String(event.device.to_string()));
        prop_assert_eq!(field("scored_time"), &Avro::TimestampMillis(event.scored_time_ms));
        let Avro::Map(outputs) = field("outputs") else { panic!("no map") };
        prop_assert_eq!(outputs.len(), event.outputs.len());
    }

    #[test]
    fn made_up_bytes_are_no_scored_event_and_no_panic(tail in any::<Vec<u8>>()) {
        let payload = [&[0, 0, 0, 0, 100][..], &tail].concat();
        prop_assert!(codec(Format::Avro).decode(&payload).is_err());
        prop_assert!(codec(Format::Json).decode(&tail).is_err());
    }
}

#[test]
fn under_an_id_of_a_registry_it_is_written_and_read_by_whoever_knows_another() {
    let of_registry = ScoredEventCodec::with_id(1).expect("our own schema");
    let event = with_carried(Value::Null);
    let bytes = of_registry.encode(&event);
    assert_eq!(bytes[..5], [0, 0, 0, 0, 1], "1 is an order's in the folder");
    assert_eq!(codec(Format::Avro).decode(&bytes), Ok(event));
}

#[test]
fn times_that_no_reader_could_hold_come_back_as_the_last_that_one_can() {
    let far =
        ScoredEvent { event_time_ms: Some(i64::MIN), scored_time_ms: i64::MAX, ..with_carried(Value::Null) };
    let avro = codec(Format::Avro);
    let read = avro.decode(&avro.encode(&far)).expect("valid");
    assert_eq!((read.event_time_ms, read.scored_time_ms), (Some(i64::MIN / 1000), i64::MAX / 1000));
}

fn with_carried(value: Value) -> ScoredEvent {
    let text = |text: &str| -> Arc<str> { text.into() };
    ScoredEvent {
        event_id: text("t/1/2"),
        pipeline: text("commerce"),
        route: text("orders"),
        lane: text("precision"),
        task: text("order-risk"),
        variant: text("full"),
        model_digest: text("abc"),
        device: text("cpu"),
        outcome: Outcome::Scored,
        outputs: vec![(
            text("risk"),
            Output::Class { label: text("good"), scores: vec![(text("good"), 0.7), (text("bad"), 0.3)] },
        )],
        carried: vec![(text("x"), value)],
        degraded: false,
        source: Coordinates { topic: text("t"), partition: 1, offset: 2 },
        event_time_ms: None,
        scored_time_ms: 5,
    }
}

#[test]
fn what_a_format_lacks_comes_back_as_what_it_was_written_as() {
    let carried = |format: Format, value: Value| {
        let codec = codec(format);
        let mut read = codec.decode(&codec.encode(&with_carried(value))).expect("valid");
        read.carried.remove(0).1
    };
    for format in [Format::Avro, Format::Json] {
        assert_eq!(carried(format, Value::Timestamp(1_700_000_000_123_456)), Value::Int(1_700_000_000_123));
    }
    let list = Value::List(vec![Value::Int(1), Value::Null]);
    assert_eq!(carried(Format::Avro, list.clone()), Value::Text("[1,null]".into()));
    assert_eq!(carried(Format::Json, list.clone()), list);
    let bytes = Value::Bytes(vec![0, 0xff].into());
    assert_eq!(carried(Format::Avro, bytes.clone()), bytes);
    assert_eq!(carried(Format::Json, bytes), Value::Text("00ff".into()));
    assert_eq!(carried(Format::Json, Value::Float(f64::NAN)), Value::Null);
}

#[test]
fn json_is_in_the_events_order_and_numbers_are_short() {
    let json = codec(Format::Json).encode(&with_carried(Value::Float(0.1)));
    let json = std::str::from_utf8(&json).expect("text");
    assert!(json.starts_with(r#"{"event_id":"t/1/2","pipeline":"commerce","#), "{json}");
    assert!(json.contains(r#""risk":{"label":"good","scores":{"good":0.7,"bad":0.3}}"#), "{json}");
    let read = codec(Format::Json).read(json.as_bytes()).expect("valid");
    assert_eq!(read["carried"]["x"], 0.1);
}

#[test]
fn a_folder_without_the_version_that_is_written_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let index = r#"[{"id": 100, "subject": "scored-event", "version": 1, "file": "s.avsc"}]"#;
    std::fs::write(folder.path().join("index.json"), index).expect("written");
    std::fs::write(folder.path().join("s.avsc"), SCHEMA.replace("degraded", "worse")).expect("written");
    let folder = SchemaFolder::open(folder.path()).expect("valid");
    let error = ScoredEventCodec::new(Format::Avro, &folder).expect_err("another schema").to_string();
    assert!(error.contains("scored-event.v1.avsc"), "{error}");
    let error = ScoredEventCodec::new(Format::Avro, &SchemaFolder::default()).expect_err("none").to_string();
    assert!(error.contains("register it in index.json"), "{error}");
}
