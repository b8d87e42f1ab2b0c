//! From a source's bytes to an [`Event`]: Avro under the writer's schema, read as the newest version of its
//! subject, or JSON. What the newest versions are is settled when the decoder is made; writers' schemas may be learned
//! later.

use std::{collections::HashMap, fmt, sync::Arc};

use crate::{
    Event, ForeignSchema, Reason, RegisteredSchema, Rejection, SchemaError, SchemaFolder, avro::Plan, json,
};

/// Decodes the values of one source.
#[derive(Clone, Debug)]
pub struct EventDecoder(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Avro(Avro),
    Json,
}

#[derive(Clone, Debug)]
struct Avro {
    /// The newest version of each subject.
    readers: Vec<RegisteredSchema>,
    writers: HashMap<u32, Writer>,
    /// Why an id has no writer.
    refused: HashMap<u32, Rejection>,
}

/// What is known of one schema id.
#[derive(Clone, Debug)]
struct Writer {
    subject: Arc<str>,
    written: Written,
    /// Version that it is read as.
    newest: u32,
    /// How, or why the newest version cannot read this one at all.
    plan: Result<Plan, Rejection>,
}

/// How a writer's schema is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Written {
    Version(u32),
    /// One that was learned: registries number versions as they like.
    Id(u32),
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Written::Version(version) => write!(f, "version {version}"),
            Written::Id(id) => write!(f, "schema id {id}"),
        }
    }
}

/// First byte of Avro in the Confluent wire format.
const MAGIC: u8 = 0;

impl EventDecoder {
    /// For Avro in the Confluent wire format. Only the named subjects are accepted.
    pub fn avro(folder: &SchemaFolder, subjects: &[Arc<str>]) -> Result<Self, SchemaError> {
        let (mut readers, mut writers) = (Vec::new(), HashMap::new());
        for subject in subjects {
            let newest = folder.require(subject)?;
            for written in folder.versions(subject) {
                let plan = Plan::new(&written.schema, &newest.schema);
                if let (true, Err(why)) = (written.id == newest.id, &plan) {
                    // It cannot even read itself.
                    let (subject, what) = (subject.to_string(), why.detail.clone());
                    return Err(SchemaError::Unsupported { subject, what });
                }
                let (version, newest) = (Written::Version(written.version), newest.version);
                writers
                    .insert(written.id, Writer { subject: subject.clone(), written: version, newest, plan });
            }
            readers.push(newest.clone());
        }
        // What belongs to another source needs no asking.
        let others = folder.ids().filter(|id| !writers.contains_key(id));
        let refused = others.map(|id| (id, unknown(id))).collect();
        Ok(Self(Kind::Avro(Avro { readers, writers, refused })))
    }

    /// Versions whose events the newest version cannot read, and why: every event that is written under one
    /// becomes a dead letter.
    pub fn incompatible(&self) -> Vec<String> {
        let Kind::Avro(Avro { writers, .. }) = &self.0 else { return Vec::new() };
        let mut found: Vec<_> = writers.values().filter(|w| w.plan.is_err()).collect();
        found.sort_by_key(|w| (w.subject.clone(), w.written));
        found.iter().filter_map(|w| Some(w.refuse(w.plan.as_ref().err()?).detail)).collect()
    }

    /// The same, for a reader that looks at no other fields of an event than these. What it refuses is the same; what
    /// it leaves out of an event costs little.
    #[must_use]
    pub fn only(self, is_wanted: &dyn Fn(&str) -> bool) -> Self {
        let Kind::Avro(avro) = self.0 else { return self };
        let writers = avro.writers.into_iter().map(|(id, writer)| (id, writer.only(is_wanted))).collect();
        Self(Kind::Avro(Avro { writers, ..avro }))
    }

    /// The id of a payload of which nothing is known, neither a schema nor why there is none.
    pub fn unknown_id(&self, payload: &[u8]) -> Option<u32> {
        let Kind::Avro(Avro { writers, refused, .. }) = &self.0 else { return None };
        let (id, _) = split(payload).ok()?;
        (!writers.contains_key(&id) && !refused.contains_key(&id)).then_some(id)
    }

    /// From now on payloads with this id are read as the subject whose newest version has the record's name, or calls it
    /// an alias; of several, the one with the same namespace. With `is_wanted`, as [`EventDecoder::only`] does. Gives
    /// why none of them can be read.
    pub fn learn(
        &mut self,
        id: u32,
        schema: &ForeignSchema,
        is_wanted: Option<&dyn Fn(&str) -> bool>,
    ) -> Option<String> {
        let Kind::Avro(Avro { readers, writers, refused }) = &mut self.0 else { return None };
        refused.remove(&id);
        let Some(newest) = schema.reader_among(readers) else {
            let subjects: Vec<_> = readers.iter().map(|reader| &*reader.subject).collect();
            let detail = format!(
                "schema id {id} is {}, and this source's schemas are: {}",
                schema.name(),
                subjects.join(", ")
            );
            refused.insert(id, Rejection::new(Reason::UnknownSchema, detail.clone()));
            return Some(detail);
        };
        let plan = Plan::new(schema.avro(), &newest.schema);
        let (subject, written) = (newest.subject.clone(), Written::Id(id));
        let writer = Writer { subject, written, newest: newest.version, plan };
        let why = writer.plan.as_ref().err().map(|why| writer.refuse(why).detail);
        writers.insert(
            id,
            match is_wanted {
                Some(is_wanted) => writer.only(is_wanted),
                None => writer,
            },
        );
        why
    }

    /// Until [`EventDecoder::forget`] or [`EventDecoder::learn`], payloads with this id are refused so.
    pub fn refuse(&mut self, id: u32, why: Rejection) {
        if let Kind::Avro(avro) = &mut self.0 {
            avro.refused.insert(id, why);
        }
    }

    /// Forgets why an id was refused; a schema that is known stays known.
    pub fn forget(&mut self, id: u32) {
        if let Kind::Avro(avro) = &mut self.0 {
            avro.refused.remove(&id);
        }
    }

    /// For JSON objects.
    pub fn json() -> Self {
        Self(Kind::Json)
    }

    /// The schema's name, from the first five bytes alone. JSON has none.
    pub fn schema_name(&self, payload: &[u8]) -> Result<Option<&Arc<str>>, Rejection> {
        match &self.0 {
            Kind::Avro(avro) => Ok(Some(&avro.writer(payload)?.0.subject)),
            Kind::Json => Ok(None),
        }
    }

    /// The event's fields. Never panics, and allocates in proportion to the payload, whatever the bytes.
    pub fn decode(&self, payload: &[u8]) -> Result<Event, Rejection> {
        match &self.0 {
            Kind::Avro(avro) => {
                let (writer, datum) = avro.writer(payload)?;
                let plan = writer.plan.as_ref().map_err(|why| writer.refuse(why))?;
                let value = plan.read(datum).map_err(|why| writer.refuse(&why))?;
                Ok(Event { schema: Some(writer.subject.clone()), value })
            }
            Kind::Json if payload.is_empty() => Err(empty()),
            Kind::Json => Ok(Event { schema: None, value: json::read(payload)? }),
        }
    }
}

impl Avro {
    fn writer<'w, 'b>(&'w self, payload: &'b [u8]) -> Result<(&'w Writer, &'b [u8]), Rejection> {
        let (id, datum) = split(payload)?;
        match self.writers.get(&id) {
            Some(writer) => Ok((writer, datum)),
            None => Err(self.refused.get(&id).cloned().unwrap_or_else(|| unknown(id))),
        }
    }
}

impl Writer {
    fn only(self, is_wanted: &dyn Fn(&str) -> bool) -> Self {
        Self { plan: self.plan.map(|plan| plan.only(is_wanted)), ..self }
    }

    /// Says which schema the refused bytes came under.
    fn refuse(&self, why: &Rejection) -> Rejection {
        let Self { subject, written, newest, .. } = self;
        let detail = match why.reason {
            Reason::IncompatibleSchema => {
                format!("{written} of `{subject}` cannot be read as version {newest}: {}", why.detail)
            }
            _ => format!("not a valid `{subject}` of {written}: {}", why.detail),
        };
        Rejection::new(why.reason, detail)
    }
}

fn unknown(id: u32) -> Rejection {
    let detail = format!("schema id {id} is none of this source's registered schemas");
    Rejection::new(Reason::UnknownSchema, detail)
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
