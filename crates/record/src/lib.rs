//! What travels through Twinlane: an event's coordinates, its envelope, its decoded value, the verdict that
//! settles it, and the two records that leave (scored event, dead letter). Pure: no Kafka, no clock, no I/O
//! beyond reading the schema folder once.

mod avro;
mod blocks;
mod coordinates;
mod dead_letter;
mod decoder;
mod envelope;
mod foreign;
mod format;
pub mod headers;
mod json;
mod schema_text;
mod schemas;
mod scored;
mod scored_codec;
mod scored_json;
mod unique;
mod value;
mod verdict;

pub use blocks::Blocks;
pub use coordinates::Coordinates;
pub use dead_letter::DeadLetter;
pub use decoder::EventDecoder;
pub use envelope::{Envelope, Header, HeaderName, Headers};
pub use foreign::ForeignSchema;
pub use format::Format;
pub use schemas::{RegisteredSchema, SchemaEntry, SchemaError, SchemaFolder};
pub use scored::{Answerer, Outcome, Output, ScoredEvent, Scores};
pub use scored_codec::{Prepared, ScoredEventCodec};
pub use value::{Event, Value};
pub use verdict::{Reason, Rejection, Verdict};
