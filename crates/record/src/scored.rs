//! The scored event: what comes back for an event that was answered.

use std::sync::Arc;

use crate::{Coordinates, Value};

/// An answer with everything that a reader needs to trust it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredEvent {
    /// Identifies the event: its source coordinates as text.
    pub event_id: Arc<str>,
    /// Pipeline.
    pub pipeline: Arc<str>,
    /// Route that matched.
    pub route: Arc<str>,
    /// Lane.
    pub lane: Arc<str>,
    /// Task.
    pub task: Arc<str>,
    /// `full` or `distilled`.
    pub variant: Arc<str>,
    /// SHA-256 of the model's bytes, hex, shortened.
    pub model_digest: Arc<str>,
    /// The device that really ran it: `cpu`, `cuda`.
    pub device: Arc<str>,
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

/// Who answers: the same for every event of a route under one model, so a codec writes it once for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Answerer<'a> {
    /// Pipeline.
    pub pipeline: &'a str,
    /// Route that matched.
    pub route: &'a str,
    /// Lane.
    pub lane: &'a str,
    /// Task.
    pub task: &'a str,
    /// `full` or `distilled`.
    pub variant: &'a str,
    /// SHA-256 of the model's bytes, hex, shortened.
    pub model_digest: &'a str,
    /// The device that really ran it: `cpu`, `cuda`.
    pub device: &'a str,
}

/// The rest of a [`ScoredEvent`], which differs from event to event.
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a> {
    /// Identifies the event: its source coordinates as text.
    pub event_id: &'a str,
    /// How it was settled.
    pub outcome: Outcome,
    /// The task's outputs by name.
    pub outputs: &'a [(Arc<str>, Output)],
    /// Fields of the event that the task carries along.
    pub carried: &'a [(Arc<str>, Value)],
    /// Another model than the planned one answered.
    pub degraded: bool,
    /// Where the event stands.
    pub source: &'a Coordinates,
    /// The event's own timestamp, milliseconds since the Unix epoch.
    pub event_time_ms: Option<i64>,
    /// When it was scored, milliseconds since the Unix epoch.
    pub scored_time_ms: i64,
}

impl ScoredEvent {
    /// Its two parts, as codecs write them.
    pub(crate) fn parts(&self) -> (Answerer<'_>, Scores<'_>) {
        let answerer = Answerer {
            pipeline: &self.pipeline,
            route: &self.route,
            lane: &self.lane,
            task: &self.task,
            variant: &self.variant,
            model_digest: &self.model_digest,
            device: &self.device,
        };
        let scores = Scores {
            event_id: &self.event_id,
            outcome: self.outcome,
            outputs: &self.outputs,
            carried: &self.carried,
            degraded: self.degraded,
            source: &self.source,
            event_time_ms: self.event_time_ms,
            scored_time_ms: self.scored_time_ms,
        };
        (answerer, scores)
    }
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
