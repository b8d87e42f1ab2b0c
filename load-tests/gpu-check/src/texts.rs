//! The events that are scored, and what encoding them costs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use twinlane_pipeline::{FeatureEncoder, Row};
use twinlane_record::Value;

/// One line of the file: the event's fields, and what a CPU answered.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) event: serde_json::Map<String, serde_json::Value>,
    /// Model's name → label → score.
    #[serde(default)]
    pub(crate) expected: BTreeMap<String, BTreeMap<String, f64>>,
}

/// How fast events became rows on one thread.
#[derive(Debug, Serialize)]
pub(crate) struct Encoding {
    events_per_second: f64,
    microseconds: f64,
}

pub(crate) fn read(file: &Path) -> Result<Vec<Event>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    text.lines().map(|line| serde_json::from_str(line).context("a line of the events")).collect()
}

pub(crate) fn encode(encoder: &FeatureEncoder, events: &[Event]) -> Result<(Vec<Row>, Encoding)> {
    let values: Vec<Value> = events.iter().map(|event| value(&event.event)).collect();
    // Once to warm caches, once for the figure.
    for value in &values {
        encoder.encode(value).map_err(|why| anyhow::anyhow!("{why}"))?;
    }
    let began = Instant::now();
    let rows = values.iter().map(|value| encoder.encode(value).map_err(|why| anyhow::anyhow!("{why}")));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let each = began.elapsed().as_secs_f64() / rows.len().max(1) as f64;
    Ok((rows, Encoding { events_per_second: 1.0 / each, microseconds: each * 1e6 }))
}

fn value(fields: &serde_json::Map<String, serde_json::Value>) -> Value {
    let of = |json: &serde_json::Value| match json {
        serde_json::Value::String(text) => Value::Text(text.as_str().into()),
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        _ => Value::Null,
    };
    Value::Record(fields.iter().map(|(name, json)| (name.as_str().into(), of(json))).collect())
}
