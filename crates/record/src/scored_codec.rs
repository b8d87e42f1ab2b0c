//! Writes scored events as Avro (`schemas/scored-event.v1.avsc`) or JSON, and reads them back.
//!
//! The Avro side is written by hand: the schema is ours and fixed, this runs once per event, and building a
//! generic value first would cost several times the encoding. A test reads every shape back through
//! apache-avro and the schema file.

use std::sync::Arc;

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value as Avro};
use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::{Map, Value as Json, json};

use crate::{Coordinates, Format, Output, Reason, Rejection, SchemaError, SchemaFolder, ScoredEvent, Value};

/// Subject of the scored event in the schema folder.
const SUBJECT: &str = "scored-event";

/// Encodes and decodes scored events of one topic.
#[derive(Clone, Debug)]
pub struct ScoredEventCodec(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Avro { id: u32, schema: Arc<Schema> },
    Json,
}

impl ScoredEventCodec {
    /// Avro needs the folder to know the subject `scored-event`.
    pub fn new(format: Format, folder: &SchemaFolder) -> Result<Self, SchemaError> {
        Ok(Self(match format {
            Format::Json => Kind::Json,
            Format::Avro => {
                let registered = folder.require(SUBJECT)?;
                Kind::Avro { id: registered.id, schema: registered.schema.clone() }
            }
        }))
    }

    /// The record's value.
    pub fn encode(&self, event: &ScoredEvent) -> Bytes {
        match &self.0 {
            Kind::Avro { id, .. } => avro(*id, event),
            Kind::Json => Bytes::from(to_json(event).to_string()),
        }
    }

    /// Reads a scored event as a generic JSON value, for people and tools.
    pub fn read(&self, payload: &[u8]) -> Result<Json, Rejection> {
        let malformed = |detail: String| Rejection::new(Reason::MalformedPayload, detail);
        match &self.0 {
            Kind::Json => serde_json::from_slice(payload).map_err(|e| malformed(e.to_string())),
            Kind::Avro { schema, .. } => {
                let mut datum =
                    payload.get(5..).ok_or_else(|| malformed("too short for the wire format".into()))?;
                let value = GenericDatumReader::builder(schema)
                    .build()
                    .and_then(|reader| reader.read_value(&mut datum))
                    .map_err(|e| malformed(e.to_string()))?;
                Ok(generic(value))
            }
        }
    }
}

fn avro(id: u32, event: &ScoredEvent) -> Bytes {
    let mut out = Writer(BytesMut::with_capacity(384));
    out.0.put_u8(0);
    out.0.put_u32(id);
    for text in [
        &event.event_id,
        &event.pipeline,
        &event.route,
        &event.lane,
        &event.task,
        &event.variant,
        &event.model_digest,
        &event.device,
    ] {
        out.text(text);
    }
    out.text(event.outcome.as_str());
    out.map(&event.outputs, Writer::output);
    out.map(&event.carried, Writer::carried);
    out.0.put_u8(event.degraded.into());
    out.text(&event.source.topic);
    out.long(event.source.partition.into());
    out.long(event.source.offset);
    match event.event_time_ms {
        None => out.long(0),
        Some(time) => {
            out.long(1);
            out.long(time);
        }
    }
    out.long(event.scored_time_ms);
    out.0.freeze()
}

/// Avro's binary encoding, as far as our schema needs it.
struct Writer(BytesMut);

impl Writer {
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
                self.text(&plain(value).to_string());
            }
        }
    }
}

fn to_json(event: &ScoredEvent) -> Json {
    let outputs: Map<String, Json> =
        event.outputs.iter().map(|(name, output)| (name.to_string(), output_json(output))).collect();
    let carried: Map<String, Json> =
        event.carried.iter().map(|(name, value)| (name.to_string(), plain(value))).collect();
    let Coordinates { topic, partition, offset } = &event.source;
    json!({
        "event_id": event.event_id, "pipeline": event.pipeline, "route": event.route, "lane": event.lane,
        "task": event.task, "variant": event.variant, "model_digest": event.model_digest,
        "device": event.device, "outcome": event.outcome.as_str(), "outputs": outputs, "carried": carried,
        "degraded": event.degraded,
        "source": { "topic": topic, "partition": partition, "offset": offset },
        "event_time": event.event_time_ms, "scored_time": event.scored_time_ms,
    })
}

fn output_json(output: &Output) -> Json {
    match output {
        Output::Class { label, scores } => {
            let scores: Map<String, Json> = scores.iter().map(|(l, s)| (l.to_string(), json!(s))).collect();
            json!({ "label": label, "scores": scores })
        }
        Output::Number(number) => json!(number),
        Output::Vector(vector) => json!(vector),
    }
}

/// A value as JSON. NaN and infinity, which JSON lacks, become null.
fn plain(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(b) => json!(b),
        Value::Int(i) => json!(i),
        Value::Float(f) => json!(f),
        Value::Text(text) => json!(text),
        Value::Bytes(bytes) => json!(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        Value::Timestamp(micros) => json!(micros.div_euclid(1000)),
        Value::List(items) => items.iter().map(plain).collect(),
        Value::Record(fields) => {
            Json::Object(fields.iter().map(|(name, value)| (name.to_string(), plain(value))).collect())
        }
    }
}

fn generic(value: Avro) -> Json {
    match value {
        Avro::Boolean(b) => json!(b),
        Avro::Int(i) => json!(i),
        Avro::Long(i) | Avro::TimestampMillis(i) => json!(i),
        Avro::Float(f) => json!(f),
        Avro::Double(f) => json!(f),
        Avro::String(s) => json!(s),
        Avro::Bytes(b) => json!(b.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        Avro::Union(_, inner) => generic(*inner),
        Avro::Array(items) => items.into_iter().map(generic).collect(),
        Avro::Map(entries) => Json::Object(entries.into_iter().map(|(k, v)| (k, generic(v))).collect()),
        Avro::Record(fields) => Json::Object(fields.into_iter().map(|(k, v)| (k, generic(v))).collect()),
        _ => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;

    fn folder() -> SchemaFolder {
        let folder = tempfile::tempdir().expect("a folder");
        let schema = include_str!("../../../schemas/scored-event.v1.avsc");
        std::fs::write(folder.path().join("s.avsc"), schema).expect("written");
        let index = r#"[{"id": 100, "subject": "scored-event", "version": 1, "file": "s.avsc"}]"#;
        std::fs::write(folder.path().join("index.json"), index).expect("written");
        SchemaFolder::open(folder.path()).expect("valid")
    }

    fn event() -> ScoredEvent {
        ScoredEvent {
            event_id: "t/1/2".into(),
            pipeline: "commerce".into(),
            route: "orders".into(),
            lane: "precision".into(),
            task: "order-risk".into(),
            variant: "full".into(),
            model_digest: "abc".into(),
            device: "cpu".into(),
            outcome: Outcome::Scored,
            outputs: vec![
                (
                    "risk".into(),
                    Output::Class {
                        label: "ok".into(),
                        scores: vec![("ok".into(), 0.75), ("bad".into(), 0.25)],
                    },
                ),
                ("n".into(), Output::Number(-1.5)),
                ("v".into(), Output::Vector(vec![0.5, -2.0])),
                ("none".into(), Output::Vector(vec![])),
            ],
            carried: vec![
                ("null".into(), Value::Null),
                ("id".into(), Value::Int(i64::MIN)),
                ("ok".into(), Value::Bool(true)),
                ("x".into(), Value::Float(2.5)),
                ("at".into(), Value::Timestamp(1_700_000_000_123_456)),
                ("name".into(), Value::Text("Grüße".into())),
                ("list".into(), Value::List(vec![Value::Int(1)])),
            ],
            degraded: false,
            source: Coordinates { topic: "t".into(), partition: 1, offset: 300 },
            event_time_ms: Some(1_700_000_000_000),
            scored_time_ms: 1_700_000_000_500,
        }
    }

    #[test]
    fn avro_written_by_hand_is_read_back_by_the_library_and_says_the_same_as_json() {
        let folder = folder();
        let avro = ScoredEventCodec::new(Format::Avro, &folder).expect("registered");
        let json = ScoredEventCodec::new(Format::Json, &folder).expect("always");
        let bytes = avro.encode(&event());
        assert_eq!(&bytes[..5], [0, 0, 0, 0, 100]);
        let mut from_avro = avro.read(&bytes).expect("valid");
        let from_json = json.read(&json.encode(&event())).expect("valid");
        assert_eq!(from_avro["carried"]["list"], "[1]", "Avro carries lists as JSON text");
        from_avro["carried"]["list"] = json!([1]);
        assert_eq!(from_avro, from_json);
        assert_eq!(from_json["carried"]["at"], 1_700_000_000_123_i64);
    }
}
