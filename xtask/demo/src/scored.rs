//! Reads scored events from their bytes with nothing but the schema file and an Avro library, as a user's own consumer
//! would.

use std::path::Path;

use anyhow::{Context, Result, bail};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;

/// The words of the reference pipeline for "yes".
const POSITIVE: [&str; 4] = ["fraudulent", "returns", "buys again", "yes"];

/// Reads the values of output topics.
pub(crate) struct Reader {
    schema: Schema,
}

/// What the demo shows of a scored event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scored {
    pub(crate) task: String,
    pub(crate) variant: String,
    pub(crate) device: String,
    pub(crate) outputs: Vec<(String, Output)>,
    pub(crate) carried: Vec<(String, String)>,
}

/// One output of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Output {
    Class { label: String, score: f64 },
    Number(f64),
    Vector(usize),
}

impl Reader {
    /// Reads the schema of scored events in a schema folder.
    pub(crate) fn open(schemas: &Path) -> Result<Self> {
        let file = schemas.join("scored-event.v1.avsc");
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(Self { schema: Schema::parse_str(&text).with_context(|| format!("parsing {}", file.display()))? })
    }

    /// Reads one value: Avro in the Confluent wire format, or JSON.
    pub(crate) fn read(&self, bytes: &[u8]) -> Result<Scored> {
        match bytes.first() {
            Some(0) if bytes.len() > 5 => {
                let mut datum = &bytes[5..];
                let value = GenericDatumReader::builder(&self.schema).build()?.read_value(&mut datum)?;
                from_json(&serde_json::Value::try_from(value)?)
            }
            Some(b'{') => from_json(&serde_json::from_slice(bytes)?),
            _ => bail!("a scored event that is neither Avro nor JSON"),
        }
    }
}

fn from_json(event: &serde_json::Value) -> Result<Scored> {
    let text = |name: &str| event[name].as_str().unwrap_or("?").to_owned();
    let outputs = event["outputs"].as_object().context("a scored event without outputs")?;
    let outputs =
        outputs.iter().map(|(name, value)| Ok((name.clone(), output(value)?))).collect::<Result<_>>()?;
    let carried = event["carried"].as_object().into_iter().flatten();
    let carried = carried.map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (name.clone(), value)
    });
    Ok(Scored {
        task: text("task"),
        variant: text("variant"),
        device: text("device"),
        outputs,
        carried: carried.collect(),
    })
}

fn output(value: &serde_json::Value) -> Result<Output> {
    if let Some(number) = value.as_f64() {
        return Ok(Output::Number(number));
    }
    if let Some(vector) = value.as_array() {
        return Ok(Output::Vector(vector.len()));
    }
    let label = value["label"].as_str().with_context(|| format!("an output that is no class: {value}"))?;
    Ok(Output::Class { label: label.to_owned(), score: value["scores"][label].as_f64().unwrap_or(f64::NAN) })
}

impl Scored {
    /// Whether the answer is "yes": fraudulent, or will buy again.
    pub(crate) fn says_yes(&self) -> Option<bool> {
        let said = |class: bool| {
            self.outputs.iter().find_map(|(_, output)| match output {
                Output::Class { label, .. } if class => Some(POSITIVE.contains(&label.as_str())),
                Output::Number(number) if !class => Some(*number >= 0.5),
                _ => None,
            })
        };
        // A class was decided by the model; a bare number leaves that to us.
        said(true).or_else(|| said(false))
    }

    /// Whether one of the carried fields is this id.
    pub(crate) fn carries(&self, id: &str) -> bool {
        self.carried.iter().any(|(_, value)| value == id)
    }

    /// The answer in a line that a person reads.
    pub(crate) fn sentence(&self) -> String {
        let carried: Vec<_> = self.carried.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let outputs: Vec<_> = self
            .outputs
            .iter()
            .map(|(name, output)| match output {
                Output::Class { label, score } => format!("{name}: {label} ({:.0} %)", score * 100.0),
                Output::Number(number) => format!("{name}: {number:.3}"),
                Output::Vector(length) => format!("{name}: {length} numbers"),
            })
            .collect();
        format!("{} → {}   [{} on {}]", carried.join(", "), outputs.join(", "), self.variant, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apache_avro::types::Value;

    fn reader() -> Reader {
        Reader::open(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas"))).unwrap()
    }

    fn event() -> serde_json::Value {
        serde_json::json!({
            "event_id": "shop.events/0/7", "pipeline": "commerce", "route": "order", "lane": "precision",
            "task": "order-risk", "variant": "full", "model_digest": "ab12", "device": "cpu", "outcome": "scored",
            "outputs": {"risk": {"label": "fraudulent", "scores": {"legitimate": 0.25, "fraudulent": 0.75}}},
            "carried": {"order_id": "A-1"}, "degraded": false,
            "source": {"topic": "shop.events", "partition": 0, "offset": 7}, "event_time": null, "scored_time": 5
        })
    }

    #[test]
    fn a_scored_event_in_json_is_read() {
        let scored = reader().read(event().to_string().as_bytes()).unwrap();
        assert_eq!(scored.says_yes(), Some(true));
        assert_eq!((scored.carries("A-1"), scored.carries("A-2")), (true, false));
        assert_eq!(scored.sentence(), "order_id A-1 → risk: fraudulent (75 %)   [full on cpu]");
    }

    #[test]
    fn a_scored_event_in_avro_is_read_with_the_schema_of_the_repository() {
        let reader = reader();
        let text = |text: &str| Value::String(text.into());
        let scores = [("legitimate".into(), Value::Float(0.75)), ("fraudulent".into(), Value::Float(0.25))];
        let class = Value::Record(vec![
            ("label".into(), text("legitimate")),
            ("scores".into(), Value::Map(scores.into_iter().collect())),
        ]);
        let names =
            ["event_id", "pipeline", "route", "lane", "task", "variant", "model_digest", "device", "outcome"];
        let mut fields: Vec<_> = names.map(|name| (name.to_owned(), text(name))).into();
        let outputs = [("risk".to_owned(), Value::Union(0, Box::new(class)))];
        let carried = [("order_id".to_owned(), Value::Union(4, Box::new(text("A-1"))))];
        let source = vec![
            ("topic".into(), text("in")),
            ("partition".into(), Value::Int(0)),
            ("offset".into(), Value::Long(7)),
        ];
        fields.extend([
            ("outputs".to_owned(), Value::Map(outputs.into_iter().collect())),
            ("carried".to_owned(), Value::Map(carried.into_iter().collect())),
            ("degraded".to_owned(), Value::Boolean(false)),
            ("source".to_owned(), Value::Record(source)),
            ("event_time".to_owned(), Value::Union(0, Box::new(Value::Null))),
            ("scored_time".to_owned(), Value::TimestampMillis(5)),
        ]);
        let mut bytes = vec![0, 0, 0, 0, 100];
        let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&reader.schema).build().unwrap();
        bytes.extend(writer.write_value_to_vec(Value::Record(fields)).unwrap());

        let scored = reader.read(&bytes).unwrap();

        assert_eq!(scored.says_yes(), Some(false));
        assert_eq!(scored.sentence(), "order_id A-1 → risk: legitimate (75 %)   [variant on device]");
    }
}
