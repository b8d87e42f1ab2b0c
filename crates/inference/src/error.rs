//! What can go wrong with models, by what a caller can do about it.

use std::path::PathBuf;

/// A worker refuses to start on one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// ONNX Runtime's shared library is missing or too old.
    #[error(
        "cannot load ONNX Runtime from {library}: {detail}; `cargo xtask setup` fetches it, ORT_DYLIB_PATH or \
         --onnxruntime names it"
    )]
    Library {
        /// What was tried.
        library: String,
        /// Why not.
        detail: String,
    },
    /// A model file cannot be read.
    #[error("model {} of task `{task}`: {source}", path.display())]
    Read {
        /// The task.
        task: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The model file is not the one that the pipeline file means.
    #[error(
        "model {} of task `{task}` has the SHA-256 {found}, and the pipeline file wants {expected}; put that model there, or \
         its digest into the file",
        path.display()
    )]
    Digest {
        /// The task.
        task: String,
        /// The file.
        path: PathBuf,
        /// What the pipeline file says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// ONNX Runtime refuses the model.
    #[error("model {} of task `{task}` does not load: {why}", path.display())]
    Load {
        /// The task.
        task: String,
        /// The file.
        path: PathBuf,
        /// What ONNX Runtime said.
        why: String,
    },
    /// None of the lane's devices works, and it lists no CPU to fall back to.
    #[error("no device of the lane runs the model of task `{task}`: {tried}")]
    NoDevice {
        /// The task.
        task: String,
        /// Each device and why not.
        tried: String,
    },
    /// The model's inputs or outputs do not fit the pipeline.
    #[error("model {} does not fit task `{task}`: {}", path.display(), problems.join("; "))]
    Contract {
        /// The task.
        task: String,
        /// The file.
        path: PathBuf,
        /// Each with its place in the pipeline file, the tensor, what the model has, and what the pipeline gives.
        problems: Vec<String>,
    },
    /// The model fails on its warm-up batch.
    #[error("the model of task `{task}` fails on a warm-up batch of {batch}: {source}")]
    WarmUp {
        /// The task.
        task: String,
        /// Rows of that batch.
        batch: usize,
        /// Why.
        source: RunError,
    },
    /// The system starts no more threads.
    #[error("cannot start a model thread")]
    Thread(#[source] std::io::Error),
}

/// A run failed, and not because of one record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The session fails on its warm-up row too.
    #[error("the session is broken: {0}")]
    SessionBroken(String),
    /// What came back is not what the model promised.
    #[error("output tensor `{tensor}` came back as {found} where {wanted} is needed")]
    UnexpectedOutput {
        /// The tensor.
        tensor: String,
        /// Its type and shape.
        found: String,
        /// What the pipeline reads from it.
        wanted: String,
    },
    /// The thread has no model for this task: a defect of the caller.
    #[error("there is no model for task {0} of the lane")]
    UnknownTask(usize),
    /// The model thread panicked.
    #[error("the model thread panicked: {0}")]
    Panicked(String),
}
