//! What travels through Twinlane: an event's coordinates, its envelope, its decoded value, the verdict that
//! settles it, and the two records that leave (scored event, dead letter). Pure: no Kafka, no clock, no I/O
//! beyond reading the schema folder once.

mod coordinates;
mod envelope;
mod value;
mod verdict;

pub use coordinates::Coordinates;
pub use envelope::{Envelope, Header, Headers};
pub use value::{Event, Value};
pub use verdict::{Reason, Rejection, Verdict};
