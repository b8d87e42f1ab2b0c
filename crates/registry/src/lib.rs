//! A schema registry that speaks Confluent's HTTP API: which schema an id stands for, and which id a subject's schema
//! has. Every call blocks, for no longer than [`Client::LIMIT`]; whoever must not wait calls from a thread of their own.
//! Texts go in and out: what a schema means is for the reader of records to say.

mod carrier;
mod client;
mod error;
mod tls;
mod transport;

pub use carrier::Carrier;
pub use client::{Client, Schema, Version, value_subject};
pub use error::Error;
pub use transport::Options;

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;
