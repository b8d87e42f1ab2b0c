//! A decoded event: one dynamic value for Avro and JSON alike, so that rules and features read both the
//! same way. Unlike JSON it can hold NaN, bytes and timestamps.

use std::sync::Arc;

use bytes::Bytes;

/// Records, lists and maps of an event within each other. A field that is carried along stands deeper in the scored
/// event than in its own, and what reads JSON stops at 128, serde_json for one.
pub(crate) const MAX_DEPTH: usize = 100;

/// A decoded field, list or record.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Avro `null`, JSON `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// Avro `int`, `long` and `time-*` (in their unit), JSON numbers without fraction that fit.
    Int(i64),
    /// Avro `float`, `double` and `decimal`, other JSON numbers. May be NaN or infinite.
    Float(f64),
    /// Text, Avro enum symbols, UUIDs.
    Text(Arc<str>),
    /// Avro `bytes` and `fixed`.
    Bytes(Bytes),
    /// An instant, microseconds since the Unix epoch, UTC (Avro `date`, `timestamp-*`, and
    /// `local-timestamp-*` as if it were UTC).
    Timestamp(i64),
    /// Avro arrays, JSON arrays.
    List(Vec<Value>),
    /// Avro records, maps and `duration`s (`months`, `days`, `millis`), JSON objects; in the order of the
    /// reader's schema or of the document.
    Record(Vec<(Arc<str>, Value)>),
}

impl Value {
    /// A field of a record, by name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Record(fields) => fields.iter().find(|(n, _)| &**n == name).map(|(_, v)| v),
            _ => None,
        }
    }

    /// A field by dotted path (`card.country`).
    pub fn path(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(self, |value, name| value.get(name))
    }

    /// What this is, in words that an error can use: `a string`, `a number`, …
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::Bytes(_) => "bytes",
            Value::Timestamp(_) => "a timestamp",
            Value::List(_) => "a list",
            Value::Record(_) => "a record",
        }
    }
}

/// An event after decoding: which schema it came under, and its fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Name of the reader schema it was resolved to (`order`); `None` for JSON without one.
    pub schema: Option<Arc<str>>,
    /// Its fields, a [`Value::Record`] for every event that decodes.
    pub value: Value,
}
