//! Random schemas, values and bytes: what apache-avro writes is read back as apache-avro reads it, also under
//! another version, and nothing that is cut, changed or made up panics.

use apache_avro::{
    Schema, reader::datum::GenericDatumReader, types::Value as Avro, writer::datum::GenericDatumWriter,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::Plan;
use crate::Value;

/// A type and a value of it, in one go, so that shrinking keeps them in step.
#[derive(Clone, Debug)]
struct Sample {
    /// The schema; named types are numbered when it is rendered.
    kind: Json,
    value: Avro,
}

fn sample(kind: Json, value: Avro) -> Sample {
    Sample { kind, value }
}

fn logical(base: &str, name: &str) -> Json {
    json!({"type": base, "logicalType": name})
}

fn leaf() -> impl Strategy<Value = Sample> {
    prop_oneof![
        Just(sample(json!("null"), Avro::Null)),
        any::<bool>().prop_map(|b| sample(json!("boolean"), Avro::Boolean(b))),
        any::<i32>().prop_map(|i| sample(json!("int"), Avro::Int(i))),
        any::<i64>().prop_map(|i| sample(json!("long"), Avro::Long(i))),
        any::<f32>().prop_map(|f| sample(json!("float"), Avro::Float(f))),
        any::<f64>().prop_map(|f| sample(json!("double"), Avro::Double(f))),
        any::<Vec<u8>>().prop_map(|b| sample(json!("bytes"), Avro::Bytes(b))),
        any::<String>().prop_map(|s| sample(json!("string"), Avro::String(s))),
        any::<[u8; 5]>().prop_map(|b| sample(json!({"type": "fixed", "size": 5}), Avro::Fixed(5, b.into()))),
        (0_u32..3).prop_map(|at| {
            let symbols = ["A", "B", "C"];
            let kind = json!({"type": "enum", "symbols": symbols});
            sample(kind, Avro::Enum(at, symbols[at as usize].into()))
        }),
        (-1_000_000..1_000_000).prop_map(|d| sample(logical("int", "date"), Avro::Date(d))),
        any::<i32>()
            .prop_map(|t| { sample(logical("long", "timestamp-millis"), Avro::TimestampMillis(t.into())) }),
        any::<i64>().prop_map(|t| sample(logical("long", "timestamp-nanos"), Avro::TimestampNanos(t))),
        any::<i64>().prop_map(|t| sample(logical("long", "time-micros"), Avro::TimeMicros(t))),
        any::<[u8; 12]>().prop_map(|d| {
            sample(json!({"type": "fixed", "size": 12, "logicalType": "duration"}), Avro::Duration(d.into()))
        }),
    ]
}

fn tree() -> impl Strategy<Value = Sample> {
    leaf().prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            // Lists and maps repeat one value: its type is what differs.
            (inner.clone(), 0_usize..4).prop_map(|(s, n)| {
                sample(json!({"type": "array", "items": s.kind}), Avro::Array(vec![s.value; n]))
            }),
            (inner.clone(), prop::collection::hash_set("[a-z]{0,3}", 0..4)).prop_map(|(s, keys)| {
                let entries = keys.into_iter().map(|key| (key, s.value.clone())).collect();
                sample(json!({"type": "map", "values": s.kind}), Avro::Map(entries))
            }),
            (inner.clone(), any::<bool>()).prop_filter_map("a union within a union", |(s, null)| {
                let optional = !s.kind.is_array() && s.kind != json!("null");
                let value = if null {
                    Avro::Union(0, Box::new(Avro::Null))
                } else {
                    Avro::Union(1, Box::new(s.value))
                };
                optional.then(|| sample(json!(["null", s.kind]), value))
            }),
            prop::collection::vec(inner, 0..5).prop_map(|fields| record(&fields)),
        ]
    })
}

fn record(fields: &[Sample]) -> Sample {
    let named = |at: usize| format!("f{at}");
    let kinds: Vec<_> =
        fields.iter().enumerate().map(|(at, f)| json!({"name": named(at), "type": f.kind})).collect();
    let values = fields.iter().enumerate().map(|(at, f)| (named(at), f.value.clone())).collect();
    sample(json!({"type": "record", "fields": kinds}), Avro::Record(values))
}

fn event() -> impl Strategy<Value = Sample> {
    prop::collection::vec(tree(), 1..5).prop_map(|fields| record(&fields))
}

/// Gives every named type a name of its own.
fn named(kind: &Json) -> Json {
    fn name(kind: &mut Json, next: &mut usize) {
        match kind {
            Json::Array(branches) => branches.iter_mut().for_each(|b| name(b, next)),
            Json::Object(object) => {
                let named = matches!(object["type"].as_str(), Some("record" | "enum" | "fixed"));
                if named && !object.contains_key("name") {
                    *next += 1;
                    object.insert("name".into(), json!(format!("T{next}")));
                }
                for part in ["fields", "items", "values", "type"] {
                    if let Some(inner) = object.get_mut(part) {
                        name(inner, next);
                    }
                }
            }
            _ => {}
        }
    }
    let mut kind = kind.clone();
    name(&mut kind, &mut 0);
    kind
}

fn parsed(kind: &Json) -> Schema {
    Schema::parse(&named(kind)).expect("a valid schema")
}

fn datum(schema: &Schema, value: &Avro) -> Vec<u8> {
    GenericDatumWriter::builder(schema)
        .build()
        .expect("valid")
        .write_value_to_vec(value.clone())
        .expect("fits")
}

/// The library's value as ours. Entries are sorted, because the library's maps have no order.
fn ours(value: Avro) -> Value {
    let record = |entries: Vec<(String, Avro)>| {
        sorted(Value::Record(entries.into_iter().map(|(k, v)| (k.into(), ours(v))).collect()))
    };
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(b) => Value::Bool(b),
        Avro::Int(i) | Avro::TimeMillis(i) => Value::Int(i.into()),
        Avro::Long(i) | Avro::TimeMicros(i) => Value::Int(i),
        Avro::Float(f) => Value::Float(f.into()),
        Avro::Double(f) => Value::Float(f),
        Avro::Bytes(b) | Avro::Fixed(_, b) => Value::Bytes(b.into()),
        Avro::String(s) | Avro::Enum(_, s) => Value::Text(s.into()),
        Avro::Union(_, inner) => ours(*inner),
        Avro::Array(items) => Value::List(items.into_iter().map(ours).collect()),
        Avro::Map(entries) => record(entries.into_iter().collect()),
        Avro::Record(fields) => record(fields),
        Avro::Date(d) => Value::Timestamp(i64::from(d) * 86_400_000_000),
        Avro::TimestampMillis(t) => Value::Timestamp(t * 1000),
        Avro::TimestampNanos(t) => Value::Timestamp(t.div_euclid(1000)),
        Avro::Duration(d) => super::read::duration(&<[u8; 12]>::from(d)),
        other => panic!("{other:?} is not generated"),
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Record(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(name, v)| (name, sorted(v))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Record(fields)
        }
        Value::List(items) => Value::List(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn by_the_library(writer: &Schema, reader: Option<&Schema>, mut datum: &[u8]) -> Option<Value> {
    let read = GenericDatumReader::builder(writer).maybe_reader_schema(reader).build().expect("valid");
    Some(ours(read.read_value(&mut datum).ok()?)).filter(|_| datum.is_empty())
}

/// As text, because NaN is not equal to itself.
fn shown(value: &Value) -> String {
    format!("{value:?}")
}

/// Another version of a named record: fields may be promoted, dropped and reversed, and one is added.
fn evolved(kind: &Json, changes: u32) -> Json {
    let mut fields: Vec<Json> = kind["fields"].as_array().expect("fields").clone();
    for (at, field) in fields.iter_mut().enumerate() {
        let promoted = match (field["type"].as_str(), changes >> (2 * at) & 3) {
            (Some("int"), 1) => "long",
            (Some("int" | "long" | "float"), 2 | 3) => "double",
            _ => continue,
        };
        field["type"] = json!(promoted);
    }
    if changes & (1 << 20) != 0 {
        fields.reverse();
    }
    if changes & (1 << 21) != 0 {
        fields.pop();
    }
    fields.push(json!({"name": "added", "type": ["null", "string"], "default": null}));
    json!({"type": "record", "name": kind["name"], "fields": fields})
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_the_library_writes_is_read_as_the_library_reads_it(event in event()) {
        let schema = parsed(&event.kind);
        let datum = datum(&schema, &event.value);
        let read = Plan::new(&schema, &schema).expect("same").read(&datum).expect("valid");
        let expected = by_the_library(&schema, None, &datum).expect("valid");
        prop_assert_eq!(shown(&sorted(read)), shown(&expected));
    }

    #[test]
    fn another_version_is_resolved_as_the_library_resolves_it(
        fields in prop::collection::vec(leaf(), 1..6), changes in any::<u32>(),
    ) {
        let event = record(&fields);
        let kind = named(&event.kind);
        let (writer, reader) = (parsed(&kind), parsed(&evolved(&kind, changes)));
        let datum = datum(&writer, &event.value);
        let read = Plan::new(&writer, &reader).expect("compatible").read(&datum).expect("valid");
        let expected = by_the_library(&writer, Some(&reader), &datum).expect("valid");
        prop_assert_eq!(shown(&sorted(read)), shown(&expected));
    }

    #[test]
    fn a_datum_that_is_cut_off_anywhere_is_refused(event in event(), at in any::<prop::sample::Index>()) {
        let schema = parsed(&event.kind);
        let datum = datum(&schema, &event.value);
        prop_assume!(!datum.is_empty());
        let cut = &datum[..at.index(datum.len())];
        prop_assert!(Plan::new(&schema, &schema).expect("same").read(cut).is_err());
    }

    #[test]
    fn changed_bytes_are_refused_or_read_as_the_library_reads_them(
        event in event(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let schema = parsed(&event.kind);
        let mut datum = datum(&schema, &event.value);
        prop_assume!(!datum.is_empty());
        for (at, byte) in changes {
            let at = at.index(datum.len());
            datum[at] = byte;
        }
        if let Ok(read) = Plan::new(&schema, &schema).expect("same").read(&datum) {
            let expected = by_the_library(&schema, None, &datum).expect("valid for us");
            prop_assert_eq!(shown(&sorted(read)), shown(&expected));
        }
    }

    #[test]
    fn what_only_some_fields_are_read_of_is_refused_or_read_as_all_of_it(
        event in event(), evolves in any::<Option<u32>>(), wanted in any::<u8>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let kind = named(&event.kind);
        let writer = parsed(&kind);
        let reader = evolves.map_or_else(|| parsed(&kind), |changes| parsed(&evolved(&kind, changes)));
        let Ok(all) = Plan::new(&writer, &reader) else { return Ok(()) };
        let is_wanted = |name: &str| match name.strip_prefix('f').and_then(|at| at.parse::<u32>().ok()) {
            Some(at) => wanted & (1 << (at % 8)) != 0,
            None => wanted & 1 != 0,
        };
        let some = Plan::new(&writer, &reader).expect("as before").only(&is_wanted);
        let mut datum = datum(&writer, &event.value);
        for (at, byte) in changes {
            if !datum.is_empty() {
                let at = at.index(datum.len());
                datum[at] = byte;
            }
        }
        let expected = all.read(&datum).map(|value| match value {
            Value::Record(fields) => Value::Record(fields.into_iter().filter(|(name, _)| is_wanted(name)).collect()),
            other => other,
        });
        match (some.read(&datum), expected) {
            (Ok(some), Ok(expected)) => prop_assert_eq!(shown(&some), shown(&expected)),
            (Err(some), Err(expected)) => prop_assert_eq!(some, expected),
            (some, expected) => prop_assert!(false, "{some:?} where all of it is {expected:?}"),
        }
    }

    #[test]
    fn made_up_bytes_never_panic(event in event(), datum in any::<Vec<u8>>()) {
        let schema = parsed(&event.kind);
        let _ = Plan::new(&schema, &schema).expect("same").read(&datum);
    }
}
