//! Models: ONNX Runtime loaded at run time, a model held to the pipeline's contract, batches formed from the
//! backlog, and threads that each own their sessions. The only crate that knows `ort`.
//!
//! ```text
//!  push ─► Batcher (pure) ─ next_for, while threads are idle ─► Sessions ─► model thread: pack, run, answers ─► Ran
//! ```

mod answers;
mod bare;
mod batcher;
mod capture;
mod contract;
mod convert;
mod cuda;
mod device;
mod divide;
mod error;
mod load;
pub mod metric_names;
mod model;
mod onnx_runtime;
mod pack;
mod parity;
mod placement;
mod sessions;
mod signature;
mod spot_check;
mod threads;
mod warm_up;

pub use bare::Bare;
pub use batcher::{Batch, Batcher};
pub use error::{Error, RunError};
pub use load::{ModelSource, check_contract};
pub use model::{Answer, Model};
pub use onnx_runtime::{OnnxRuntime, without_telemetry};
pub use sessions::{Ran, Results, Running, Runs, Sessions};
pub use threads::default_threads;
