//! How a record is settled. Every record gets exactly one verdict; a bad record is a verdict, a broken world
//! is an error. Reasons are fixed strings because they double as metric labels and dead-letter filters.

use std::fmt;

/// Why an event could not be answered. The text of each is part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// The bytes are not valid Avro or JSON under their schema.
    MalformedPayload,
    /// The payload has no bytes at all.
    EmptyPayload,
    /// A null value where the source wants its tombstones as dead letters.
    Tombstone,
    /// The schema id in the payload is not in the registry.
    UnknownSchema,
    /// The writer's schema cannot be read under the reader's.
    IncompatibleSchema,
    /// A field that a tensor needs is absent or null and has no default.
    MissingField,
    /// A field holds another type than the tensor needs.
    WrongType,
    /// A number is NaN or infinite, or does not fit the tensor's type.
    NotFinite,
    /// A category is not in its vocabulary, which names no index for unknown ones.
    UnknownCategory,
    /// A timestamp's text cannot be read.
    InvalidTimestamp,
    /// A routing rule failed on this event.
    RuleFailed,
    /// No route matched.
    NoRoute,
    /// A lane topic's record names no route or task of this pipeline.
    UnknownTask,
    /// The model refused or failed on this record.
    ModelFailed,
    /// The model answered NaN or infinity for this record.
    OutputNotFinite,
    /// The answer would be larger than its topic accepts.
    OutputTooLarge,
}

impl Reason {
    /// Every reason, for metrics that start at zero and for `--help`.
    pub const ALL: [Reason; 16] = [
        Reason::MalformedPayload,
        Reason::EmptyPayload,
        Reason::Tombstone,
        Reason::UnknownSchema,
        Reason::IncompatibleSchema,
        Reason::MissingField,
        Reason::WrongType,
        Reason::NotFinite,
        Reason::UnknownCategory,
        Reason::InvalidTimestamp,
        Reason::RuleFailed,
        Reason::NoRoute,
        Reason::UnknownTask,
        Reason::ModelFailed,
        Reason::OutputNotFinite,
        Reason::OutputTooLarge,
    ];

    /// The fixed string.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::MalformedPayload => "malformed_payload",
            Reason::EmptyPayload => "empty_payload",
            Reason::Tombstone => "tombstone",
            Reason::UnknownSchema => "unknown_schema",
            Reason::IncompatibleSchema => "incompatible_schema",
            Reason::MissingField => "missing_field",
            Reason::WrongType => "wrong_type",
            Reason::NotFinite => "not_finite",
            Reason::UnknownCategory => "unknown_category",
            Reason::InvalidTimestamp => "invalid_timestamp",
            Reason::RuleFailed => "rule_failed",
            Reason::NoRoute => "no_route",
            Reason::UnknownTask => "unknown_task",
            Reason::ModelFailed => "model_failed",
            Reason::OutputNotFinite => "output_not_finite",
            Reason::OutputTooLarge => "output_too_large",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why one record is refused: the fixed reason, and a detail for the human who reads the dead letter. The
/// detail names fields and types, never a payload's content beyond a short excerpt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Rejection {
    /// Fixed reason.
    pub reason: Reason,
    /// What was found and what would be right.
    pub detail: String,
}

impl Rejection {
    /// A rejection with its detail.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// The one answer that a record gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Passed on to a lane (the router's answer).
    Routed,
    /// Answered by a model.
    Scored,
    /// Its deadline had passed.
    Expired,
    /// Counted, not answered, as a route or source says.
    Skipped,
    /// Another lane's stage answers it (each stage that reads a mixed source sees every event).
    Elsewhere,
    /// Could not be answered.
    DeadLettered(Reason),
}
