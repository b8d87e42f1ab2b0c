//! Why a process ends, as its exit code and one sentence that names the remedy.

use std::process::ExitCode;

use twinlane_kafka::Error as Kafka;

/// What ended a process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Settings, pipeline file, schemas or vocabulary are wrong.
    #[error("{0}")]
    Invalid(String),
    /// The model is missing or does not fit.
    #[error(transparent)]
    Model(#[from] twinlane_inference::Error),
    /// Kafka said something that waiting does not heal.
    #[error(transparent)]
    Kafka(#[from] Kafka),
    /// A stage ended.
    #[error(transparent)]
    Stage(#[from] twinlane_runtime::Error),
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
    /// A clean stop took too long.
    #[error("the stop took too long; what was settled and not committed will be answered by the next owner")]
    SlowStop,
}

impl Failure {
    /// 2 invalid input, 3 not authorised, 4 missing or misshapen topic, 5 fenced, 6 model, 7 cluster
    /// unreachable at start, 1 anything else.
    pub fn code(&self) -> ExitCode {
        let kafka = match self {
            Failure::Kafka(error) | Failure::Stage(twinlane_runtime::Error::Kafka(error)) => Some(error),
            _ => None,
        };
        ExitCode::from(match (self, kafka) {
            (_, Some(Kafka::Settings(_))) | (Failure::Invalid(_), _) => 2,
            (_, Some(Kafka::Unauthorised { .. })) => 3,
            (_, Some(Kafka::MissingTopic(_) | Kafka::Partitions { .. } | Kafka::Refused { .. })) => 4,
            (_, Some(Kafka::Fenced(_) | Kafka::Superseded(_))) => 5,
            (Failure::Model(_) | Failure::Stage(twinlane_runtime::Error::Model { .. }), _) => 6,
            (_, Some(Kafka::Unreachable { .. })) => 7,
            _ => 1,
        })
    }
}
