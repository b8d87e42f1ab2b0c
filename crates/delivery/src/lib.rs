//! The delivery promise, with no Kafka in it. Everything here is a value advanced by events; threads, clocks and brokers
//! are the business of `twinlane-runtime` and `twinlane-kafka`.
//!
//! - [`Delivery`] is what a stage talks to: records, verdicts, rebalances and ends of transactions go in, orders come out.
//! - [`Ledger`] knows every record that arrived and is not committed, and closes [`Window`]s over them.
//! - [`Request`] says what a transaction asks next, until its end is known.
//! - [`Budget`] bounds what is in flight, [`Cadence`] says when windows close, [`DeadLetterLimit`] when a partition is held.

mod budget;
mod cadence;
mod delivery;
mod diversion;
#[cfg(test)]
mod exploration;
mod ledger;
mod partition;
mod transaction;
mod window;

pub use budget::{Budget, Limits, Pressure};
pub use cadence::Cadence;
pub use delivery::{Delivery, Ended, Options, Order};
pub use diversion::{DeadLetterLimit, Sign};
pub use ledger::{Answer, Ledger, Refused};
pub use partition::{Epoch, Ticket, TopicPartition};
pub use transaction::{Next, Reply, Request};
pub use window::{Run, Taken, Window};
