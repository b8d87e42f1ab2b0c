//! Everything that touches librdkafka: a consumer on its own thread that turns rebalances into events, a
//! transactional producer on another, and a look at topics. Decisions live elsewhere; this crate carries them
//! out and reports what the brokers said.

mod calls;
mod complaints;
mod config;
mod consumer;
mod context;
mod error;
mod fail_point;
mod headers;
mod lag;
mod membership;
mod message;
pub mod metric_names;
mod outgoing;
mod poller;
mod produce;
mod producer;
mod reader;
mod remade;
mod sender;
mod sign_in;
mod start;
mod topics;
mod transactor;
mod trust;

pub use config::{Connection, PROPERTIES, REDACTED, is_secret, shown};
pub use consumer::{Consumer, ConsumerOptions, Inbound, Pulse};
pub use error::{CertificateFault, Error};
pub use lag::{Position, Progress};
pub use membership::Membership;
pub use outgoing::Outgoing;
/// What a broker or the client answered: part of [`Error`].
pub use rdkafka::types::RDKafkaErrorCode as ErrorCode;
pub use reader::{Begin, Next, Reader, Span, SpanReader, committed};
pub use sender::{Sender, SenderOptions, Sent};
pub use start::BelowStart;
pub use topics::{TopicFacts, Topics};
pub use transactor::{Outcome, Transactor, TransactorOptions};

#[expect(clippy::disallowed_methods, reason = "a pause before asking a broker again is what is meant")]
fn pause(time: std::time::Duration) {
    std::thread::sleep(time);
}
