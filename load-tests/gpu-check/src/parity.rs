//! Scores on the device against scores that a CPU gave for the same events, in f32.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use twinlane_inference::Model;
use twinlane_pipeline::Row;
use twinlane_record::Output;

use crate::Subject;
use crate::texts::Event;

/// How far scores are apart.
#[derive(Debug, Serialize)]
pub(crate) struct Parity {
    compared: usize,
    largest_difference: f64,
    mean_difference: f64,
    tolerance: f64,
    /// Events whose best label is another one.
    other_labels: usize,
    pub(crate) agrees: bool,
}

/// Compares the events for which there is something to compare with; none: nothing was compared.
pub(crate) fn check(
    subject: &Subject<'_>,
    name: &str,
    file: &Path,
    events: &[Event],
    rows: &[Row],
    tolerance: f64,
) -> Result<Option<Parity>> {
    let mut model = Model::load(&subject.runtime, subject.source(file, 32))?;
    model.warm_up()?;
    let (mut compared, mut largest, mut sum, mut other_labels) = (0, 0.0_f64, 0.0, 0);
    // Batches of every size up to 32, so that each captured run is compared too.
    let mut at = 0;
    // Those that have something to compare with stand first.
    let compared_rows = events.iter().take_while(|event| event.expected.contains_key(name)).count();
    for size in (1..=32).cycle() {
        let part = at..compared_rows.min(at + size);
        if part.is_empty() {
            break;
        }
        let answers = model.run(&rows[part.clone()])?;
        for (event, answer) in events[part.clone()].iter().zip(answers) {
            let Some(expected) = event.expected.get(name) else { continue };
            let outputs = answer.map_err(|why| anyhow::anyhow!("{why}"))?;
            let scored = outputs.iter().find_map(|(_, output)| match output {
                Output::Class { label, scores } => Some((label, scores)),
                _ => None,
            });
            let (label, scores) = scored.context("the task answers no class")?;
            let best = expected.iter().max_by(|a, b| a.1.total_cmp(b.1)).context("an empty `expected`")?;
            other_labels += usize::from(**label != **best.0);
            for (label, score) in scores {
                let due = expected.get(&**label).context("`expected` lacks a label")?;
                let apart = (f64::from(*score) - due).abs();
                largest = largest.max(apart);
                sum += apart;
            }
            compared += scores.len();
        }
        at = part.end;
    }
    Ok((compared > 0).then(|| Parity {
        compared,
        largest_difference: largest,
        mean_difference: sum / compared as f64,
        tolerance,
        other_labels,
        agrees: largest <= tolerance,
    }))
}
