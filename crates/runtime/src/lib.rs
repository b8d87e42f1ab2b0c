//! Joins the parts into a running stage: records come in, get one verdict each, and leave in transactions.
//!
//! ```text
//!  consumer thread ─► stage thread: ledger ─► Work (route, or encode and batch) ─► model threads
//!                          ▲   │                                                       │
//!                          │   └─ window ─► transaction thread                         │
//!                          └────────────── outcome ◄──────────── results ◄─────────────┘
//! ```
//!
//! [`Stage`] is the same for every service; what differs is its [`Work`]: the [`Router`] settles each record
//! at once, the [`Scorer`] when its batch is back from the model.

mod answer;
mod error;
mod expiry;
mod lookups;
pub mod metric_names;
mod pace;
mod router;
mod scored;
mod scorer;
mod sources;
mod spans;
mod stage;
mod tally;
mod ways;
mod work;

pub use answer::{Answers, Read};
pub use error::Error;
pub use lookups::{Ask, Finding, SchemaLookup, Unread};
pub use router::Router;
pub use scorer::{ModelIdentity, Models, Pending, Scorer, TaskParts};
pub use sources::Sources;
pub use spans::{ModelRun, Sampling};
pub use stage::{Stage, StageOptions, StageState, StopHandle};
pub use work::{Settled, Verdicts, Work};
