//! Schemas that anybody may have registered: parsed, resolved against each other, and read under.

use std::sync::Arc;

use twinlane_record::{EventDecoder, SchemaEntry, SchemaFolder};

use crate::{shipped::any_event, split};

const SUBJECT: &str = "s";

/// The writer's schema, the reader's, and a datum. Without a second separator, the one schema is both.
pub fn avro_schema(data: &[u8]) {
    let (writer, rest) = split(data);
    let (reader, datum) = match rest.map(split) {
        None => (writer, None),
        Some((datum, None)) => (writer, Some(datum)),
        Some((reader, datum)) => (reader, datum),
    };
    let mut folder = SchemaFolder::default();
    for (version, schema) in [(1, writer), (2, reader)] {
        let Ok(text) = std::str::from_utf8(schema) else { return };
        let entry = SchemaEntry { id: version, subject: SUBJECT.into(), version, file: "fuzz".into() };
        if let Err(error) = folder.add(entry, text) {
            return assert!(!error.to_string().is_empty(), "a refusal without words");
        }
    }
    let subject: Arc<str> = SUBJECT.into();
    let decoder = match EventDecoder::avro(&folder, &[subject]) {
        Ok(decoder) => decoder,
        Err(error) => return assert!(!error.to_string().is_empty(), "a refusal without words"),
    };
    let incompatible = decoder.incompatible();
    for id in [1_u32, 2] {
        let payload = [&[0], &id.to_be_bytes()[..], datum.unwrap_or_default()].concat();
        match decoder.decode(&payload) {
            Ok(event) => {
                assert!(id == 2 || incompatible.is_empty(), "read although incompatible");
                // A schema may be of anything; an event for rules and features is a record.
                if matches!(event.value, twinlane_record::Value::Record(_)) {
                    any_event(&event.value);
                }
            }
            Err(rejection) => assert!(!rejection.detail.is_empty(), "a refusal without words"),
        }
    }
}
