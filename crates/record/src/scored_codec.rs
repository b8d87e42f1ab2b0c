//! Writes scored events as Avro (`schemas/scored-event.v1.avsc`) or JSON, and reads them back.
//!
//! The Avro side is written by hand: the schema is ours and fixed, this runs once per event, and building a
//! generic value first would cost several times the encoding. A test reads every shape back through
//! apache-avro and the schema file.

use std::sync::Arc;

use apache_avro::Schema;
use bytes::BufMut as _;

use crate::{
    Answerer, EventDecoder, Format, Output, Reason, Rejection, SchemaEntry, SchemaError, SchemaFolder,
    ScoredEvent, Scores, Value, decoder::split, json, scored_json,
};

/// Subject of the scored event in the schema folder.
const SUBJECT: &str = "scored-event";
/// What [`Writer`] writes.
const SCHEMA: &str = include_str!("../../../schemas/scored-event.v1.avsc");

/// Encodes and decodes scored events of one topic.
#[derive(Clone, Debug)]
pub struct ScoredEventCodec(Kind);

/// An [`Answerer`] as one codec writes it, for any number of answers of that codec.
#[derive(Clone, Debug)]
pub struct Prepared(Vec<u8>);

#[derive(Clone, Debug)]
enum Kind {
    Avro { id: u32, decoder: Arc<EventDecoder> },
    Json,
}

impl ScoredEventCodec {
    /// The Avro schema of what is written, for a registry.
    pub const SCHEMA: &str = SCHEMA;

    /// Avro under the id that a registry gave to [`ScoredEventCodec::SCHEMA`].
    pub fn with_id(id: u32) -> Result<Self, SchemaError> {
        let mut folder = SchemaFolder::default();
        let entry = SchemaEntry { id, subject: SUBJECT.into(), version: 1, file: "scored-event".into() };
        folder.add(entry, SCHEMA)?;
        Self::new(Format::Avro, &folder)
    }

    /// Avro needs the folder to know the subject `scored-event`, with the version that this build writes
    /// among its versions.
    pub fn new(format: Format, folder: &SchemaFolder) -> Result<Self, SchemaError> {
        Ok(Self(match format {
            Format::Json => Kind::Json,
            Format::Avro => {
                folder.require(SUBJECT)?;
                let ours = Schema::parse_str(SCHEMA).expect("a test parses it");
                let written = folder.versions(SUBJECT).find(|version| *version.schema == ours);
                let id = written.ok_or(SchemaError::NotOurs { subject: SUBJECT })?.id;
                let decoder = EventDecoder::avro(folder, &[SUBJECT.into()])?;
                Kind::Avro { id, decoder: Arc::new(decoder) }
            }
        }))
    }

    /// Writes what is the same in many answers.
    pub fn prepare(&self, by: &Answerer<'_>) -> Prepared {
        let mut written = Vec::new();
        match &self.0 {
            Kind::Avro { .. } => avro_answerer(by, &mut Writer(&mut written)),
            Kind::Json => scored_json::write_answerer(by, &mut written),
        }
        Prepared(written)
    }

    /// Appends the record's value. What was prepared must be of this codec.
    pub fn write(&self, by: &Prepared, scores: &Scores<'_>, out: &mut Vec<u8>) {
        match &self.0 {
            Kind::Avro { id, .. } => avro(*id, by, scores, out),
            Kind::Json => scored_json::write(&by.0, scores, out),
        }
    }

    /// The record's value.
    pub fn encode(&self, event: &ScoredEvent) -> Vec<u8> {
        let (answerer, scores) = event.parts();
        let mut out = Vec::new();
        self.write(&self.prepare(&answerer), &scores, &mut out);
        out
    }

    /// Reads a scored event back. What its topic's format lacks comes back as what it was written as: Avro
    /// carries lists and records as JSON text, JSON carries bytes as hexadecimal text, and both carry
    /// timestamps as milliseconds.
    pub fn decode(&self, payload: &[u8]) -> Result<ScoredEvent, Rejection> {
        let value = match &self.0 {
            Kind::Avro { id, decoder } => match decoder.schema_name(payload) {
                // The folder has no scored event of this id, since it is a registry's: it is what we write.
                Err(why) if why.reason == Reason::UnknownSchema => {
                    let datum = split(payload)?.1;
                    decoder.decode(&[&[0], &id.to_be_bytes()[..], datum].concat())?.value
                }
                _ => decoder.decode(payload)?.value,
            },
            Kind::Json => json::read_scored(payload)?,
        };
        scored_json::from_value(&value)
            .map_err(|why| Rejection::new(Reason::MalformedPayload, format!("not a scored event: {why}")))
    }

    /// Reads a scored event as JSON, for people and tools.
    pub fn read(&self, payload: &[u8]) -> Result<serde_json::Value, Rejection> {
        let text = Self(Kind::Json).encode(&self.decode(payload)?);
        serde_json::from_slice(&text).map_err(|e| Rejection::new(Reason::MalformedPayload, e.to_string()))
    }
}

fn avro(id: u32, by: &Prepared, scores: &Scores<'_>, out: &mut Vec<u8>) {
    let mut out = Writer(out);
    out.0.put_u8(0);
    out.0.put_u32(id);
    out.text(scores.event_id);
    out.0.put_slice(&by.0);
    out.text(scores.outcome.as_str());
    out.map(scores.outputs, Writer::output);
    out.map(scores.carried, Writer::carried);
    out.0.put_u8(scores.degraded.into());
    out.text(&scores.source.topic);
    out.long(scores.source.partition.into());
    out.long(scores.source.offset);
    match scores.event_time_ms {
        None => out.long(0),
        Some(time) => {
            out.long(1);
            out.long(readable(time));
        }
    }
    out.long(readable(scores.scored_time_ms));
}

/// The texts between the event's name and the outcome.
fn avro_answerer(by: &Answerer<'_>, out: &mut Writer<'_>) {
    for text in [by.pipeline, by.route, by.lane, by.task, by.variant, by.model_digest, by.device] {
        out.text(text);
    }
}

/// A time in milliseconds that every reader can read. A producer may write any number, and so may whoever wrote the JSON
/// that an event was read from; readers that count microseconds refuse what lies beyond these years.
fn readable(time_ms: i64) -> i64 {
    time_ms.clamp(i64::MIN / 1000, i64::MAX / 1000)
}

/// Avro's binary encoding, as far as our schema needs it.
struct Writer<'o>(&'o mut Vec<u8>);

impl Writer<'_> {
    /// Zigzag, then base 128, least significant first.
    fn long(&mut self, number: i64) {
        let mut rest = ((number << 1) ^ (number >> 63)) as u64;
        while rest >= 0x80 {
            self.0.put_u8(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.put_u8(rest as u8);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.long(bytes.len() as i64);
        self.0.put_slice(bytes);
    }

    /// A map is one block of entries and an empty block.
    fn map<T>(&mut self, entries: &[(Arc<str>, T)], mut write: impl FnMut(&mut Self, &T)) {
        if !entries.is_empty() {
            self.long(entries.len() as i64);
            for (name, value) in entries {
                self.text(name);
                write(self, value);
            }
        }
        self.long(0);
    }

    fn output(&mut self, output: &Output) {
        match output {
            Output::Class { label, scores } => {
                self.long(0);
                self.text(label);
                self.map(scores, |out, score| out.0.put_f32_le(*score));
            }
            Output::Number(number) => {
                self.long(1);
                self.0.put_f64_le(*number);
            }
            Output::Vector(vector) => {
                self.long(2);
                if !vector.is_empty() {
                    self.long(vector.len() as i64);
                    vector.iter().for_each(|&x| self.0.put_f32_le(x));
                }
                self.long(0);
            }
        }
    }

    fn carried(&mut self, value: &Value) {
        match value {
            Value::Null => self.long(0),
            Value::Bool(b) => {
                self.long(1);
                self.0.put_u8((*b).into());
            }
            Value::Int(i) => {
                self.long(2);
                self.long(*i);
            }
            Value::Timestamp(micros) => {
                self.long(2);
                self.long(micros.div_euclid(1000));
            }
            Value::Float(f) => {
                self.long(3);
                self.0.put_f64_le(*f);
            }
            Value::Text(text) => {
                self.long(4);
                self.text(text);
            }
            Value::Bytes(bytes) => {
                self.long(5);
                self.bytes(bytes);
            }
            Value::List(_) | Value::Record(_) => {
                self.long(4);
                self.text(&scored_json::text(value));
            }
        }
    }
}

#[cfg(test)]
mod tests;
