//! The events that are scored, and what encoding them costs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use twinlane_pipeline::{FeatureEncoder, Row};
use twinlane_record::{EventDecoder, Value};

/// One line of the file: the event's fields, and what a CPU answered.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    event: serde_json::Map<String, serde_json::Value>,
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
    let decoder = EventDecoder::json();
    let decoded = |event: &Event| -> Result<Value> {
        let decoded = decoder.decode(&serde_json::to_vec(&event.event)?);
        Ok(decoded.map_err(|why| anyhow!("{why}"))?.value)
    };
    let values = events.iter().map(decoded).collect::<Result<Vec<_>>>()?;
    let row = |value| encoder.encode(value).map_err(|why| anyhow!("{why}"));
    // Once to warm caches, once for the figure.
    values.iter().try_for_each(|value| row(value).map(drop))?;
    let began = Instant::now();
    let rows = values.iter().map(row).collect::<Result<Vec<_>>>()?;
    let each = began.elapsed().as_secs_f64() / rows.len().max(1) as f64;
    Ok((rows, Encoding { events_per_second: 1.0 / each, microseconds: each * 1e6 }))
}
