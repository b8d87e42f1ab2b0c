//! What resolution makes of two versions of a schema, and what hostile bytes get.

use apache_avro::{Schema, types::Value as Avro, writer::datum::GenericDatumWriter};

use super::Plan;
use crate::{Reason, Rejection, Value, value::MAX_DEPTH};

fn schema(json: &str) -> Schema {
    Schema::parse_str(json).expect("valid")
}

/// A record of one field `f` of this type, with what else the field's JSON says.
fn with(field: &str) -> String {
    format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": {field}}}]}}"#)
}

fn written(schema: &Schema, value: Avro) -> Vec<u8> {
    GenericDatumWriter::builder(schema).build().expect("valid").write_value_to_vec(value).expect("fits")
}

/// What a reader whose field has the type `to` makes of `value` under the type `from`.
fn read(from: &str, to: &str, value: Avro) -> Result<Value, Rejection> {
    let (writer, reader) = (schema(&with(from)), schema(&with(to)));
    let datum = written(&writer, Avro::Record(vec![("f".into(), value)]));
    let record = Plan::new(&writer, &reader)?.read(&datum)?;
    Ok(record.get("f").expect("a field").clone())
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn incompatible(result: Result<Value, Rejection>, why: &str) {
    let rejection = result.expect_err("must be refused");
    assert_eq!(rejection.reason, Reason::IncompatibleSchema, "{rejection}");
    assert!(rejection.detail.contains(why), "{rejection}");
}

fn logical(base: &str, name: &str) -> String {
    format!(r#"{{"type": "{base}", "logicalType": "{name}"}}"#)
}

#[test]
fn numbers_and_texts_are_promoted_and_never_narrowed() {
    let int = r#""int""#;
    assert_eq!(read(int, r#""long""#, Avro::Int(7)), Ok(Value::Int(7)));
    assert_eq!(read(int, r#""double""#, Avro::Int(7)), Ok(Value::Float(7.0)));
    let single = read(int, r#""float""#, Avro::Int(16_777_217));
    assert_eq!(single, Ok(Value::Float(16_777_216.0)), "a float's precision");
    assert_eq!(read(r#""long""#, r#""double""#, Avro::Long(-1)), Ok(Value::Float(-1.0)));
    assert_eq!(read(r#""float""#, r#""double""#, Avro::Float(0.5)), Ok(Value::Float(0.5)));
    assert_eq!(read(r#""bytes""#, r#""string""#, Avro::Bytes(b"x".into())), Ok(text("x")));
    assert_eq!(read(r#""string""#, r#""bytes""#, Avro::String("x".into())), Ok(Value::Bytes("x".into())));
    incompatible(read(r#""long""#, int, Avro::Long(1)), "field `f`: long cannot be read as int");
    incompatible(
        read(r#""string""#, int, Avro::String("1".into())),
        "field `f`: string cannot be read as int",
    );
}

#[test]
fn an_instant_keeps_its_meaning_when_its_unit_changes() {
    let [millis, micros, nanos] =
        ["timestamp-millis", "timestamp-micros", "timestamp-nanos"].map(|name| logical("long", name));
    let date = logical("int", "date");
    assert_eq!(read(&millis, &micros, Avro::TimestampMillis(5)), Ok(Value::Timestamp(5000)));
    assert_eq!(read(&micros, &millis, Avro::TimestampMicros(5001)), Ok(Value::Timestamp(5001)));
    assert_eq!(read(&nanos, &nanos, Avro::TimestampNanos(-1)), Ok(Value::Timestamp(-1)), "rounded down");
    assert_eq!(read(&date, &millis, Avro::Date(1)), Ok(Value::Timestamp(86_400_000_000)));
    assert_eq!(read(&date, &date, Avro::Date(-1)), Ok(Value::Timestamp(-86_400_000_000)));
    let local = logical("long", "local-timestamp-millis");
    assert_eq!(read(&local, &local, Avro::LocalTimestampMillis(5)), Ok(Value::Timestamp(5000)));
    assert_eq!(read(r#""long""#, &millis, Avro::Long(5)), Ok(Value::Timestamp(5000)), "gained a meaning");
    assert_eq!(read(&millis, r#""long""#, Avro::TimestampMillis(5)), Ok(Value::Int(5)), "lost it");
    let time = [logical("int", "time-millis"), logical("long", "time-micros")];
    assert_eq!(read(&time[0], &time[0], Avro::TimeMillis(5)), Ok(Value::Int(5)));
    incompatible(read(&time[0], &time[1], Avro::TimeMillis(5)), "changed its unit");
    let far = read(&millis, &millis, Avro::TimestampMillis(i64::MAX)).expect_err("no such instant");
    assert_eq!(far.reason, Reason::MalformedPayload);
}

#[test]
fn every_other_logical_type_has_a_value() {
    let money = r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#;
    let decimal = || Avro::Decimal(vec![0xcf, 0xc7].into());
    assert_eq!(read(money, money, decimal()), Ok(Value::Float(-123.45)));
    let fixed =
        r#"{"type": "fixed", "name": "F", "size": 4, "logicalType": "decimal", "precision": 9, "scale": 2}"#;
    assert_eq!(read(fixed, fixed, Avro::Decimal(vec![0, 0, 0x30, 0x39].into())), Ok(Value::Float(123.45)));
    let rescaled = money.replace("\"scale\": 2", "\"scale\": 3");
    assert_eq!(read(money, &rescaled, decimal()), Ok(Value::Float(-123.45)), "the writer's scale counts");
    let id = "01234567-89ab-cdef-0123-456789abcdef";
    let uuid = || Avro::Uuid(id.parse().expect("a UUID"));
    let as_text = logical("string", "uuid");
    assert_eq!(read(&as_text, &as_text, uuid()), Ok(text(id)));
    let as_fixed = r#"{"type": "fixed", "name": "F", "size": 16, "logicalType": "uuid"}"#;
    assert_eq!(read(as_fixed, as_fixed, uuid()), Ok(text(id)));
    let duration = r#"{"type": "fixed", "name": "F", "size": 12, "logicalType": "duration"}"#;
    let value = Avro::Duration([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0].into());
    let parts = [("months", 1), ("days", 2), ("millis", 3)].map(|(name, n)| (name.into(), Value::Int(n)));
    assert_eq!(read(duration, duration, value), Ok(Value::Record(parts.into())));
}

#[test]
fn a_union_takes_the_branch_of_the_same_type_before_one_that_needs_a_promotion() {
    let writer = r#"["null", "int", "string"]"#;
    let reader = r#"["double", "long", "null", "int"]"#;
    let branch = |at, value| Avro::Union(at, Box::new(value));
    assert_eq!(read(writer, reader, branch(1, Avro::Int(3))), Ok(Value::Int(3)));
    assert_eq!(read(writer, reader, branch(0, Avro::Null)), Ok(Value::Null));
    assert_eq!(
        read(r#""int""#, r#"["null", "double"]"#, Avro::Int(3)),
        Ok(Value::Float(3.0)),
        "became optional"
    );
    // The other branches of the same writer are read; this one is refused.
    incompatible(read(writer, reader, branch(2, Avro::String("x".into()))), "field `f`: string is no branch");
    // And became required: what is null cannot be read, what is not can.
    assert_eq!(read(writer, r#""long""#, branch(1, Avro::Int(3))), Ok(Value::Int(3)));
    incompatible(read(writer, r#""long""#, branch(0, Avro::Null)), "null cannot be read as long");
}

#[test]
fn enums_fall_back_to_their_default_and_are_refused_without() {
    let of = |symbols: &str, rest: &str| {
        format!(r#"{{"type": "enum", "name": "E", "symbols": [{symbols}]{rest}}}"#)
    };
    let writer = of(r#""A", "B""#, "");
    let value = || Avro::Enum(1, "B".into());
    assert_eq!(read(&writer, &of(r#""B", "A""#, ""), value()), Ok(text("B")), "by name, not by number");
    assert_eq!(read(&writer, &of(r#""A", "C""#, r#", "default": "C""#), value()), Ok(text("C")));
    incompatible(read(&writer, &of(r#""A""#, ""), value()), "lacks the writer's symbol number 1");
    incompatible(read(&writer, &writer.replace("\"E\"", "\"Other\""), value()), "`E` is not `Other`");
}

#[test]
fn fields_are_matched_by_name_or_alias_and_others_are_skipped_or_defaulted() {
    let writer = schema(
        r#"{"type": "record", "name": "R", "fields": [
            {"name": "gone", "type": {"type": "array", "items": {"type": "map", "values": "string"}}},
            {"name": "old", "type": "int"}, {"name": "same", "type": "string"}]}"#,
    );
    let reader = schema(
        r#"{"type": "record", "name": "Renamed", "aliases": ["R"], "fields": [
            {"name": "same", "type": "string"}, {"name": "new", "aliases": ["old"], "type": "long"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 5},
            {"name": "list", "type": {"type": "array", "items": ["null", "int"]}, "default": [null, 1]},
            {"name": "blob", "type": "bytes", "default": "\u00ff"},
            {"name": "inner", "default": {"a": 1}, "type": {"type": "record", "name": "I", "fields": [
                {"name": "a", "type": "double"}, {"name": "b", "type": ["null", "string"], "default": null}]}}]}"#,
    );
    let entry = [("k".to_owned(), Avro::String("v".into()))];
    let gone = Avro::Array(vec![Avro::Map(entry.into()), Avro::Map(Default::default())]);
    let value = Avro::Record(vec![
        ("gone".into(), gone),
        ("old".into(), Avro::Int(3)),
        ("same".into(), Avro::String("s".into())),
    ]);
    let read =
        Plan::new(&writer, &reader).expect("compatible").read(&written(&writer, value)).expect("valid");
    let inner = vec![("a".into(), Value::Float(1.0)), ("b".into(), Value::Null)];
    let expected = vec![
        ("same".into(), text("s")),
        ("new".into(), Value::Int(3)),
        ("at".into(), Value::Timestamp(5000)),
        ("list".into(), Value::List(vec![Value::Null, Value::Int(1)])),
        ("blob".into(), Value::Bytes(vec![0xff].into())),
        ("inner".into(), Value::Record(inner)),
    ];
    assert_eq!(read, Value::Record(expected));
}

#[test]
fn an_incompatibility_deep_inside_is_named_by_its_path() {
    let of = |inner: &str| {
        let item =
            format!(r#"{{"type": "record", "name": "I", "fields": [{{"name": "x", "type": "{inner}"}}]}}"#);
        schema(&with(&format!(r#"{{"type": "array", "items": {item}}}"#)))
    };
    let rejection = Plan::new(&of("string"), &of("int")).expect_err("must be refused");
    assert_eq!(rejection.detail, "field `f[].x`: string cannot be read as int");
    let datum = written(&of("int"), Avro::Record(vec![("f".into(), Avro::Array(vec![]))]));
    assert_eq!(datum, [0], "an empty list");
    let cut = [2, 0x80];
    let rejection = Plan::new(&of("int"), &of("int")).expect("same").read(&cut).expect_err("cut off");
    assert_eq!(rejection.detail, "field `f[0].x`: the bytes end within a number");
}

const TREE: &str = r#"{"type": "record", "name": "Tree", "fields": [
    {"name": "v", "type": "int"}, {"name": "next", "type": ["null", "Tree"]}]}"#;

#[test]
fn a_schema_that_refers_to_itself_is_read_to_a_bounded_depth() {
    let tree = schema(TREE);
    let wider = schema(&TREE.replace("\"int\"", "\"double\""));
    let plan = Plan::new(&tree, &wider).expect("compatible");
    let of_depth = |depth: usize| [[2_u8, 2].repeat(depth), vec![2, 0]].concat();
    let read = plan.read(&of_depth(MAX_DEPTH - 1)).expect("deep enough");
    assert_eq!(read.path("next.next.v"), Some(&Value::Float(1.0)));
    let rejection = plan.read(&of_depth(500_000)).expect_err("too deep");
    assert_eq!(rejection.reason, Reason::MalformedPayload);
    assert!(rejection.detail.len() < 2000, "a path of {} bytes", rejection.detail.len());
}

#[test]
fn a_record_that_does_not_fit_is_not_tried_again_on_every_way_to_it() {
    let of = |inner: &str| {
        let bottom = format!(r#"{{"name":"x","type":"{inner}"}}"#);
        let mut fields = vec![format!(
            r#"{{"name":"l0","type":["null",{{"type":"record","name":"L0","fields":[{bottom}]}}]}}"#
        )];
        for level in 1..30 {
            let way = |name| {
                let field = format!(r#"{{"name":"f","type":"L{}"}}"#, level - 1);
                format!(r#"{{"type":"record","name":"{name}{level}","fields":[{field}]}}"#)
            };
            let ways = format!(r#"{{"name":"f","type":[{},{}]}}"#, way("P"), way("Q"));
            fields.push(format!(
                r#"{{"name":"l{level}","type":["null",{{"type":"record","name":"L{level}","fields":[{ways}]}}]}}"#
            ));
        }
        schema(&format!(r#"{{"type":"record","name":"R","fields":[{}]}}"#, fields.join(",")))
    };
    // 2^29 ways, each of which would have taken its time.
    let plan = Plan::new(&of("string"), &of("int")).expect("every one of them may be null");
    let detail = plan.read(&[[0; 29].to_vec(), vec![2, 0, 0]].concat()).expect_err("the last").detail;
    assert!(detail.contains("string cannot be read as int"), "{detail}");
}

#[test]
fn defaults_that_stand_for_too_much_are_refused() {
    let plan = |height| {
        let bottom = r#"{"type":"record","name":"L0","fields":[]}"#.to_owned();
        let inner = (1..=height).fold(bottom, |below, n| {
            let same = n - 1;
            format!(
                r#"{{"type":"record","name":"L{n}","fields":[{{"name":"a","type":{below},"default":{{}}}},
                    {{"name":"b","type":"L{same}","default":{{}}}}]}}"#
            )
        });
        let field = format!(r#"{{"name":"f","type":{inner},"default":{{}}}}"#);
        let of = |fields: &str| schema(&format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#));
        Plan::new(&of(""), &of(&field))
    };
    assert!(plan(5).is_ok());
    assert!(plan(12).expect_err("4096 values").detail.contains("more than 1000 values"));
}

#[test]
fn defaults_of_many_records_are_bounded() {
    let of = |fields: &str| {
        let item = format!(r#"{{"type":"record","name":"I","fields":[{fields}]}}"#);
        schema(&with(&format!(r#"{{"type":"array","items":{item}}}"#)))
    };
    let list = vec!["0"; 900].join(",");
    let added = format!(r#"{{"name":"l","type":{{"type":"array","items":"int"}},"default":[{list}]}}"#);
    let plan = Plan::new(&of(""), &of(&added)).expect("compatible");
    // 100 and 4000 records without a byte.
    assert!(plan.read(&[0xc8, 0x01, 0]).is_ok());
    let rejection = plan.read(&[0xc0, 0x3e, 0]).expect_err("3.6 million values");
    assert!(rejection.detail.contains("more than 500000 values from defaults"), "{rejection}");
}

#[test]
fn lengths_and_counts_that_lie_cost_nothing() {
    let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for field in [
        r#""string""#,
        r#""bytes""#,
        r#"{"type": "array", "items": "null"}"#,
        r#"{"type": "array", "items": "long"}"#,
        r#"{"type": "array", "items": {"type": "record", "name": "Empty", "fields": []}}"#,
        r#"{"type": "map", "values": "null"}"#,
        r#"["null", "int"]"#,
        r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#,
    ] {
        let schema = schema(&with(field));
        let plan = Plan::new(&schema, &schema).expect("same");
        for lie in [&huge[..], &[0xff; 9], &[0x01], &[0x01, 0x01]] {
            let datum = [lie, &[0; 20]].concat();
            // A block of one null and twenty bytes over is refused for the bytes.
            assert_eq!(plan.read(&datum).expect_err(field).reason, Reason::MalformedPayload, "{field}");
        }
    }
}

#[test]
fn a_key_that_stands_twice_in_a_map_is_refused() {
    let map = schema(&with(r#"{"type": "map", "values": "null"}"#));
    let plan = Plan::new(&map, &map).expect("same");
    assert!(plan.read(&[4, 2, b'a', 2, b'b', 0]).is_ok());
    assert!(plan.read(&[4, 2, b'a', 2, b'a', 0]).expect_err("twice").detail.contains("`f[a]`"));
    let many: Vec<u8> = (0..100).flat_map(|i: u8| [2, i % 99]).collect();
    assert!(
        plan.read(&[&[0xc8, 0x01], &many[..], &[0]].concat()).expect_err("twice").detail.contains("twice")
    );
}

#[test]
fn records_of_numbers_are_passed_by_and_refused_as_if_they_were_read() {
    let millis = logical("long", "timestamp-millis");
    let item = format!(
        r#"{{"type": "record", "name": "I", "fields": [{{"name": "i", "type": "int"}}, {{"name": "l", "type": "long"}},
            {{"name": "d", "type": "double"}}, {{"name": "s", "type": "float"}}, {{"name": "t", "type": {millis}}}]}}"#
    );
    let writer = schema(&with(&format!(r#"{{"type": "array", "items": {item}}}"#)));
    let record = |i, l, t| {
        let fields = [
            ("i", Avro::Int(i)),
            ("l", Avro::Long(l)),
            ("d", Avro::Double(0.5)),
            ("s", Avro::Float(-1.0)),
            ("t", Avro::TimestampMillis(t)),
        ];
        Avro::Record(fields.map(|(name, value)| (name.to_owned(), value)).into())
    };
    let items = vec![
        record(1, -300, 1_700_000_000_000),
        record(i32::MIN, i64::MIN, -1),
        record(i32::MAX, i64::MAX, 0),
    ];
    let datum = written(&writer, Avro::Record(vec![("f".into(), Avro::Array(items))]));
    let all = Plan::new(&writer, &writer).expect("the same");
    let none = Plan::new(&writer, &writer).expect("the same").only(&|_| false);
    let read = |plan: &Plan, datum: &[u8]| plan.read(datum).map(drop);
    assert_eq!(read(&none, &datum), Ok(()));
    let mut refused = 0;
    for at in 0..datum.len() {
        assert_eq!(read(&none, &datum[..at]), read(&all, &datum[..at]), "cut off at {at}");
        for byte in 0..=u8::MAX {
            let mut changed = datum.clone();
            changed[at] = byte;
            let wanted = read(&all, &changed);
            refused += usize::from(wanted.is_err());
            assert_eq!(read(&none, &changed), wanted, "{byte:#x} at {at}");
        }
    }
    assert!(refused > 1000, "only {refused} were refused");
}
