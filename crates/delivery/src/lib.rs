//! The accounting behind exactly once, with no Kafka in it: which records arrived, how each was settled, what
//! one transaction may commit, and how much may be in flight. Everything here is a value advanced by events;
//! threads, clocks and brokers are the business of `twinlane-runtime` and `twinlane-kafka`.

mod budget;
mod cadence;
mod delivery;
mod diversion;
#[cfg(test)]
mod exploration;
mod ledger;
mod partition;
mod window;

pub use budget::{Budget, Limits, Pressure};
pub use cadence::Cadence;
pub use delivery::{Delivery, Ended, Options, Order};
pub use diversion::DeadLetterLimit;
pub use ledger::{Answer, Ledger, Refused};
pub use partition::{Epoch, Ticket, TopicPartition};
pub use window::{Run, Window};
