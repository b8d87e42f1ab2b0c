//! From a source's bytes to an [`Event`]: Avro under the writer's schema, read as the newest version of its
//! subject, or JSON.

use std::{collections::HashMap, sync::Arc};

use crate::{Event, Reason, Rejection, SchemaError, SchemaFolder, avro::Plan, json};

/// Decodes the values of one source.
#[derive(Debug)]
pub struct EventDecoder(Kind);

#[derive(Debug)]
enum Kind {
    Avro(HashMap<u32, Writer>),
    Json,
}

/// What is known of one schema id.
#[derive(Debug)]
struct Writer {
    subject: Arc<str>,
    version: u32,
    /// Version that it is read as.
    newest: u32,
    /// How, or why the newest version cannot read this one at all.
    plan: Result<Plan, Rejection>,
}

/// First byte of Avro in the Confluent wire format.
const MAGIC: u8 = 0;

impl EventDecoder {
    /// For Avro in the Confluent wire format. Only the named subjects are accepted.
    pub fn avro(folder: &SchemaFolder, subjects: &[Arc<str>]) -> Result<Self, SchemaError> {
        let mut writers = HashMap::new();
        for subject in subjects {
            let newest = folder.require(subject)?;
            for written in folder.versions(subject) {
                let plan = Plan::new(&written.schema, &newest.schema);
                if let (true, Err(why)) = (written.id == newest.id, &plan) {
                    // It cannot even read itself.
                    let (subject, what) = (subject.to_string(), why.detail.clone());
                    return Err(SchemaError::Unsupported { subject, what });
                }
                let (version, newest) = (written.version, newest.version);
                writers.insert(written.id, Writer { subject: subject.clone(), version, newest, plan });
            }
        }
        Ok(Self(Kind::Avro(writers)))
    }

    /// Versions whose events the newest version cannot read, and why: every event that is written under one
    /// becomes a dead letter.
    pub fn incompatible(&self) -> Vec<String> {
        let Kind::Avro(writers) = &self.0 else { return Vec::new() };
        let mut found: Vec<_> = writers.values().filter(|w| w.plan.is_err()).collect();
        found.sort_by_key(|w| (w.subject.clone(), w.version));
        found.iter().filter_map(|w| Some(w.refuse(w.plan.as_ref().err()?).detail)).collect()
    }

    /// The same, for a reader that looks at no other fields of an event than these. What it refuses is the same; what
    /// it leaves out of an event costs little.
    #[must_use]
    pub fn only(self, is_wanted: &dyn Fn(&str) -> bool) -> Self {
        let Kind::Avro(writers) = self.0 else { return self };
        let only = |writer: Writer| Writer { plan: writer.plan.map(|plan| plan.only(is_wanted)), ..writer };
        Self(Kind::Avro(writers.into_iter().map(|(id, writer)| (id, only(writer))).collect()))
    }

    /// For JSON objects.
    pub fn json() -> Self {
        Self(Kind::Json)
    }

    /// The schema's name, from the first five bytes alone. JSON has none.
    pub fn schema_name(&self, payload: &[u8]) -> Result<Option<&Arc<str>>, Rejection> {
        match &self.0 {
            Kind::Avro(writers) => Ok(Some(&writer(writers, payload)?.0.subject)),
            Kind::Json => Ok(None),
        }
    }

    /// The event's fields. Never panics, and allocates in proportion to the payload, whatever the bytes.
    pub fn decode(&self, payload: &[u8]) -> Result<Event, Rejection> {
        match &self.0 {
            Kind::Avro(writers) => {
                let (writer, datum) = writer(writers, payload)?;
                let plan = writer.plan.as_ref().map_err(|why| writer.refuse(why))?;
                let value = plan.read(datum).map_err(|why| writer.refuse(&why))?;
                Ok(Event { schema: Some(writer.subject.clone()), value })
            }
            Kind::Json if payload.is_empty() => Err(empty()),
            Kind::Json => Ok(Event { schema: None, value: json::read(payload)? }),
        }
    }
}

impl Writer {
    /// Says which schema the refused bytes came under.
    fn refuse(&self, why: &Rejection) -> Rejection {
        let Self { subject, version, newest, .. } = self;
        let detail = match why.reason {
            Reason::IncompatibleSchema => {
                format!("version {version} of `{subject}` cannot be read as version {newest}: {}", why.detail)
            }
            _ => format!("not a valid `{subject}` of version {version}: {}", why.detail),
        };
        Rejection::new(why.reason, detail)
    }
}

fn writer<'w, 'b>(
    writers: &'w HashMap<u32, Writer>,
    payload: &'b [u8],
) -> Result<(&'w Writer, &'b [u8]), Rejection> {
    let (id, datum) = split(payload)?;
    let writer = writers.get(&id).ok_or_else(|| {
        let detail = format!("schema id {id} is none of this source's registered schemas");
        Rejection::new(Reason::UnknownSchema, detail)
    })?;
    Ok((writer, datum))
}

/// Schema id and datum of a payload in the wire format.
pub(crate) fn split(payload: &[u8]) -> Result<(u32, &[u8]), Rejection> {
    let malformed = |detail: String| Rejection::new(Reason::MalformedPayload, detail);
    match payload {
        [] => Err(empty()),
        [MAGIC, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [MAGIC, ..] => Err(malformed(format!("{} bytes are too short for a schema id", payload.len()))),
        [other, ..] => Err(malformed(format!(
            "the first byte is {other:#04x}; Avro in the wire format begins with 0x00"
        ))),
    }
}

fn empty() -> Rejection {
    Rejection::new(Reason::EmptyPayload, "the payload has no bytes")
}
