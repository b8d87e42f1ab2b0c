//! What ends a stage.

/// A stage ends with one of these, or cleanly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Kafka said something that waiting does not heal.
    #[error(transparent)]
    Kafka(#[from] twinlane_kafka::Error),
    /// The model failed on its own warm-up input: no record is to blame.
    #[error("the model of task `{task}` is broken: {detail}")]
    Model {
        /// Task.
        task: String,
        /// What ONNX Runtime said.
        detail: String,
    },
    /// A model run did not come back in time. It cannot be stopped from outside, so the process must end.
    #[error(
        "the model of task `{task}` has been running for more than {deadline:?} and cannot be stopped; its records will be \
         read again. If it is only slow, raise the lane's `run_deadline`"
    )]
    ModelHung {
        /// Task.
        task: String,
        /// The lane's deadline for one run.
        deadline: std::time::Duration,
    },
    /// A thread of ours ended without being asked to.
    #[error("the {0} thread ended unexpectedly; its last words are in the log")]
    ThreadDied(&'static str),
    /// The pipeline and the parts it was given do not fit.
    #[error("{0}")]
    Plan(String),
}
