//! The scored event as JSON, and from the generic value that both formats are read into. Written straight from
//! the answer, in the schema's order; NaN and infinity, which JSON lacks, become null.

use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap as _, SerializeStruct as _, Serializer};

use crate::{Answerer, Coordinates, Outcome, Output, ScoredEvent, Scores, Value};

/// Appends one JSON object. `by` is what [`write_answerer`] has written.
pub(crate) fn write(by: &[u8], scores: &Scores<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"event_id\":");
    append(scores.event_id, out);
    out.extend_from_slice(by);
    append_field("outcome", scores.outcome.as_str(), out);
    append_field("outputs", &Json(scores.outputs), out);
    append_field("carried", &Json(scores.carried), out);
    append_field("degraded", &scores.degraded, out);
    append_field("source", &Json(scores.source), out);
    append_field("event_time", &scores.event_time_ms, out);
    append_field("scored_time", &scores.scored_time_ms, out);
    out.push(b'}');
}

/// Appends the fields between the event's name and the outcome.
pub(crate) fn write_answerer(by: &Answerer<'_>, out: &mut Vec<u8>) {
    for (name, text) in [
        ("pipeline", by.pipeline),
        ("route", by.route),
        ("lane", by.lane),
        ("task", by.task),
        ("variant", by.variant),
        ("model_digest", by.model_digest),
        ("device", by.device),
    ] {
        append_field(name, text, out);
    }
}

/// A field that is not its object's first. Its name is ours and needs no escapes.
fn append_field(name: &str, of: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    append(of, out);
}

fn append(of: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    serde_json::to_writer(out, of).expect("every key is a string and nothing else can fail");
}

/// A carried value as JSON text.
pub(crate) fn text(value: &Value) -> String {
    serde_json::to_string(&Json(value)).expect("every key is a string and nothing else can fail")
}

/// Writes what it holds as JSON.
struct Json<'e, T: ?Sized>(&'e T);

impl<T> Serialize for Json<'_, [(Arc<str>, T)]>
where
    for<'e> Json<'e, T>: Serialize,
{
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut entries = to.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            entries.serialize_entry(&**name, &Json(value))?;
        }
        entries.end()
    }
}

impl Serialize for Json<'_, f32> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f32(*self.0)
    }
}

impl Serialize for Json<'_, Coordinates> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut fields = to.serialize_struct("Coordinates", 3)?;
        fields.serialize_field("topic", &*self.0.topic)?;
        fields.serialize_field("partition", &self.0.partition)?;
        fields.serialize_field("offset", &self.0.offset)?;
        fields.end()
    }
}

impl Serialize for Json<'_, Output> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Output::Class { label, scores } => {
                let mut fields = to.serialize_struct("Class", 2)?;
                fields.serialize_field("label", &**label)?;
                fields.serialize_field("scores", &Json(&scores[..]))?;
                fields.end()
            }
            Output::Number(number) => to.serialize_f64(*number),
            Output::Vector(vector) => vector.serialize(to),
        }
    }
}

impl Serialize for Json<'_, Value> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => to.serialize_unit(),
            Value::Bool(b) => to.serialize_bool(*b),
            Value::Int(i) => to.serialize_i64(*i),
            Value::Float(f) => to.serialize_f64(*f),
            Value::Text(text) => to.serialize_str(text),
            Value::Bytes(bytes) => {
                to.serialize_str(&bytes.iter().map(|b| format!("{b:02x}")).collect::<String>())
            }
            Value::Timestamp(micros) => to.serialize_i64(micros.div_euclid(1000)),
            Value::List(items) => to.collect_seq(items.iter().map(Json)),
            Value::Record(fields) => Json(&fields[..]).serialize(to),
        }
    }
}

/// A scored event from its decoded value, or which field is not as it should be.
pub(crate) fn from_value(value: &Value) -> Result<ScoredEvent, String> {
    let source = field(value, "source")?;
    let outcome = text_of(value, "outcome")?;
    Ok(ScoredEvent {
        event_id: text_of(value, "event_id")?,
        pipeline: text_of(value, "pipeline")?,
        route: text_of(value, "route")?,
        lane: text_of(value, "lane")?,
        task: text_of(value, "task")?,
        variant: text_of(value, "variant")?,
        model_digest: text_of(value, "model_digest")?,
        device: text_of(value, "device")?,
        outcome: [Outcome::Scored, Outcome::Expired]
            .into_iter()
            .find(|known| known.as_str() == &*outcome)
            .ok_or_else(|| format!("`outcome` is `{outcome}`"))?,
        outputs: entries(value, "outputs")?
            .iter()
            .map(|(name, v)| {
                Ok((name.clone(), output(v).ok_or_else(|| format!("output `{name}` is {}", v.kind()))?))
            })
            .collect::<Result<_, String>>()?,
        carried: entries(value, "carried")?.to_vec(),
        degraded: match field(value, "degraded")? {
            Value::Bool(b) => *b,
            other => return Err(format!("`degraded` is {}", other.kind())),
        },
        source: Coordinates {
            topic: text_of(source, "topic")?,
            partition: i32::try_from(int_of(source, "partition")?).map_err(|_| "`partition` is too large")?,
            offset: int_of(source, "offset")?,
        },
        event_time_ms: match field(value, "event_time")? {
            Value::Null => None,
            _ => Some(int_of(value, "event_time")?),
        },
        scored_time_ms: int_of(value, "scored_time")?,
    })
}

fn output(value: &Value) -> Option<Output> {
    let float = |value: &Value| match value {
        Value::Int(i) => Some(*i as f64),
        Value::Float(f) => Some(*f),
        // How JSON writes what is no number.
        Value::Null => Some(f64::NAN),
        _ => None,
    };
    Some(match value {
        Value::Record(_) => {
            let (Value::Text(label), Value::Record(scores)) = (value.get("label")?, value.get("scores")?)
            else {
                return None;
            };
            let scores = scores.iter().map(|(name, score)| Some((name.clone(), float(score)? as f32)));
            Output::Class { label: label.clone(), scores: scores.collect::<Option<_>>()? }
        }
        Value::List(items) => {
            Output::Vector(items.iter().map(|x| Some(float(x)? as f32)).collect::<Option<_>>()?)
        }
        number => Output::Number(float(number)?),
    })
}

fn field<'v>(value: &'v Value, name: &str) -> Result<&'v Value, String> {
    value.get(name).ok_or_else(|| format!("`{name}` is missing"))
}

fn text_of(value: &Value, name: &str) -> Result<Arc<str>, String> {
    match field(value, name)? {
        Value::Text(text) => Ok(text.clone()),
        other => Err(format!("`{name}` is {}", other.kind())),
    }
}

fn int_of(value: &Value, name: &str) -> Result<i64, String> {
    match field(value, name)? {
        Value::Int(number) => Ok(*number),
        Value::Timestamp(micros) => Ok(micros.div_euclid(1000)),
        other => Err(format!("`{name}` is {}", other.kind())),
    }
}

fn entries<'v>(value: &'v Value, name: &str) -> Result<&'v [(Arc<str>, Value)], String> {
    match field(value, name)? {
        Value::Record(entries) => Ok(entries),
        other => Err(format!("`{name}` is {}", other.kind())),
    }
}
