//! What can go wrong while a test's surroundings are set up. A test panics with these, so each says what to do, and why in
//! the same line: the cause is no `source`, which chains would print a second time.

use std::path::PathBuf;
use std::time::Duration;

/// Why a broker, a service or a topic is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program that is needed is not on the `PATH`.
    #[error("{program} is needed and was not found; install it with: {remedy}")]
    Missing {
        /// The program.
        program: &'static str,
        /// The command that installs it.
        remedy: &'static str,
    },
    /// Maven could not fetch something.
    #[error("Maven could not fetch {what}; its last lines:\n{output}")]
    Fetch {
        /// What was asked for, with its version.
        what: String,
        /// The end of what Maven printed.
        output: String,
    },
    /// A process ended although it should run.
    #[error("{name} ended with {status}; the end of {}:\n{tail}", log.display())]
    Ended {
        /// The process.
        name: String,
        /// How it ended.
        status: String,
        /// Where its output went.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {within:?}{context}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        within: Duration,
        /// What is known beyond that, such as the end of a log; empty or beginning with a line break.
        context: String,
    },
    /// A Kafka client said no.
    #[cfg(feature = "client")]
    #[error("{what}: {cause}")]
    Kafka {
        /// What was tried.
        what: String,
        /// The client's error.
        cause: rdkafka::error::KafkaError,
    },
    /// A file or a process could not be handled.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: String,
        /// The operating system's answer.
        cause: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Io { what, cause }
    }

    #[cfg(feature = "client")]
    pub(crate) fn kafka(what: impl Into<String>) -> impl FnOnce(rdkafka::error::KafkaError) -> Self {
        let what = what.into();
        move |cause| Self::Kafka { what, cause }
    }
}
