//! What was found, as JSON and as lines.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use twinlane_pipeline::Row;

use crate::bench::{Cell, Line};
use crate::change::Change;
use crate::device::Description;
use crate::parity::Parity;
use crate::quantile::quantile;
use crate::texts::Encoding;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    device: Description,
    onnxruntime: String,
    events: usize,
    /// Steps of an event's longest tensor: mean, median, 90th, 99th percentile, most.
    steps: [f64; 5],
    encoding_on_one_thread: Encoding,
    pub(crate) variants: BTreeMap<String, Variant>,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Variant {
    pub(crate) parity: Option<Parity>,
    pub(crate) change: Option<Change>,
    pub(crate) grid: Vec<Cell>,
    pub(crate) batches: Vec<Line>,
    pub(crate) error: Option<String>,
}

impl Report {
    pub(crate) fn new(device: Description, onnxruntime: &Path, rows: &[Row], encoding: Encoding) -> Self {
        let steps = |row: &Row| row.tensors.iter().map(|tensor| tensor.steps).max().unwrap_or(0) as f64;
        let steps: Vec<f64> = rows.iter().map(steps).collect();
        let mean = steps.iter().sum::<f64>() / steps.len().max(1) as f64;
        Self {
            device,
            onnxruntime: onnxruntime.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            events: rows.len(),
            steps: [
                mean,
                quantile(&steps, 0.5),
                quantile(&steps, 0.9),
                quantile(&steps, 0.99),
                quantile(&steps, 1.0),
            ],
            encoding_on_one_thread: encoding,
            variants: BTreeMap::new(),
        }
    }

    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(file, text + "\n").with_context(|| format!("writing {}", file.display()))
    }

    pub(crate) fn print(&self) {
        println!(
            "{:?}; {} events, steps {:?}; encoding {:?}",
            self.device, self.events, self.steps, self.encoding_on_one_thread
        );
        for (name, variant) in &self.variants {
            println!("{name}: parity {:?}, error {:?}", variant.parity, variant.error);
            println!("  {:?}", variant.change);
            for line in &variant.batches {
                println!("  batches of {:>3}: {}", line.batch, line.summary());
            }
        }
    }
}
