//! The scored event: what comes back for an event that was answered.

use std::sync::Arc;

use crate::{Coordinates, Value};

/// An answer with everything that a reader needs to trust it. What is written borrows its texts, what was read owns them.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredEvent<T = Arc<str>> {
    /// Identifies the event: its source coordinates as text.
    pub event_id: T,
    /// Pipeline.
    pub pipeline: T,
    /// Route that matched.
    pub route: T,
    /// Lane.
    pub lane: T,
    /// Task.
    pub task: T,
    /// `full` or `distilled`.
    pub variant: T,
    /// SHA-256 of the model's bytes, hex, shortened.
    pub model_digest: T,
    /// The device that really ran it: `cpu`, `cuda`.
    pub device: T,
    /// How it was settled.
    pub outcome: Outcome,
    /// The task's outputs by name.
    pub outputs: Vec<(Arc<str>, Output)>,
    /// Fields of the event that the task carries along.
    pub carried: Vec<(Arc<str>, Value)>,
    /// Another model than the planned one answered.
    pub degraded: bool,
    /// Where the event stands.
    pub source: Coordinates,
    /// The event's own timestamp, milliseconds since the Unix epoch.
    pub event_time_ms: Option<i64>,
    /// When it was scored, milliseconds since the Unix epoch.
    pub scored_time_ms: i64,
}

/// How a scored event was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A model answered.
    Scored,
    /// Its deadline had passed; there are no outputs.
    Expired,
}

impl Outcome {
    /// The fixed string.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Scored => "scored",
            Outcome::Expired => "expired",
        }
    }
}

/// One named output of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A class: the winning label and each label's score.
    Class {
        /// Label with the highest score.
        label: Arc<str>,
        /// Score of every label, in the pipeline file's order.
        scores: Vec<(Arc<str>, f32)>,
    },
    /// A number.
    Number(f64),
    /// A vector, such as an embedding.
    Vector(Vec<f32>),
}
