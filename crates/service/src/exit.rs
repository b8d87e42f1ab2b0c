//! Why a process ends, as its exit code and one sentence that names the remedy.

use std::process::ExitCode;

use twinlane_kafka::Error as Kafka;
use twinlane_registry::Error as Registry;

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
    /// The schema registry said something that waiting does not heal, or nobody waits for it.
    #[error(transparent)]
    Registry(#[from] Registry),
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

impl From<crate::Invalid> for Failure {
    fn from(error: crate::Invalid) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl Failure {
    /// A stop that was asked for is 0, also while brokers are away at start: nothing was read yet. Without one,
    /// a start that no broker answers ends with 7 after [`twinlane_kafka::Topics::PATIENCE`]: an address that is
    /// wrong cannot heal, and brokers that are away are tried again by whatever restarts the process. Once a
    /// stage runs, brokers that are away are waited for as long as it takes.
    ///
    /// 2 invalid input, 3 not authorised (sign-in, certificates, ACLs), 4 missing or misshapen topic, 5 fenced, 6 model, 7 cluster
    /// unreachable at start, 8 a model run that hangs, 9 a Kafka client that hangs, 1 anything else.
    pub fn code(&self) -> ExitCode {
        let kafka = match self {
            Failure::Kafka(error) | Failure::Stage(twinlane_runtime::Error::Kafka(error)) => Some(error),
            _ => None,
        };
        ExitCode::from(match (self, kafka) {
            (Failure::Registry(Registry::Settings(_)), _)
            | (_, Some(Kafka::Settings(_)))
            | (
                Failure::Invalid(_)
                | Failure::Model(twinlane_inference::Error::Digest { .. })
                | Failure::Stage(twinlane_runtime::Error::Plan(_)),
                _,
            ) => 2,
            (Failure::Registry(Registry::Unauthorised { .. }), _)
            | (_, Some(Kafka::SignIn { .. } | Kafka::Certificate { .. } | Kafka::Unauthorised { .. })) => 3,
            (_, Some(Kafka::MissingTopic(_) | Kafka::Partitions { .. } | Kafka::Refused { .. })) => 4,
            (_, Some(Kafka::Fenced(_) | Kafka::Superseded(_))) => 5,
            (Failure::Model(_) | Failure::Stage(twinlane_runtime::Error::Model { .. }), _) => 6,
            (_, Some(Kafka::Unreachable { .. })) => 7,
            (Failure::Stage(twinlane_runtime::Error::ModelHung { .. }), _) => 8,
            (_, Some(Kafka::Hung(_))) => 9,
            _ => 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use twinlane_runtime::Error as Stage;

    use super::*;

    #[test]
    fn what_cannot_heal_ends_with_a_code_of_its_own_whether_at_start_or_in_a_stage() {
        let unauthorised = || Kafka::Unauthorised {
            what: "write".into(),
            code: twinlane_kafka::ErrorCode::TopicAuthorizationFailed,
        };
        let expired = || Kafka::Certificate {
            brokers: "kafka:9092".into(),
            fault: twinlane_kafka::CertificateFault::Expired,
        };
        let failures = [
            (Failure::Invalid("a setting".into()), 2),
            (Failure::Kafka(unauthorised()), 3),
            (Failure::Stage(Stage::Kafka(unauthorised())), 3),
            (Failure::Kafka(Kafka::SignIn { brokers: "kafka:9092".into(), why: "wrong password".into() }), 3),
            (Failure::Stage(Stage::Kafka(expired())), 3),
            (Failure::Stage(Stage::Kafka(Kafka::MissingTopic("events".into()))), 4),
            (Failure::Stage(Stage::Kafka(Kafka::Fenced("id".into()))), 5),
            (Failure::Stage(Stage::Kafka(Kafka::Hung("router".into()))), 9),
            (Failure::Stage(Stage::Plan("no such field".into())), 2),
            (Failure::Stage(Stage::ThreadDied("model")), 1),
            (Failure::SlowStop, 1),
        ];
        for (failure, code) in failures {
            // An exit code shows itself in no other way.
            assert_eq!(format!("{:?}", failure.code()), format!("{:?}", ExitCode::from(code)), "{failure}");
        }
    }
}
