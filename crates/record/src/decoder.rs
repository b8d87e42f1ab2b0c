//! From a source's bytes to an [`Event`]: Avro under the writer's schema, read as the newest version of its
//! subject, or JSON.

use std::{collections::HashMap, sync::Arc};

use apache_avro::schema_compatibility::SchemaCompatibility;

use crate::{Event, Reason, Rejection, SchemaError, SchemaFolder, Value, shape::Shape};

/// Decodes the values of one source.
#[derive(Debug)]
pub struct EventDecoder(Kind);

#[derive(Debug)]
enum Kind {
    Avro(HashMap<u32, Plan>),
    Json,
}

/// How to read what one writer wrote.
#[derive(Debug)]
struct Plan {
    subject: Arc<str>,
    writer: Shape,
    /// `None` when the writer's is the newest version itself.
    reader: Option<Shape>,
    /// Why the reader's schema cannot read the writer's, known from the schemas alone.
    incompatible: Option<String>,
}

const MAGIC: u8 = 0;
const PREFIX: usize = 5;

impl EventDecoder {
    /// For Avro in the Confluent wire format. Only the named subjects are accepted.
    pub fn avro(folder: &SchemaFolder, subjects: &[Arc<str>]) -> Result<Self, SchemaError> {
        let mut plans = HashMap::new();
        for subject in subjects {
            let latest = folder.require(subject)?;
            for written in folder.versions(subject) {
                let newest = written.id == latest.id;
                let incompatible = (!newest)
                    .then(|| SchemaCompatibility::can_read(&written.schema, &latest.schema).err())
                    .flatten()
                    .map(|why| {
                        let (from, to) = (written.version, latest.version);
                        format!("version {from} of `{subject}` cannot be read as version {to}: {why}")
                    });
                let compiled = |schema| {
                    Shape::compile(schema)
                        .map_err(|what| SchemaError::Unsupported { subject: subject.to_string(), what })
                };
                let plan = Plan {
                    subject: subject.clone(),
                    writer: compiled(&written.schema)?,
                    reader: if newest { None } else { Some(compiled(&latest.schema)?) },
                    incompatible,
                };
                plans.insert(written.id, plan);
            }
        }
        Ok(Self(Kind::Avro(plans)))
    }

    /// For JSON objects.
    pub fn json() -> Self {
        Self(Kind::Json)
    }

    /// The schema's name, from the first five bytes alone. JSON has none.
    pub fn schema_name(&self, payload: &[u8]) -> Result<Option<&Arc<str>>, Rejection> {
        match &self.0 {
            Kind::Avro(plans) => Ok(Some(&plan(plans, payload)?.0.subject)),
            Kind::Json => Ok(None),
        }
    }

    /// The event's fields. Never panics, and allocates in proportion to the payload,
    /// whatever the bytes.
    pub fn decode(&self, payload: &[u8]) -> Result<Event, Rejection> {
        if payload.is_empty() {
            return Err(Rejection::new(Reason::EmptyPayload, "the payload has no bytes"));
        }
        match &self.0 {
            Kind::Avro(plans) => avro(plans, payload),
            Kind::Json => json(payload),
        }
    }
}

fn plan<'p, 'b>(plans: &'p HashMap<u32, Plan>, payload: &'b [u8]) -> Result<(&'p Plan, &'b [u8]), Rejection> {
    if payload.is_empty() {
        return Err(Rejection::new(Reason::EmptyPayload, "the payload has no bytes"));
    }
    let malformed = |detail: String| Rejection::new(Reason::MalformedPayload, detail);
    if payload[0] != MAGIC {
        return Err(malformed(format!(
            "the first byte is {:#04x}; Avro in the wire format begins with 0x00",
            payload[0]
        )));
    }
    let Some((prefix, datum)) = payload.split_at_checked(PREFIX) else {
        return Err(malformed(format!("{} bytes are too short for a schema id", payload.len())));
    };
    let id = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    let plan = plans.get(&id).ok_or_else(|| {
        Rejection::new(
            Reason::UnknownSchema,
            format!("schema id {id} is none of this source's registered schemas"),
        )
    })?;
    Ok((plan, datum))
}

fn avro(plans: &HashMap<u32, Plan>, payload: &[u8]) -> Result<Event, Rejection> {
    let (plan, datum) = plan(plans, payload)?;
    if let Some(why) = &plan.incompatible {
        return Err(Rejection::new(Reason::IncompatibleSchema, why.clone()));
    }
    let written = plan.writer.read(datum).map_err(|why| {
        Rejection::new(Reason::MalformedPayload, format!("not a valid `{}`: {why}", plan.subject))
    })?;
    let value = match &plan.reader {
        None => written,
        // The bytes were sound under the writer's schema, so what fails now is a matter of versions.
        Some(reader) => reader.resolve(written).map_err(|why| {
            Rejection::new(
                Reason::IncompatibleSchema,
                format!("cannot be read as the newest `{}`: {why}", plan.subject),
            )
        })?,
    };
    Ok(Event { schema: Some(plan.subject.clone()), value })
}

fn json(payload: &[u8]) -> Result<Event, Rejection> {
    let value: serde_json::Value = serde_json::from_slice(payload)
        .map_err(|e| Rejection::new(Reason::MalformedPayload, format!("not valid JSON: {e}")))?;
    if !value.is_object() {
        return Err(Rejection::new(Reason::MalformedPayload, "not a JSON object"));
    }
    Ok(Event { schema: None, value: from_json(value) })
}

fn from_json(value: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(b),
        Json::Number(n) => {
            n.as_i64().map_or_else(|| Value::Float(n.as_f64().unwrap_or(f64::NAN)), Value::Int)
        }
        Json::String(s) => Value::Text(s.into()),
        Json::Array(items) => Value::List(items.into_iter().map(from_json).collect()),
        Json::Object(fields) => {
            Value::Record(fields.into_iter().map(|(k, v)| (k.into(), from_json(v))).collect())
        }
    }
}
