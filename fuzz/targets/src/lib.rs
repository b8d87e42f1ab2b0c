//! What is thrown at Twinlane's parsers: one function a target, from any bytes to nothing. Each panics when a promise is
//! broken; what it must not do either, hang, overflow the stack or exhaust memory, is seen by whoever runs it.
//!
//! ```text
//!  libFuzzer (fuzz/fuzz_targets) ─┐
//!                                 ├─► a target here ─► crates/record, crates/pipeline
//!  ordinary tests (tests/) ───────┘
//! ```
//!
//! The corpora in `fuzz/corpus` are read by both. A part of an input that has several is closed by [`SEPARATOR`].

mod headers;
mod payloads;
mod pipeline_file;
mod rules;
mod schemas;
mod shipped;

pub use headers::headers;
pub use payloads::{avro_payload, json_event};
pub use pipeline_file::pipeline_file;
pub use rules::cel_rule;
pub use schemas::avro_schema;

/// A line between the parts of an input; readable, so that a person can write one.
pub const SEPARATOR: &[u8] = b"\n---\n";

/// A target: any bytes in.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also its corpus's.
pub const TARGETS: [(&str, Target); 6] = [
    ("avro_payload", avro_payload),
    ("avro_schema", avro_schema),
    ("json_event", json_event),
    ("headers", headers),
    ("pipeline_file", pipeline_file),
    ("cel_rule", cel_rule),
];

/// What stands before the first separator, and what after it, if there is one.
fn split(data: &[u8]) -> (&[u8], Option<&[u8]>) {
    let at = data.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
    match at {
        Some(at) => (&data[..at], Some(&data[at + SEPARATOR.len()..])),
        None => (data, None),
    }
}
