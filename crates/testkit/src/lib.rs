//! What Twinlane's tests, demo and developer tasks stand on: a real Apache Kafka, real service processes, and a
//! checker that counts what came out.
//!
//! Nothing in here shares code with the product crates. A checker that parsed headers with the product's parser would
//! agree with the product about its mistakes.
//!
//! - [`broker`] starts Kafka in KRaft mode on free ports, or uses the cluster that `KAFKA_BROKERS` names.
//! - [`certificates`] and [`acl`] are what such a broker is secured with.
//! - [`process`] starts a service, waits for what it says, and kills it as a test wants.
//! - [`registry`] starts a schema registry.
//! - [`proxy`] is a network that can be cut and slowed down.
//! - [`usage`] tells what a process uses.
//! - [`random`] gives the same numbers for a seed everywhere.
//! - [`checker`] says what was lost, repeated or reordered.
//! - `client` (with the feature of the same name) creates topics, produces, and reads topics to their end.

pub mod acl;
pub mod broker;
pub mod cache;
pub mod certificates;
pub mod checker;
#[cfg(feature = "client")]
pub mod client;
mod error;
pub mod jars;
pub mod leash;
mod maven;
mod probe;
pub mod process;
pub mod proxy;
pub mod random;
pub mod registry;
pub mod usage;
pub mod wait;

pub use broker::{Broker, BrokerOptions, Listener};
pub use error::Error;
pub use process::Service;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
